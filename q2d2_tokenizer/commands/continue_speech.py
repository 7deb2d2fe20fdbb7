"""The command `q2d2 continue`."""

from pathlib import Path

from lm.settings import CONTINUATION, SpeechOptions


def continue_speech(
    recording: Path,
    *,
    prompt_seconds: float | None = None,
    output: Path = Path("continued.wav"),
    codec: str = "bundled",
    language_model: str = "bundled",
    options: SpeechOptions = CONTINUATION,
) -> None:
    """Go on speaking from a recording; the audio file is written while it is generated.

        q2d2 continue recording.wav --prompt_seconds 3 --output continued.wav

    The audio file holds the recording as the codec gives it back, then its continuation.

    Args:
        recording: Audio or token file to continue.
        prompt_seconds: Continue its first seconds, this many; all of it if left out.
        output: Audio file to write.
        codec: Folder of a codec, its name on the Hub, or bundled.
        language_model: Folder of a language model, or bundled.
    """
    from ..speech import TextToSpeech, write_audio
    from .convert import refuse_overwriting

    if prompt_seconds is not None and not 0 < prompt_seconds < float("inf"):
        raise ValueError(f"prompt_seconds must be a number above 0, got {prompt_seconds}")
    refuse_overwriting(output, recording)
    speaker = TextToSpeech.from_pretrained(codec, language_model)
    codes, frame_rate = speaker.read_codes(recording), speaker.codec.config.frame_rate
    if prompt_seconds:
        codes = codes[: max(1, int(prompt_seconds * frame_rate))]
    spoken = speaker.continuation(codes, options)
    write_audio(output, speaker.sampling_rate, spoken)
    print(f"{len(codes) / frame_rate:.1f} s of {recording.name}, then {spoken}")
    print(f"written {output}")
