"""The command `q2d2 encode`."""

from pathlib import Path


def encode(inputs: list[str], *, output: str, codec: str = "bundled", device: str = "cpu") -> int:
    """Turn audio files (wav, flac, ogg, opus, mp3; any rate) into token files.

        q2d2 encode recordings/ --output tokens/

    Folders keep their structure. A file that cannot be read is named and does not stop the others; the exit code is
    then 1.

    Args:
        inputs: Audio files, or folders to search for them.
        output: Folder to write; or the token file (.q2d2) to write, for a single input.
        codec: Folder of a codec, its name on the Hub, or bundled.
        device: Device of the codec, such as cpu or cuda.
    """
    from ..audio.reading import AUDIO_SUFFIXES
    from ..audio.recordings import encode_file
    from ..audio.token_file import TOKEN_SUFFIX, TokenFile, save_tokens
    from ..bundled import load_codec
    from .convert import plan_jobs, run

    jobs = plan_jobs(inputs, output, AUDIO_SUFFIXES, TOKEN_SUFFIX)
    model = load_codec(codec, device)
    fingerprint = model.fingerprint()

    def convert(source: Path, target: Path) -> None:
        codes, num_samples = encode_file(model, source)
        save_tokens(target, TokenFile(codes, model.config.sampling_rate, num_samples, fingerprint))

    return run(jobs, convert)
