"""Speech to text with a Moonshine model that lies in a folder, and word error rates.

    pip install --no-deps moonshine-voice==0.0.65   # its package ships the model tiny-en; nothing else of it is used
    python -m q2d2_tokenizer.evaluation.asr .venv/lib/.../moonshine_voice/assets/tiny-en recording.wav

The folder holds `encoder_model`, `decoder_model_merged` (each .onnx or .ort) and `tokenizer.bin`. The npm package
@usefulsensors/moonshine-js@0.1.16 has the better `base` in dist/model/base/quantized; copy the tokenizer.bin of the
package above into it. English only. Needs onnxruntime, no network.
"""

import argparse
import hashlib
from collections.abc import Hashable, Sequence
from pathlib import Path

import numpy as np
from transformers.models.whisper.english_normalizer import EnglishTextNormalizer

from ..audio.reading import read_audio

SAMPLING_RATE = 16000
_START, _END = 1, 2
_TOKENS_PER_SECOND = 6  # more is a loop; the limit of the model's own programs
_SHORTEST_SECONDS = 0.5
_SPACE = "\u2581"
_NORMALIZE = EnglishTextNormalizer({})


class Transcriber:
    """Greedy transcription of English speech with a Moonshine model (arXiv 2410.15608), known by its `digest`.

    Args:
        folder: Where the model's files are; see the top of this file.
        threads: Threads of the processor.

    Raises:
        ValueError: If a file is missing.
        ImportError: If onnxruntime is missing.
    """

    def __init__(self, folder: str | Path, threads: int = 1):
        import onnxruntime

        files = [_file(folder, name) for name in ("encoder_model", "decoder_model_merged", "tokenizer")]
        self.digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        self._encoder, self._decoder = (
            onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"]) for file in files[:2]
        )
        inputs = self._decoder.get_inputs()
        self._inputs = {i.name for i in inputs}
        # Without a cache yet: no frames, and the sizes that the model states.
        self._empty = {
            i.name: np.zeros((1, i.shape[1], 0, i.shape[3]), np.float32) for i in inputs if i.name.startswith("past")
        }
        self._outputs = [output.name for output in self._decoder.get_outputs()]
        self._pieces = read_pieces(files[2])

    def transcribe(self, samples_16khz: np.ndarray) -> str:
        """Text of audio (N,) of 16 kHz, as the model writes it; empty for audio too short to hold a word."""
        if len(samples_16khz) < _SHORTEST_SECONDS * SAMPLING_RATE:
            return ""
        audio = np.asarray(samples_16khz, np.float32)[None]
        mask = np.ones(audio.shape, np.int64)  # of samples; the decoder takes every 384th
        name, *mask_names = (i.name for i in self._encoder.get_inputs())
        states = self._encoder.run(None, {name: audio, **dict.fromkeys(mask_names, mask)})[0]  # (1, T, D)
        constant = {"encoder_hidden_states": states, "encoder_attention_mask": mask}
        constant = {key: value for key, value in constant.items() if key in self._inputs}
        cache, tokens = self._empty, [_START]
        for step in range(int(audio.shape[1] / SAMPLING_RATE * _TOKENS_PER_SECOND) + 1):
            token = {"input_ids": np.array([tokens[-1:]]), "use_cache_branch": np.array([step > 0])}
            outputs = dict(zip(self._outputs, self._decoder.run(None, {**constant, **cache, **token}), strict=True))
            tokens.append(int(outputs["logits"][0, -1].argmax()))
            if tokens[-1] == _END:
                break
            # Keys and values of the encoder stay those of the first step.
            present = {name: outputs[name.replace("past_key_values", "present")] for name in cache}
            cache = {name: present[name] if step == 0 or ".decoder." in name else cache[name] for name in cache}
        return self._text(tokens)

    def _text(self, tokens: list[int]) -> str:
        pieces = (self._pieces[token] for token in tokens if token not in (_START, _END))
        return b"".join(pieces).decode("utf-8", errors="replace").replace(_SPACE, " ").strip()


def _file(folder: str | Path, stem: str) -> Path:
    endings = (".bin",) if stem == "tokenizer" else (".onnx", ".ort")
    for ending in endings:
        if (path := Path(folder) / (stem + ending)).is_file():
            return path
    raise ValueError(f"{folder} must hold {' or '.join(stem + e for e in endings)} of a Moonshine model, and does not")


def read_pieces(path: Path) -> list[bytes]:
    """Pieces of a Moonshine tokenizer file: for each its length, in one byte or two, and its bytes."""
    content, pieces, i = path.read_bytes(), [], 0
    while i < len(content):
        length, i = content[i], i + 1
        if length >= 128:
            length, i = content[i] * 128 + length - 128, i + 1
        pieces.append(content[i : i + length])
        i += length
    return pieces


def words(text: str) -> list[str]:
    """Words of an English text as they are compared: normalised as Whisper's are, but for British spellings."""
    return _NORMALIZE(text).split()


def edit_distance(wanted: Sequence, found: Sequence) -> int:
    """Fewest substitutions, insertions and deletions that make one sequence of the other."""
    numbers: dict[Hashable, int] = {}
    first, second = (np.array([numbers.setdefault(one, len(numbers)) for one in row]) for row in (wanted, found))
    places = np.arange(len(second) + 1)
    row = places
    for count, item in enumerate(first, 1):
        best = np.minimum(row[1:] + 1, row[:-1] + (second != item))
        row = np.minimum.accumulate(np.concatenate([[count], best]) - places) + places  # the rest is inserted
    return int(row[-1])


def word_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Edit distance of the words of two texts, and the words of the reference."""
    return edit_distance(words(reference), words(hypothesis)), len(words(reference))


def letter_errors(reference: str, hypothesis: str) -> tuple[int, int]:
    """Edit distance of the letters of two texts, with a space between words, and the letters of the reference."""
    wanted, found = (" ".join(words(text)) for text in (reference, hypothesis))
    return edit_distance(wanted, found), len(wanted)


def main(argv: list[str] | None = None) -> None:
    """Print the text of audio files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="with the model")
    parser.add_argument("files", nargs="+", help="audio files of any rate")
    args = parser.parse_args(argv)
    transcriber = Transcriber(args.folder)
    for file in args.files:
        print(transcriber.transcribe(read_audio(file, SAMPLING_RATE)))


if __name__ == "__main__":
    main()
