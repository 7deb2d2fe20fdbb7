"""Recordings of any length through a codec in little memory."""

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

from ..layers import Context
from ..modeling_q2d2 import Q2D2Model
from .files import replaced_when_complete
from .reading import stream_audio

_TOKENS_PER_CHUNK = 4096
_NONE = np.empty(0, np.int64)
_FIRST_TOKENS = 3  # of which there is audio at first; those behind them are its context


def encode_chunks(model: Q2D2Model, chunks: Iterable[np.ndarray]) -> tuple[np.ndarray, int]:
    """Tokens (T,) int64 and number of samples of a recording.

    A model that needs the whole recording gets it; any other works chunk by chunk.

    Args:
        model: The codec.
        chunks: The samples (N,) float32 at the rate of the codec, one chunk after the other, at least one.

    Raises:
        ValueError: If the samples are not finite, or what the chunks raise.
    """
    if model.encoder_latency_samples is None:
        chunks = [np.concatenate(list(chunks))]
    codes, num_samples, cache = [], 0, None
    chunks = iter(chunks)
    chunk: np.ndarray | None = next(chunks)
    while chunk is not None:
        following = next(chunks, None)  # known in advance, so that a short recording is computed at once
        audio = torch.from_numpy(chunk).to(model.device).view(1, 1, -1)
        output = model.encode(audio, cache=cache, use_streaming=following is not None)
        codes.append(output.audio_codes[0, 0].cpu().numpy())
        num_samples += len(chunk)
        cache, chunk = output.cache, following
    return np.concatenate(codes), num_samples


class BatchEncoder:
    """Encodes recordings one after the other as they are added, short ones together, which is faster.

    Args:
        model: The codec.
    """

    def __init__(self, model: Q2D2Model):
        self._model = model
        self._codes: list[np.ndarray] = []
        is_local = model.encoder_latency_samples is not None
        self._block = model.config.block_frames * model.config.hop_length if is_local else 0  # longest that is short
        self._waiting: dict[int, np.ndarray] = {}  # short recordings by their number

    def add(self, chunks: Iterable[np.ndarray]) -> int:
        """Read the chunks of a recording, as `encode_chunks` does; returns its number of samples.

        A recording whose chunks raise an error is not added.
        """
        chunks = iter(chunks)
        start = list(itertools.islice(chunks, 2))
        if len(start) > 1 or not 0 < len(start[0]) <= self._block or not np.isfinite(start[0]).all():
            codes, num_samples = encode_chunks(self._model, itertools.chain(start, chunks))
            self._codes.append(codes)
            return num_samples
        self._waiting[len(self._codes)] = start[0]
        self._codes.append(_NONE)
        if len(self._waiting) * max(map(len, self._waiting.values())) > 2 * self._block:
            self._encode_waiting()
        return len(start[0])

    def finish(self) -> list[np.ndarray]:
        """Tokens (T,) int64 of all recordings that were added, in their order."""
        self._encode_waiting()
        return self._codes

    def _encode_waiting(self) -> None:
        if not self._waiting:
            return
        recordings = [torch.from_numpy(audio) for audio in self._waiting.values()]
        audio = pad_sequence(recordings, batch_first=True).unsqueeze(1).to(self._model.device)
        mask = pad_sequence([torch.ones(len(one), dtype=torch.bool) for one in recordings], batch_first=True)
        output = self._model.encode(audio, mask.to(audio.device))
        for number, codes, inside in zip(
            self._waiting, output.audio_codes[:, 0], output.audio_codes_mask.bool(), strict=True
        ):
            self._codes[number] = codes[inside].cpu().numpy()
        self._waiting = {}


def decode_in_chunks(
    model: Q2D2Model,
    codes: Iterable[int],
    num_samples: int | None = None,
    tokens_per_chunk: int | None = None,
    is_live: bool = False,
) -> Iterator[np.ndarray]:
    """Audio of tokens in chunks (N,) float32, each as soon as it is determined; together it is that of all tokens.

    A model that needs all tokens gets them at once.

    Args:
        model: The codec.
        codes: Tokens (T,) of one recording, maybe as they come.
        num_samples: Length of the recording; whole frames if left out.
        tokens_per_chunk: How many tokens to take at a time.
        is_live: Whether to decode the first tokens as soon as they give audio. Chunks then double up to the usual size,
            so that each plays while the next one is made.

    Raises:
        ValueError: If the tokens are out of range, or too few or too many for `num_samples`.
    """
    sizes = _chunk_sizes(model.decoder.context_frames, tokens_per_chunk or _TOKENS_PER_CHUNK, is_live)
    codes, cache, follows = iter(codes), None, True
    following: list[int] = []  # known in advance, as the last tokens have to come with `num_samples`
    while follows:
        size = next(sizes)
        rest = None if size is None else size - len(following)
        taken = np.fromiter(itertools.chain(following, itertools.islice(codes, rest)), np.int64)
        following = [] if num_samples is None else list(itertools.islice(codes, 1))
        follows = len(taken) == size and (num_samples is None or bool(following))
        if not len(taken) and cache is None:
            return
        chunk = torch.from_numpy(taken).to(model.device).view(1, 1, -1)
        output = model.decode(chunk, num_samples=None if follows else num_samples, cache=cache, use_streaming=follows)
        cache = output.cache
        if output.audio_values.numel():
            yield output.audio_values[0, 0].cpu().numpy()


def _chunk_sizes(context: Context | None, usual: int, is_live: bool) -> Iterator[int | None]:
    """How many tokens to take, time after time; None for all."""
    if context is None:
        yield from itertools.repeat(None)
        return
    new = min(_FIRST_TOKENS, usual) if is_live else usual
    yield context.after + new if is_live else new
    while True:
        new = min(2 * new, usual)
        yield new


def encode_file(model: Q2D2Model, source: str | Path | bytes) -> tuple[np.ndarray, int]:
    """Tokens (T,) int64 and number of samples, at the rate of the codec, of an audio file (path or content).

    Raises:
        ValueError: If the file is not audio that can be read, is damaged, cut off or empty.
        FileNotFoundError: If there is no such file.
    """
    return encode_chunks(model, stream_audio(source, model.config.sampling_rate))


def decode_to_file(model: Q2D2Model, codes: np.ndarray, num_samples: int, target: str | Path) -> None:
    """Write the audio of tokens (T,) to a wav file; a reader sees the whole file or none.

    Raises:
        ValueError: If the tokens are out of range, or too few or too many for `num_samples`.
        OSError: If the file cannot be written.
    """
    import soundfile

    rate = model.config.sampling_rate
    with replaced_when_complete(target) as temporary:
        with soundfile.SoundFile(temporary, "w", rate, channels=1, format="WAV", subtype="PCM_16") as file:
            for chunk in decode_in_chunks(model, codes, num_samples):
                file.write(chunk)
