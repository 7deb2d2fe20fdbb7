"""Tokens for a whole data set, with `datasets.Dataset.map`."""

import multiprocessing
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..audio.reading import stream_from_column
from ..audio.recordings import BatchEncoder
from ..modeling_q2d2 import Q2D2Model

_PROCESS_OF_IMPORT = os.getpid()


class TokenizeAudio:
    """Turns the audio column of a data set into tokens; give it to `datasets.Dataset.map` with `batched=True`.

    It adds the columns `audio_codes` (the tokens of a row, `ceil(num_samples / hop_length)` integers), `num_samples`
    (of the recording, at the rate of the codec) and `codec_fingerprint`.

    The audio may have any rate and be mono or stereo. The column may hold undecoded audio (`Audio(decode=False)`: wav,
    flac, ogg, opus or mp3), decoded audio, decoders of torchcodec, paths, or plain arrays with `sampling_rate`. Without
    torchcodec, `datasets` cannot decode audio: `dataset.cast_column("audio", Audio(decode=False))` leaves it to this
    class.

    The model is loaded when it is needed, once in every process. With `num_proc`, every process uses one core, so
    `num_proc` is the number of cores in use. What `datasets` keeps in its cache is found again as long as the arguments
    here and the weights of the codec are the same. With `with_indices=True`, errors name the row of the data set.

    Args:
        checkpoint: Folder of the codec, or its name on the Hub.
        audio_column: Name of the column that holds the audio.
        sampling_rate: Rate of plain arrays, in Hz; files and decoded audio know their own.
        device: Where the codec runs. Processes forked by `num_proc` cannot use CUDA.
        revision: Revision of a codec on the Hub.

    Example:
        >>> dataset = dataset.cast_column("audio", Audio(decode=False))
        >>> tokenize = TokenizeAudio(q2d2_tokenizer.default_checkpoint())
        >>> dataset = dataset.map(tokenize, batched=True, batch_size=16, num_proc=2, remove_columns=["audio"])
    """

    def __init__(
        self,
        checkpoint: str | Path,
        audio_column: str = "audio",
        sampling_rate: int | None = None,
        device: str = "cpu",
        revision: str | None = None,
    ):
        # Worker processes may have another working directory.
        self.checkpoint = os.path.abspath(checkpoint) if os.path.isdir(checkpoint) else str(checkpoint)
        self.audio_column = audio_column
        self.sampling_rate = sampling_rate
        self.device = device
        self.revision = revision
        self._fingerprint: str | None = None
        self._loaded: Q2D2Model | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Small, and the same in every run: `datasets` hashes it to find its cache, and sends it to its workers.
        return vars(self) | {"_fingerprint": self.codec_fingerprint, "_loaded": None}

    @property
    def codec_fingerprint(self) -> str:
        """Identifies the config and the weights of the codec; see `Q2D2Model.fingerprint`."""
        if self._fingerprint is None:
            self._fingerprint = self._model().fingerprint()
        return self._fingerprint

    def _model(self) -> Q2D2Model:
        if self._loaded is None:
            model = Q2D2Model.from_pretrained(self.checkpoint, revision=self.revision or "main").eval()
            if self._fingerprint not in (None, model.fingerprint()):
                raise ValueError(
                    f"the codec in {self.checkpoint} changed while it was in use: its fingerprint was "
                    f"{self._fingerprint} and is {model.fingerprint()} now; make a new TokenizeAudio"
                )
            self._loaded = model.to(self.device)
        return self._loaded

    def __call__(self, batch: Mapping[str, Any], indices: list[int] | None = None) -> dict[str, list]:
        """Tokens of a batch of rows.

        Args:
            batch: Columns by name, as `map` with `batched=True` hands them out.
            indices: Numbers of the rows in the data set, as `with_indices=True` adds them; used in errors.

        Returns:
            The new columns.

        Raises:
            ValueError: If a row holds no usable audio; names the row, and the file if it is known.
            ImportError: If the column decodes itself and torchcodec is missing.
        """
        if _is_worker():
            torch.set_num_threads(1)  # before anything computes: OpenMP hangs in forked processes, and cores are shared
        cells = self._cells(batch)
        model = self._model()
        lengths, encoder = [], BatchEncoder(model)
        for number, cell in enumerate(cells):
            chunks = self._chunks(cell, f"row {indices[number]}" if indices else f"row {number} of its batch")
            lengths.append(encoder.add(chunks))
        codes = encoder.finish()
        return {
            "audio_codes": codes,
            "num_samples": lengths,
            "codec_fingerprint": [self.codec_fingerprint] * len(codes),
        }

    def _cells(self, batch: Mapping[str, Any]) -> Any:
        if self.audio_column not in batch:
            raise ValueError(f"no column {self.audio_column!r}; the data set has {sorted(batch)}; pass audio_column")
        try:
            column = batch[self.audio_column]  # decodes, if the column does that
        except ImportError as error:
            raise ImportError(
                f"`datasets` cannot decode the column {self.audio_column!r} without torchcodec; leave that to "
                f'TokenizeAudio: dataset.cast_column("{self.audio_column}", datasets.Audio(decode=False))'
            ) from error
        if isinstance(column, (str, bytes, Mapping)):
            raise ValueError(f"the column {self.audio_column!r} holds one row, not a list; call map with batched=True")
        return column

    def _chunks(self, cell: Any, row: str) -> Iterator[np.ndarray]:
        try:
            yield from stream_from_column(cell, self._model().config.sampling_rate, self.sampling_rate)
        except (ValueError, OSError, RuntimeError) as error:
            path = cell.get("path") if isinstance(cell, Mapping) else None
            raise ValueError(f"cannot tokenize {row}{f' ({path})' if path else ''}: {error}") from error


def _is_worker() -> bool:
    """Whether this process was forked or started by another one of Python's."""
    if os.getpid() != _PROCESS_OF_IMPORT or multiprocessing.parent_process() is not None:
        return True
    multiprocess = sys.modules.get("multiprocess")  # what `datasets` starts its workers with
    return multiprocess is not None and multiprocess.parent_process() is not None
