"""Tokens of one recording in a file: safetensors with the suffix `.q2d2`.

The file holds one tensor, `audio_codes` (T,) int32, and these metadata, all strings:

- `format`: `q2d2-tokens`, and `format_version`;
- `sampling_rate` of the codec, in Hz, and `num_samples` of the recording at that rate;
- `codec_fingerprint`: of the codec that made the tokens; no other codec can decode them;
- `crc32` of the tokens and the other metadata, so that a damaged file is not taken for a good one.
"""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from .files import write_atomically

TOKEN_SUFFIX = ".q2d2"
MAKE_AGAIN = "the file is damaged, make it again from the recordings"
_FORMAT = "q2d2-tokens"
_VERSION = "1"
_TENSOR = "audio_codes"


@dataclass(frozen=True)
class TokenFile:
    """Tokens of one recording and what it takes to decode them.

    Args:
        audio_codes: Tokens (T,), integers.
        sampling_rate: Rate of the codec, in Hz.
        num_samples: Length of the recording, at `sampling_rate`.
        codec_fingerprint: `Q2D2Model.fingerprint()` of the codec that made the tokens.

    Raises:
        ValueError: If the tokens are not a row of integers within 0 and 2**31 - 1, or a number is not positive.
    """

    audio_codes: np.ndarray
    sampling_rate: int
    num_samples: int
    codec_fingerprint: str

    def __post_init__(self):
        codes = np.asarray(self.audio_codes)
        if codes.ndim != 1 or not codes.size or not np.issubdtype(codes.dtype, np.integer):
            raise ValueError(f"audio_codes must be integers of shape (tokens,), got {codes.dtype} {codes.shape}")
        if codes.min() < 0 or codes.max() >= 2**31:
            raise ValueError(f"audio_codes must be within 0 and 2**31 - 1, got {codes.min()} to {codes.max()}")
        if self.sampling_rate < 1 or self.num_samples < 1:
            raise ValueError(
                f"sampling_rate and num_samples must be positive, got {self.sampling_rate} and {self.num_samples}"
            )
        object.__setattr__(self, "audio_codes", np.ascontiguousarray(codes, dtype=np.int32))


def check_in_codebook(codes: np.ndarray, codebook_size: int, place: str, advice: str = MAKE_AGAIN) -> None:
    """Raise a ValueError that names the place, and says what to do, if codes (T,) are not of a codebook."""
    low, high = (codes.min(), codes.max()) if len(codes) else (0, 0)
    if low < 0 or high >= codebook_size:
        raise ValueError(
            f"{place}: codes must be within 0 and {codebook_size - 1}, got {low if low < 0 else high}; {advice}"
        )


def _metadata(tokens: TokenFile) -> dict[str, str]:
    fields = {
        "format": _FORMAT,
        "format_version": _VERSION,
        "sampling_rate": str(tokens.sampling_rate),
        "num_samples": str(tokens.num_samples),
        "codec_fingerprint": tokens.codec_fingerprint,
    }
    checksum = zlib.crc32(tokens.audio_codes.astype("<i4").tobytes(), zlib.crc32(json.dumps(fields).encode()))
    return {**fields, "crc32": f"{checksum:08x}"}


def save_tokens(path: str | Path, tokens: TokenFile) -> None:
    """Write tokens to a file; a reader sees the whole file or none.

    Raises:
        OSError: If the file cannot be written.
    """
    write_atomically(path, save({_TENSOR: tokens.audio_codes}, _metadata(tokens)))


def load_tokens(path: str | Path) -> TokenFile:
    """Read the tokens that `save_tokens` wrote.

    Raises:
        ValueError: If the file is cut off or damaged, no token file, or of a later format version.
        OSError: If the file cannot be read.
    """
    Path(path).open("rb").close()  # safetensors reports a missing or unreadable file less clearly
    try:
        with safe_open(str(path), framework="numpy") as file:
            metadata = file.metadata() or {}
            codes = file.get_tensor(_TENSOR) if list(file.keys()) == [_TENSOR] else None
    except (SafetensorError, KeyError, TypeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a token file, or damaged or cut off: {error}") from error
    if metadata.get("format") != _FORMAT or codes is None:
        raise ValueError(f"{path} is not a token file: it lacks the mark {_FORMAT!r} or the tensor {_TENSOR!r}")
    if metadata.get("format_version") != _VERSION:
        raise ValueError(
            f"{path} has format version {metadata.get('format_version')!r}, this program reads {_VERSION!r}; update it"
        )
    try:
        tokens = TokenFile(
            codes, int(metadata["sampling_rate"]), int(metadata["num_samples"]), metadata["codec_fingerprint"]
        )
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    if _metadata(tokens) != metadata or codes.dtype != np.int32:
        raise ValueError(f"{path} is damaged: its checksum does not fit its content")
    return tokens
