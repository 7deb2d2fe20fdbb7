"""Speech from a language model: prompts, what is sampled, when it ends, step by step or at once.

`model.generate` of transformers gives the same codes (a saved model's generation config allows nothing but codes and
`<eos>`); the loop here is for real time: it yields codes as they come, each row of a batch has its own random numbers,
and it says why it ended.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers.cache_utils import Cache
from transformers.generation import (
    LogitsProcessor,
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from .cache import CACHE_ARGUMENT, make_cache
from .layout import AUDIO, BOS, EOS, PAD, Layout
from .model import LanguageModel
from .pairs import PairLlamaForCausalLM
from .settings import GenerationSettings

ENDED, MAX_LENGTH, LOOPED = "ended", "max_length", "looped"
_NONE = np.empty(0, np.int64)
_CANDIDATE_SEEDS = 1_000_003  # from the seed of one candidate to the next


@dataclass(frozen=True)
class Generated:
    """Codes (T,) int64 that a language model gave, without those of the prompt, and why they ended.

    The reason is `ended` (the model's own end), `max_length` (of the settings or the context) or `looped`.
    """

    codes: np.ndarray
    reason: str


def generate_codes(
    language_model: LanguageModel,
    prompts: list[np.ndarray],
    settings: GenerationSettings = GenerationSettings(),  # noqa: B008 - frozen
    prompt_texts: list[str] | None = None,
) -> list[Generated]:
    """Codes of a batch of prompts; see `Generation`."""
    generation = Generation(language_model, prompts, settings, prompt_texts)
    rows = np.stack(list(generation), axis=1)  # (B, T)
    reasons = [reason for reason in generation.reasons if reason is not None]  # all rows have ended
    return [Generated(row[row >= 0], reason) for row, reason in zip(rows, reasons, strict=True)]


def make_prompt(
    language_model: LanguageModel, text: str | None = None, codes: np.ndarray | None = None, prompt_text: str = ""
) -> np.ndarray:
    """Ids (S,) int64 of what comes before the codes to generate.

    Args:
        language_model: The model.
        text: What to say; None for speech without text.
        codes: Codes (T,) of speech to go on from: its continuation without text, its voice with text.
        prompt_text: What the codes say, if there is text.

    Raises:
        ValueError: If there is nothing to read in a text or nothing to go on from, the model has no text, codes are
            out of range, or the context does not hold the prompt.
    """
    layout = language_model.layout
    codes = _NONE if codes is None else np.asarray(codes)
    pieces = _NONE
    if text is None and not len(codes):
        raise ValueError("there is neither text to read nor codes to go on from")
    if text is not None:
        if language_model.text is None:
            raise ValueError("this language model was trained on speech alone and reads no text")
        if not len(language_model.text.encode(text)):
            raise ValueError(f"there is nothing to read in the text {text[:40]!r}; it takes English letters or digits")
        spoken = language_model.text.encode(prompt_text)
        if bool(len(codes)) != bool(len(spoken)):
            raise ValueError("a voice takes both: the codes of a recording and, as prompt_text, what it says")
        pieces = language_model.text.encode(f"{prompt_text} {text}")
    prompt = layout.prompt(pieces, codes)
    context = language_model.model.config.max_position_embeddings
    if len(prompt) >= context:
        raise ValueError(
            f"the prompt takes {len(prompt)} tokens ({len(pieces)} of text, {len(codes)} of audio) and leaves no room "
            f"in the context of {context}; use less text or a shorter recording"
        )
    return prompt


class Generation:
    """Iterates over the codes of a batch of prompts as they come.

    Each item is codes (B,) int64, with -1 for rows that have ended. Every row has its own random numbers, so what
    comes depends on its prompt, its seed and the weights, and not on the other rows.

    With candidates, every text is spoken several times at once, with seeds far apart, and codes come when all have
    ended. Of those that the model ended itself, the one is kept whose codes gain most from the text: by how much it
    raises their log probability, on average. Misread words gain less.

    Args:
        language_model: The model.
        prompts: Ids of each row, as `make_prompt` makes them.
        settings: What is sampled and when it ends.
        prompt_texts: What the codes of each prompt say, as given to `make_prompt`: text is placed by it.

    Raises:
        ValueError: If a prompt is not `<bos> text <audio> codes`, or fills the context, or the model is one of pair
            tokens with a large codebook, which has a `generate` of its own.
        RuntimeError: While iterating, if the weights give scores that are not finite.
    """

    def __init__(
        self,
        language_model: LanguageModel,
        prompts: list[np.ndarray],
        settings: GenerationSettings = GenerationSettings(),  # noqa: B008 - frozen
        prompt_texts: list[str] | None = None,
    ):
        self._model, self._layout, self.settings = language_model.model, language_model.layout, settings
        context = self._model.config.max_position_embeddings
        if isinstance(self._model, PairLlamaForCausalLM):
            self._model.check_codebook()
        for prompt in prompts:
            _check_prompt(prompt, self._layout, context)
        text = language_model.text
        spoken = [len(text.encode(said)) if text and said else 0 for said in prompt_texts or [""] * len(prompts)]
        self._reads_text = [bool(prompt[1] != AUDIO) for prompt in prompts]
        is_guided = settings.guidance_scale != 1 and any(self._reads_text)
        candidates = settings.candidates if is_guided else 1
        self._kept = list(range(len(prompts)))  # candidate of each prompt
        prompts, spoken = prompts * candidates, spoken * candidates
        self._limits = [min(settings.max_codes, context - len(prompt)) for prompt in prompts]
        self._reasons: list[str | None] = [None] * len(prompts)  # of all candidates
        self._gains = np.zeros(len(prompts))  # what the text adds to the log probability of a code, on average
        # With guidance every prompt has a second row, without its text, that gets the same codes.
        unguided = [_without_text(prompt) for prompt in prompts] if is_guided else []
        self._lay_out([*prompts, *unguided], [*spoken, *[0] * len(unguided)])

    def _lay_out(self, rows: list[np.ndarray], spoken: list[int]) -> None:
        """Memory for ids (B, S) of all rows, their prompts at its left with padding before them; mask and positions."""
        size, device = max(map(len, rows)), self._model.device
        ids = np.full((len(rows), size + max(self._limits)), PAD)
        for row, prompt in zip(ids, rows, strict=True):
            row[size - len(prompt) : size] = prompt
        self._size = size
        self._ids = torch.from_numpy(ids).to(device)
        starts = torch.tensor([[size - len(prompt)] for prompt in rows], device=device)
        places = torch.arange(self._ids.shape[1], device=device) - starts  # negative in the padding
        self._mask = (places >= 0).long() if starts.any() else None
        self._positions = self._place(places, torch.tensor(spoken, device=device))

    @property
    def reasons(self) -> list[str | None]:
        """Why the codes of each prompt ended; None while they go on."""
        return [self._reasons[row] for row in self._kept]

    def _place(self, places: Tensor, num_spoken: Tensor) -> Tensor | None:
        """Positions (B, S) of all ids there may be, as far as they are not the usual ones."""
        prompts = self._layout.position_ids(self._ids[:, : self._size], num_spoken)
        if prompts is None:
            return None if self._mask is None else places.clamp(min=0)
        later = torch.arange(1, places.shape[1] - self._size + 1, device=places.device)
        return torch.cat([prompts, prompts[:, -1:] + later], dim=1)

    def __iter__(self) -> Iterator[np.ndarray]:
        num_rows, num_prompts = len(self._reasons), len(self._kept)
        if num_rows == num_prompts:
            yield from self._run()
            return
        codes = np.stack(list(self._run()))  # (T, candidates)
        self._kept = [
            max(range(row, num_rows, num_prompts), key=lambda row: (self._reasons[row] == ENDED, self._gains[row]))
            if reads_text
            else row
            for row, reads_text in enumerate(self._reads_text)
        ]
        yield from (row for row in codes[:, self._kept] if (row >= 0).any())

    @torch.inference_mode()
    def _run(self) -> Iterator[np.ndarray]:
        """Codes (B,) of all candidates as they come."""
        num_rows = len(self._reasons)
        self._reasons, self._gains = [None] * num_rows, np.zeros(num_rows)
        device, settings = self._model.device, self.settings
        num_prompts = len(self._kept)
        seeds = [settings.seed + row % num_prompts + row // num_prompts * _CANDIDATE_SEEDS for row in range(num_rows)]
        generators = [torch.Generator(device).manual_seed(seed) for seed in seeds]
        processors = logits_processors(settings, self._layout, self._size)
        cache, start, end = make_cache(self._model.config), 0, self._size
        while None in self._reasons:
            scores, gains = self._guide(self._scores(start, end, cache).float())
            for process in processors:  # the list itself would look at their signatures, every time
                scores = process(self._ids[:num_rows, :end], scores)
            chosen = _choose(scores, generators) if settings.temperature else scores.argmax(-1)
            codes = self._take(end, chosen)
            if gains is not None and num_rows > num_prompts:
                gain = gains.gather(1, chosen.unsqueeze(1)).flatten().cpu().numpy()
                self._gains += np.where(codes >= 0, gain - self._gains, 0) / (end + 1 - self._size)
            start, end = end, end + 1
            if (codes >= 0).any():
                yield codes

    def _scores(self, start: int, end: int, cache: Cache) -> Tensor:
        """Scores (B, V) of what follows the ids up to `end`, of which those from `start` on are new."""
        arguments: dict[str, Any] = {CACHE_ARGUMENT: cache, "use_cache": True}
        if self._positions is not None:
            arguments["position_ids"] = self._positions[:, start:end]
        if self._mask is not None:
            arguments["attention_mask"] = self._mask[:, :end]
        if isinstance(self._model, PairLlamaForCausalLM):
            arguments["cache"] = arguments.pop(CACHE_ARGUMENT)
            states = self._model(self._ids[:, start:end], **arguments).last_hidden_state
            return self._model.log_probs(states[:, -1])
        return self._model(self._ids[:, start:end], logits_to_keep=1, **arguments).logits[:, -1]

    def _guide(self, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores (B, V) of those of all rows (classifier-free guidance, as in transformers), and what the text adds."""
        if len(scores) == len(self._reasons):
            return scores, None
        with_text, without = scores.log_softmax(-1).chunk(2)
        gains = with_text - without
        return torch.where(with_text.isneginf(), with_text, without + self.settings.guidance_scale * gains), gains

    def _take(self, place: int, chosen: Tensor) -> np.ndarray:
        """Note the ids (B,) chosen for a place; returns codes (B,)."""
        codes = np.full(len(self._reasons), -1)
        for row, chosen_id in enumerate(chosen.tolist()):
            if self._reasons[row] is not None:
                continue
            if chosen_id == EOS:
                self._reasons[row] = ENDED
                continue
            self._ids[row :: len(self._reasons), place] = chosen_id
            codes[row] = chosen_id - self._layout.audio_offset
            length = place + 1 - self._size
            if self._loops(self._ids[row, self._size : place + 1]):
                self._reasons[row] = LOOPED
            elif length == self._limits[row]:
                self._reasons[row] = MAX_LENGTH
        return codes

    def _loops(self, ids: Tensor) -> bool:
        """Whether the last ids are so few different ones that it is a loop, or silence."""
        size = self.settings.loop_codes
        return 0 < size <= len(ids) and len(set(ids[-size:].tolist())) <= size // 4


def logits_processors(settings: GenerationSettings, layout: Layout, prompt_ids: int) -> LogitsProcessorList:
    """All that changes the scores before a code is chosen; `model.generate` takes it as `logits_processor` too.

    Args:
        settings: What is sampled.
        layout: Vocabulary of the model.
        prompt_ids: Length of the prompt, with its padding.
    """
    earliest = prompt_ids + settings.min_codes
    processors = LogitsProcessorList([AudioCodesOnly(layout.audio_offset, layout.vocab_size, EOS, earliest)])
    if settings.repetition_penalty:
        processors.append(WindowedPenalty(settings.repetition_penalty, settings.repetition_window))
    if settings.temperature:
        processors.append(TemperatureLogitsWarper(settings.temperature))
        if settings.top_k:
            processors.append(TopKLogitsWarper(settings.top_k))
        if settings.top_p < 1:
            processors.append(TopPLogitsWarper(settings.top_p))
    return processors


class AudioCodesOnly(LogitsProcessor):
    """Allows audio codes and the end, and nothing else.

    Args:
        first: Id of the first audio code.
        stop: Id after the last one.
        end: Id that ends the audio.
        earliest: Length, in ids with those of the prompt, from which on the end is allowed.
    """

    def __init__(self, first: int, stop: int, end: int, earliest: int = 0):
        self.first, self.stop, self.end, self.earliest = first, stop, end, earliest

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V) with minus infinity for everything else.

        Raises:
            RuntimeError: If scores are not finite.
        """
        if scores.isnan().any() or scores[:, self.first : self.stop].isinf().any():
            raise RuntimeError("the language model gives NaN or infinite scores; its weights are damaged, load others")
        allowed = torch.full_like(scores, -torch.inf)
        allowed[:, self.first : self.stop] = scores[:, self.first : self.stop]
        if input_ids.shape[1] >= self.earliest:
            allowed[:, self.end] = scores[:, self.end]
        return allowed


class WindowedPenalty(LogitsProcessor):
    """Takes a penalty off the score of every id for each time it occurs among the last ids.

    The window makes it fit for speech, where every code comes back after a while, and the count stops a model from
    staying with one code, as it does in silence.

    Args:
        penalty: Taken off for each time.
        window: How many ids are looked at.
    """

    def __init__(self, penalty: float, window: int):
        self.penalty, self.window = penalty, window

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V) after the ids (B, S)."""
        last = input_ids[:, -self.window :]
        return scores.scatter_add(1, last, torch.full(last.shape, -self.penalty, device=scores.device))


def _without_text(prompt: np.ndarray) -> np.ndarray:
    """Ids (S,) of a prompt less its text."""
    return np.concatenate([prompt[:1], prompt[np.argmax(prompt == AUDIO) :]])


def _choose(scores: Tensor, generators: list[torch.Generator]) -> Tensor:
    """Ids (B,) drawn from the softmax of scores (B, V)."""
    chances = scores.softmax(-1)
    return torch.cat([torch.multinomial(row, 1, generator=g) for row, g in zip(chances, generators, strict=True)])


def _check_prompt(ids: np.ndarray, layout: Layout, context: int) -> None:
    """Refuse ids (S,) that are not `<bos> text <audio> codes`, or that fill the context."""
    audio = np.flatnonzero(ids == AUDIO)
    if not len(audio) or ids[0] != BOS:
        raise ValueError(f"a prompt must be <bos> text <audio> codes, got ids that start with {ids[:8].tolist()}")
    layout.ids_to_pieces(ids[1 : audio[0]])
    layout.ids_to_codes(ids[audio[0] + 1 :])
    if len(ids) >= context:
        raise ValueError(f"the prompt takes {len(ids)} tokens and leaves no room in the context of {context}")
