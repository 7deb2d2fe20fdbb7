"""The command `q2d2 align`."""

from pathlib import Path


def align(recording: Path, text: str, *, codec: str = "bundled", language_model: str = "bundled") -> None:
    """Print when each word of a recording is spoken: start and end in seconds, and the word, a line each.

        q2d2 align recording.wav "What is said in it." > words.txt

    Times are those of tokens, 13 ms apart; the lines are a label track, as Audacity reads it.

    Args:
        recording: Audio or token file.
        text: What is said in it, in English.
        codec: Folder of a codec, its name on the Hub, or bundled.
        language_model: Folder of a language model with an alignment, or bundled.
    """
    from ..speech import TextToSpeech

    for word in TextToSpeech.from_pretrained(codec, language_model).word_times(recording, text):
        print(word)
