"""Speech from a language model: prompts, what is sampled, when it ends, step by step or at once.

`model.generate` of transformers gives the same codes (a saved model's generation config allows nothing but codes and
`<eos>`); the loop here is for real time: it yields codes as they come, each row of a batch has its own random numbers,
and it says why it ended.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .layout import AUDIO, BOS, PAD, Layout
from .model import LanguageModel
from .settings import GenerationSettings
from .steps import CachedSteps

ENDED, MAX_LENGTH, LOOPED = "ended", "max_length", "looped"
_NONE = np.empty(0, np.int64)
_END = 0  # choice of the end; that of a code is the code plus one
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
        self._layout, self.settings = language_model.layout, settings
        self._llama = language_model.prepared()
        context = self._llama.config.max_position_embeddings
        for prompt in prompts:
            _check_prompt(prompt, self._layout, context)
        text = language_model.text
        spoken = [len(text.encode(said)) if text and said else 0 for said in prompt_texts or [""] * len(prompts)]
        self._reads_text = [bool(prompt[1] != AUDIO) for prompt in prompts]
        is_guided = settings.guidance_scale != 1 and any(self._reads_text)
        candidates = settings.candidates if is_guided else 1
        self._kept = list(range(len(prompts)))  # candidate of each prompt
        prompts, spoken = prompts * candidates, spoken * candidates
        self._prompt_codes = [self._layout.ids_to_codes(p[np.argmax(p == AUDIO) + 1 :]).tolist() for p in prompts]
        self._limits = [min(settings.max_codes, context - len(prompt)) for prompt in prompts]
        self._reasons: list[str | None] = [None] * len(prompts)  # of all candidates
        self._gains = np.zeros(len(prompts))  # what the text adds to the log probability of a code, on average
        # With guidance every prompt has a second row, without its text, that gets the same codes.
        unguided = [_without_text(prompt) for prompt in prompts] if is_guided else []
        self._lay_out([*prompts, *unguided], [*spoken, *[0] * len(unguided)])

    def _lay_out(self, rows: list[np.ndarray], spoken: list[int]) -> None:
        """Ids (B, S) of the prompts of all rows, with padding before them, and positions of all ids there may be."""
        size, device = max(map(len, rows)), self._llama.device
        self._starts = [size - len(prompt) for prompt in rows]
        ids = np.stack(
            [np.pad(prompt, (start, 0), constant_values=PAD) for prompt, start in zip(rows, self._starts, strict=True)]
        )
        self._ids = torch.from_numpy(ids).to(device)
        positions = self._layout.position_ids(self._ids, torch.tensor(spoken, device=device))
        if positions is None:
            positions = (torch.arange(size) - torch.tensor(self._starts).unsqueeze(1)).clamp(min=0).to(device)
        later = torch.arange(1, max(self._limits) + 1, device=device)
        self._positions = torch.cat([positions, positions[:, -1:] + later], dim=1)

    @property
    def reasons(self) -> list[str | None]:
        """Why the codes of each prompt ended; None while they go on."""
        return [self._reasons[row] for row in self._kept]

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
        num_rows, num_prompts, settings = len(self._reasons), len(self._kept), self.settings
        self._reasons, self._gains = [None] * num_rows, np.zeros(num_rows)
        self._codes: list[list[int]] = [[] for _ in range(num_rows)]
        self._recent: list[Counter[int]] = [Counter() for _ in range(num_rows)]
        seeds = [settings.seed + row % num_prompts + row // num_prompts * _CANDIDATE_SEEDS for row in range(num_rows)]
        uniform = [_random_numbers(seed, settings.max_codes) for seed in seeds]
        steps = CachedSteps(self._llama, self._positions, self._starts)
        states, place, count = steps.read(self._llama.embed(self._ids)), self._ids.shape[1], 0
        while True:
            scores, gains = self._guide(self._llama.log_probs(states))
            chosen = choose(self._allowed(scores, count), settings, [numbers[count] for numbers in uniform])
            codes, count = self._take(chosen), count + 1
            if gains is not None:
                gain = gains.cpu().numpy()[np.arange(num_rows), chosen]
                self._gains += np.where(np.array(codes) >= 0, gain - self._gains, 0) / count
            if max(codes) >= 0:
                yield np.array(codes)
            if None not in self._reasons:
                return
            known = [max(code, 0) for code in codes]  # what comes after the end of a row is not used
            embedded = self._llama.embed_codes(known * (len(self._ids) // num_rows))
            states, place = steps.step(embedded, place), place + 1

    def _guide(self, scores: Tensor) -> tuple[Tensor, Tensor | None]:
        """Scores (B, V) of those of all rows (classifier-free guidance, as in transformers), and what the text adds."""
        if len(scores) == len(self._reasons):
            return scores, None
        with_text, without = scores.chunk(2)
        gains = with_text - without if len(self._reasons) > len(self._kept) else None  # to compare candidates
        return torch.lerp(without, with_text, self.settings.guidance_scale), gains

    def _allowed(self, scores: Tensor, count: int) -> Tensor:
        """Scores (B, V) after `count` codes, less the penalty, and without the end as long as it is not allowed."""
        if self.settings.repetition_penalty:
            for row, prompt, codes in zip(scores, self._prompt_codes, self._codes, strict=True):
                last = torch.tensor([*prompt, *codes][-self.settings.repetition_window :], dtype=torch.long) + 1
                row -= self.settings.repetition_penalty * torch.bincount(last.to(row.device), minlength=len(row))
        if count < self.settings.min_codes:
            scores[:, _END] = -torch.inf
        return scores

    def _take(self, chosen: list[int]) -> list[int]:
        """Note the choices (B,) of a step; returns codes (B,)."""
        codes = [-1] * len(chosen)
        for row, choice in enumerate(chosen):
            if self._reasons[row] is not None:
                continue
            if choice == _END:
                self._reasons[row] = ENDED
                continue
            codes[row] = choice - 1
            self._codes[row].append(choice - 1)
            if self._loops(row):
                self._reasons[row] = LOOPED
            elif len(self._codes[row]) == self._limits[row]:
                self._reasons[row] = MAX_LENGTH
        return codes

    def _loops(self, row: int) -> bool:
        """Whether the last codes of a row, of which one is new, are so few different ones: a loop, or silence."""
        size, codes, recent = self.settings.loop_codes, self._codes[row], self._recent[row]
        recent[codes[-1]] += 1
        if not 0 < size < len(codes):
            return 0 < size == len(codes) and len(recent) <= size // 4
        recent[codes[-1 - size]] -= 1
        if not recent[codes[-1 - size]]:
            del recent[codes[-1 - size]]
        return len(recent) <= size // 4


def choose(scores: Tensor, settings: GenerationSettings, uniform: Sequence[float]) -> list[int]:
    """Choices (B,) drawn from the softmax of scores (B, V), by temperature, top-k and then top-p.

    Args:
        scores: Log probabilities, up to a constant.
        settings: What is sampled.
        uniform: Random numbers (B,), at least 0 and below 1.

    Raises:
        RuntimeError: If scores are not finite.
    """
    if not settings.temperature:
        _check_finite(float(scores.max(-1).values.sum()))
        return scores.argmax(-1).tolist()
    chances = (scores / settings.temperature).softmax(-1).cpu().numpy()
    return [_draw(row, settings, number) for row, number in zip(chances, uniform, strict=True)]


def _draw(chances: np.ndarray, settings: GenerationSettings, number: float) -> int:
    """A choice drawn from chances (V,) by a random number of at least 0 and below 1."""
    choices, share = None, settings.top_p
    if settings.top_k:
        choices = chances.argpartition(-min(settings.top_k, len(chances)))[-settings.top_k :]
    elif settings.top_p < 1:  # all that are smaller have less than the rest together
        (choices,) = (chances >= (1 - settings.top_p) / len(chances)).nonzero()
    if choices is not None:
        likely = -chances[choices]
        order = likely.argsort(kind="stable")
        choices, chances = choices[order], -likely[order]
    cumulative = chances.cumsum(dtype=np.float64)
    _check_finite(cumulative[-1] if len(cumulative) else math.nan)
    if settings.top_k or settings.top_p == 1:
        share *= cumulative[-1]
    last = min(int(cumulative.searchsorted(share)), len(cumulative) - 1)  # with it there is enough
    place = int(cumulative.searchsorted(number * cumulative[last], side="right"))
    return place if choices is None else int(choices[place])


def _check_finite(value: float) -> None:
    if not math.isfinite(value):
        raise RuntimeError("the language model gives NaN or infinite scores; its weights are damaged, load others")


def _random_numbers(seed: int, count: int) -> list[float]:
    """Numbers of at least 0 and below 1."""
    return torch.rand(count, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).tolist()


def _without_text(prompt: np.ndarray) -> np.ndarray:
    """Ids (S,) of a prompt less its text."""
    return np.concatenate([prompt[:1], prompt[np.argmax(prompt == AUDIO) :]])


def _check_prompt(ids: np.ndarray, layout: Layout, context: int) -> None:
    """Refuse ids (S,) that are not `<bos> text <audio> codes`, or that fill the context."""
    audio = np.flatnonzero(ids == AUDIO)
    if not len(audio) or ids[0] != BOS:
        raise ValueError(f"a prompt must be <bos> text <audio> codes, got ids that start with {ids[:8].tolist()}")
    layout.ids_to_pieces(ids[1 : audio[0]])
    layout.ids_to_codes(ids[audio[0] + 1 :])
    if len(ids) >= context:
        raise ValueError(f"the prompt takes {len(ids)} tokens and leaves no room in the context of {context}")
