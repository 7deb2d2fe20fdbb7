"""The command `q2d2 decode`."""

from pathlib import Path


def decode(inputs: list[str], *, output: str, codec: str = "bundled", device: str = "cpu") -> int:
    """Turn token files into wav files.

        q2d2 decode tokens/ --output decoded/

    Folders keep their structure. A file that is damaged or of another codec is named and does not stop the others; the
    exit code is then 1.

    Args:
        inputs: Token files (.q2d2), or folders to search for them.
        output: Folder to write; or the wav file to write, for a single input.
        codec: Folder of the codec that made the tokens, its name on the Hub, or bundled.
        device: Device of the codec, such as cpu or cuda.
    """
    from ..audio.recordings import decode_to_file
    from ..audio.token_file import TOKEN_SUFFIX, load_tokens
    from ..bundled import load_codec
    from .convert import plan_jobs, run

    jobs = plan_jobs(inputs, output, {TOKEN_SUFFIX}, ".wav")
    model = load_codec(codec, device)
    fingerprint = model.fingerprint()

    def convert(source: Path, target: Path) -> None:
        tokens = load_tokens(source)
        if tokens.codec_fingerprint != fingerprint:
            raise ValueError(
                f"the tokens are of codec {tokens.codec_fingerprint}, but {codec} is codec {fingerprint}; pass the "
                "--codec that made them"
            )
        decode_to_file(model, tokens.audio_codes, tokens.num_samples, target)

    return run(jobs, convert)
