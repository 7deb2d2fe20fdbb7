"""The command `q2d2 reconstruct`."""

from pathlib import Path


def reconstruct(inputs: list[str], *, output: str, codec: str = "bundled", device: str = "cpu") -> int:
    """Send audio files through tokens into wav files, to hear what a codec keeps.

        q2d2 reconstruct in.flac --output out.wav

    Folders keep their structure. A file that cannot be read is named and does not stop the others; the exit code is
    then 1.

    Args:
        inputs: Audio files, or folders to search for them.
        output: Folder to write; or the wav file to write, for a single input.
        codec: Folder of a codec, its name on the Hub, or bundled.
        device: Device of the codec, such as cpu or cuda.
    """
    from ..audio.reading import AUDIO_SUFFIXES
    from ..audio.recordings import decode_to_file, encode_file
    from ..bundled import load_codec
    from .convert import plan_jobs, run

    jobs = plan_jobs(inputs, output, AUDIO_SUFFIXES, ".wav")
    model = load_codec(codec, device)

    def convert(source: Path, target: Path) -> None:
        decode_to_file(model, *encode_file(model, source), target)

    return run(jobs, convert)
