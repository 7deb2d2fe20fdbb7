"""Audio tokens for a language model that already exists: strings, ids and embeddings for the codes of a codec.

    audio = add_audio_tokens(model, tokenizer, codebook_size=21025, codec_fingerprint=codec.fingerprint())
    text = "Say this: hello" + audio.codes_to_text(codes)     # <|audio|><|q2d2_17|>...<|audio_end|>

The tokenizer turns such text into one id for each code. `codes_to_ids` computes the same ids, much faster.
"""

import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from tokenizers import AddedToken
from torch import Tensor, nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation import LogitsProcessor, LogitsProcessorList

from .layout import Ids, checked_ids

AUDIO_TOKENS_FILE = "audio_tokens.json"
START_TEXT, END_TEXT = "<|audio|>", "<|audio_end|>"
_CODE_TEXT = re.compile(r"<\|q2d2_(\d+)\|>")


class AudioCodesOnly(LogitsProcessor):
    """Allows audio codes and the end, and nothing else.

    Args:
        first: Id of the first audio code.
        stop: Id after the last one.
        end: Id that ends the audio.
    """

    def __init__(self, first: int, stop: int, end: int):
        self.first, self.stop, self.end = first, stop, end

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V) with minus infinity for everything else.

        Raises:
            RuntimeError: If scores are not finite.
        """
        if scores.isnan().any() or scores[:, self.first : self.stop].isinf().any():
            raise RuntimeError("the language model gives NaN or infinite scores; its weights are damaged, load others")
        allowed = torch.full_like(scores, -torch.inf)
        allowed[:, self.first : self.stop] = scores[:, self.first : self.stop]
        allowed[:, self.end] = scores[:, self.end]
        return allowed


@dataclass(frozen=True)
class AudioTokens:
    """Audio codes in the vocabulary of an extended model.

    Args:
        codebook_size: Number of codes of the codec.
        codec_fingerprint: Fingerprint of the codec.
        start_id: Id of `<|audio|>`.
        end_id: Id of `<|audio_end|>`.
        first_code_id: Id of `<|q2d2_0|>`; those of the other codes follow.
    """

    codebook_size: int
    codec_fingerprint: str
    start_id: int
    end_id: int
    first_code_id: int

    def codes_to_ids(self, codes: Ids) -> Ids:
        """Ids (..., T + 2) int64 of codes (..., T) between the markers: what the tokenizer makes of `codes_to_text`.

        Raises:
            ValueError: If they are no integers within 0 and `codebook_size - 1`.
        """
        ids = checked_ids(codes, 0, self.codebook_size, "audio codes") + self.first_code_id
        if isinstance(ids, Tensor):
            return nn.functional.pad(nn.functional.pad(ids, (1, 0), value=self.start_id), (0, 1), value=self.end_id)
        return np.pad(ids, [(0, 0)] * (ids.ndim - 1) + [(1, 1)], constant_values=(self.start_id, self.end_id))

    def ids_to_codes(self, ids: Ids) -> Ids:
        """Codes (..., T) int64 of ids of audio codes, with or without the markers at their ends.

        Raises:
            ValueError: If one between the markers is no id of a code.
        """
        if ids.shape[-1] and (ids[..., 0] == self.start_id).all():
            ids = ids[..., 1:]
        if ids.shape[-1] and (ids[..., -1] == self.end_id).all():
            ids = ids[..., :-1]
        stop = self.first_code_id + self.codebook_size
        return checked_ids(ids, self.first_code_id, stop, "ids of audio codes") - self.first_code_id

    def codes_to_text(self, codes: np.ndarray) -> str:
        """Text `<|audio|><|q2d2_17|>...<|audio_end|>` of codes (T,).

        Raises:
            ValueError: If they are no integers within 0 and `codebook_size - 1`.
        """
        checked_ids(codes, 0, self.codebook_size, "audio codes")
        return START_TEXT + "".join(map(code_text, codes.tolist())) + END_TEXT

    def text_to_codes(self, text: str) -> np.ndarray:
        """Codes (T,) int64 of a text of audio tokens, with or without its markers.

        Raises:
            ValueError: If there is anything else in the text, or a code is out of range.
        """
        rest = _CODE_TEXT.sub("", text.strip().removeprefix(START_TEXT).removesuffix(END_TEXT)).strip()
        if rest:
            raise ValueError(f"expected audio tokens such as {code_text(0)} alone, got also {rest[:40]!r}")
        codes = np.array([int(number) for number in _CODE_TEXT.findall(text)], np.int64)
        return checked_ids(codes, 0, self.codebook_size, "audio codes")

    def logits_processor(self) -> LogitsProcessorList:
        """For `model.generate` after `<|audio|>`: allows codes and `<|audio_end|>` alone."""
        stop = self.first_code_id + self.codebook_size
        return LogitsProcessorList([AudioCodesOnly(self.first_code_id, stop, self.end_id)])

    def save(self, folder: str | Path) -> None:
        """Write `audio_tokens.json` into the folder of the model."""
        (Path(folder) / AUDIO_TOKENS_FILE).write_text(json.dumps(asdict(self), indent=2) + "\n")

    @classmethod
    def load(cls, folder: str | Path, codec_fingerprint: str) -> "AudioTokens":
        """Read what `save` wrote.

        Args:
            folder: Folder of the model.
            codec_fingerprint: Fingerprint of the codec it is to be used with.

        Raises:
            ValueError: If the file is none of this kind, or for another codec.
        """
        path = Path(folder) / AUDIO_TOKENS_FILE
        try:
            tokens = cls(**json.loads(path.read_text()))
        except (json.JSONDecodeError, TypeError) as error:
            raise ValueError(f"{path} does not describe audio tokens: {error}") from error
        if tokens.codec_fingerprint != codec_fingerprint:
            raise ValueError(
                f"{folder} was extended for codec {tokens.codec_fingerprint!r}, not for {codec_fingerprint!r}; use "
                "the codec whose tokens it was trained on"
            )
        return tokens


def code_text(code: int) -> str:
    """Text of the token of one code."""
    return f"<|q2d2_{code}|>"


def add_audio_tokens(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, codebook_size: int, codec_fingerprint: str
) -> AudioTokens:
    """Add the tokens of all codes and two markers to a causal model and its tokenizer.

    The embeddings grow and the new rows are drawn around the mean of the old ones, as transformers does it; they mean
    nothing before the model is trained. Save model, tokenizer and what is returned into one folder.

    Args:
        model: Any causal language model of transformers; changed.
        tokenizer: Its tokenizer; changed.
        codebook_size: Number of codes of the codec.
        codec_fingerprint: Fingerprint of the codec, `Q2D2Model.fingerprint()`.

    Raises:
        ValueError: If the tokenizer has one of the tokens already.
    """
    texts = [START_TEXT, END_TEXT, *map(code_text, range(codebook_size))]
    known = tokenizer.get_vocab().keys() & set(texts)
    if known:
        raise ValueError(f"the tokenizer has audio tokens already, such as {min(known)!r}; start from the original one")
    first = len(tokenizer)
    # All at once: adding one by one takes time that grows with the square of their number.
    tokenizer.add_tokens([AddedToken(text, normalized=False) for text in texts])
    found = tokenizer.convert_tokens_to_ids([texts[0], texts[-1]])
    if found != [first, first + len(texts) - 1]:
        raise ValueError(f"the tokenizer gave ids {found} to its new tokens, expected them in a row from {first}")
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, nn.Embedding)
    if len(tokenizer) > embeddings.num_embeddings:  # some models have rows to spare
        model.resize_token_embeddings(len(tokenizer))
    return AudioTokens(codebook_size, codec_fingerprint, first, first + 1, first + 2)
