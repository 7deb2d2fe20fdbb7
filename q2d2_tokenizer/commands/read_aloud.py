"""The command `q2d2 speak`."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lm.settings import SpeechOptions


def read_aloud(
    text: str | None = None,
    *,
    file: Path | None = None,
    output: Path = Path("speech.wav"),
    prompt: Path | None = None,
    prompt_text: str = "",
    part_characters: int = 150,
    times: Path | None = None,
    codec: str = "bundled",
    language_model: str = "bundled",
    options: SpeechOptions = SpeechOptions(),  # noqa: B008 - frozen
) -> None:
    """Read a text aloud with a language model; the audio file is written while it is generated.

        q2d2 speak "The print could have been placed on the carton." --output speech.wav
        q2d2 speak --file chapter.txt --prompt voice.wav --prompt_text "What is said in voice.wav."

    A long text is spoken in parts of a few sentences, each with the same seed and the same prompt.

    Args:
        text: English text.
        file: Text file to read instead.
        output: Audio file to write.
        prompt: Audio or token file of the voice to speak with.
        prompt_text: What the prompt says.
        part_characters: Longest text spoken at a time, in characters.
        times: Text file to write when each word is spoken to: start, end and word a line, as a label track.
        codec: Folder of a codec, its name on the Hub, or bundled.
        language_model: Folder of a language model, or bundled.
    """
    from lm.timing import require_alignment

    from ..corpus.inputs import read_text
    from ..speech import TextToSpeech, write_audio
    from .convert import refuse_overwriting

    if (text is None) == (file is None):
        raise ValueError("give either a text or --file")
    if times and times.resolve() == output.resolve():
        raise ValueError(f"--times and --output must be two files, got {times} for both")
    if times and (times.is_dir() or not times.parent.is_dir()):
        raise ValueError(f"--times must name a file in a folder that is there, got {times}")
    for written in filter(None, (output, times)):
        refuse_overwriting(written, file, prompt)
    said = read_text(file) if file else text or ""
    speaker = TextToSpeech.from_pretrained(codec, language_model)
    if times:
        require_alignment(speaker.language_model)
    parts = speaker.utterances(said, prompt, prompt_text, options, part_characters)

    def spoken() -> Iterator[Any]:
        for number, part in enumerate(parts, start=1):
            yield from part
            print(f"{number}/{len(parts)}  {part}  {part.text!r}", flush=True)

    write_audio(output, speaker.sampling_rate, spoken())
    if times:
        times.write_text("".join(f"{one}\n" for one in speaker.times_of(parts)))
    print(f"written {output}")
