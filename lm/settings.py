"""Settings of language models; loads nothing heavy, because the help of commands is made of it."""

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

from q2d2_tokenizer.training.settings import LoopConfig

if TYPE_CHECKING:
    from transformers import GenerationConfig

# Names of a generation config of transformers, and those of the settings.
_NAMES = {
    "do_sample": "do_sample",
    "temperature": "temperature",
    "top_k": "top_k",
    "top_p": "top_p",
    "guidance_scale": "guidance_scale",
    "min_new_tokens": "min_codes",
    "max_new_tokens": "max_codes",
}


@dataclass
class ModelSettings:
    """Size of a language model; everything else is Llama's default."""

    hidden_size: int = 384
    """Width of the model."""
    num_layers: int = 8
    """Number of transformer blocks."""
    num_heads: int = 6
    """Attention heads per block."""
    intermediate_size: int = 1024
    """Width inside the feed-forward layers."""
    context: int = 1536
    """Longest sequence, in tokens of text and audio."""
    attention_dropout: float = 0.0
    """Fraction of attention weights dropped in training."""
    audio_head: str = "flat"
    """Output layer for audio: flat, one softmax over all tokens; or pairs, one softmax per group of the codec."""
    text_positions: str = "order"
    """Positions of text: order, one after the other; or durations, where their sound is expected."""
    tie_embeddings: bool = True
    """Use one table of embeddings for input and output."""

    def __post_init__(self):
        if self.hidden_size % self.num_heads or (self.hidden_size // self.num_heads) % 2:
            raise ValueError(
                f"hidden_size must be an even multiple of num_heads, got {self.hidden_size} and {self.num_heads}"
            )
        if self.audio_head not in ("flat", "pairs"):
            raise ValueError(f"audio_head must be 'flat' or 'pairs', got {self.audio_head!r}")
        if self.text_positions not in ("order", "durations"):
            raise ValueError(f"text_positions must be 'order' or 'durations', got {self.text_positions!r}")


@dataclass(kw_only=True)
class TrainConfig(LoopConfig):
    """Everything a training run depends on, besides the size of the model."""

    data: list[str]
    """Token shards (Parquet), folders or globs; list a source twice to weight it double."""
    validation_data: list[str] = field(default_factory=list)
    """Token shards to validate on, given like --data; of other recordings."""
    text_model: str = ""
    """Text tokenizer, a file or a folder; without one it is a model of speech alone."""
    weights: str = ""
    """Folder of a language model to begin from, or bundled; random weights if left out."""
    speech_data: list[str] = field(default_factory=list)
    """More token shards to train on, given like --data; their texts are ignored."""
    spelled_share: float = 0.05
    """Fraction of the words with a known pronunciation that are given in letters."""
    reading_layers: list[int] = field(default_factory=list)
    """Layers whose first two heads are initialised to attend to the current text, such as 1 2; see lm/reading.py."""
    speech_only_share: float = 0.1
    """Fraction of captioned recordings trained without their text."""
    steps: int = 20_000
    """Optimizer steps in all. 2,400 continue the bundled model on tokens of another codec; a new one takes 3,300 or
    more on a few hours of one voice."""
    tokens_per_batch: int = 8_192
    """Tokens per step, padding included, over all processes."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.95])
    weight_decay: float = 0.1
    """AdamW weight decay of matrices; other weights have none."""
    warmup_steps: int = 200
    decay_steps: int = 4_000
    log_every: int = 20
    validate_every: int = 500

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weights and self.reading_layers:
            raise ValueError("reading_layers would reset heads of the weights; leave one of the two out")
        if not 0 <= self.speech_only_share <= 1:
            raise ValueError(f"speech_only_share must be within 0 and 1, got {self.speech_only_share}")
        self.require_positive("tokens_per_batch")


@dataclass(frozen=True)
class GenerationSettings:
    """What is sampled and when it ends; lengths are in tokens."""

    temperature: float = 0.5
    """Temperature of sampling: higher is more varied, 0 always takes the likeliest token."""
    top_k: int = 0
    """Choose each token among this many, the likeliest; 0 for all."""
    top_p: float = 0.9
    """Choose each token among the likeliest, as many as together have this probability; 1 for all."""
    guidance_scale: float = 1.0
    """How strongly the text steers: 1 as it was learned, 2 twice as far away from speech without the text."""
    candidates: int = 1
    """Speak each text this many times, at once, and keep the attempt that fits the text best. Audio comes when all have
    ended; with a guidance_scale of 1 there can be only one."""
    repetition_penalty: float = 0.0
    """Make a token less likely by this much (in nats) for each time it occurs in the repetition window; 0 for not."""
    repetition_window: int = 40
    """Number of last tokens that count for the repetition penalty."""
    min_codes: int = 1
    """Allow the end only after this many tokens."""
    max_codes: int = 1500
    """Stop after this many tokens; the context may hold fewer."""
    loop_codes: int = 150
    """Stop when this many last tokens hold at most a quarter as many different ones, a loop or silence; 0 for never."""
    seed: int = 0
    """Random seed of sampling; row i of a batch has the seed plus i."""

    def __post_init__(self):
        if self.temperature < 0 or not 0 < self.top_p <= 1 or self.top_k < 0 or self.repetition_penalty < 0:
            raise ValueError(
                "temperature, top_k and repetition_penalty must be at least 0 and top_p above 0 and at most 1, got "
                f"{self.temperature}, {self.top_k}, {self.repetition_penalty} and {self.top_p}"
            )
        if self.guidance_scale < 0:
            raise ValueError(f"guidance_scale must be at least 0, got {self.guidance_scale}")
        if self.candidates < 1 or (self.candidates > 1 and self.guidance_scale == 1):
            raise ValueError(
                "candidates must be at least 1, and they are compared by what guidance computes: more than 1 need "
                f"another guidance_scale than 1, got {self.candidates} and {self.guidance_scale}"
            )
        if not 1 <= self.min_codes <= self.max_codes or self.repetition_window < 1 or self.loop_codes < 0:
            raise ValueError(
                "lengths must keep to 1 <= min_codes <= max_codes, repetition_window >= 1 and loop_codes >= 0, got "
                f"{self.min_codes}, {self.max_codes}, {self.repetition_window} and {self.loop_codes}"
            )

    @classmethod
    def from_generation_config(cls, config: "GenerationConfig", **others: Any) -> "GenerationSettings":
        """Settings of a generation config of transformers.

        Args:
            config: With any of do_sample, temperature, top_k, top_p, guidance_scale, min_new_tokens, max_new_tokens.
            **others: Settings that such a config does not have.

        Raises:
            ValueError: If it asks for anything else, or a value is out of range.
        """
        from .generation_config import fields_of

        values = {_NAMES[name]: value for name, value in fields_of(config, _NAMES).items()}
        if not values.pop("do_sample", True):
            values["temperature"] = 0.0
        return cls(**values, **others)


@dataclass(frozen=True)
class SpeechOptions(GenerationSettings):
    """How speech is sampled and how long it may be."""

    guidance_scale: float = 2.0  # was best for an earlier bundled model on held-out texts, see docs/LOG.md
    """How strongly the text steers: 1 as it was learned, 2 twice as far away from speech without the text. Other values
    than 1 take up to twice the time."""
    min_codes: int = field(init=False, default=1)
    max_codes: int = field(init=False, default=1500)
    max_seconds: float = 20.0
    """Longest speech generated at a time, in seconds."""
    min_seconds: float = 0.0
    """Shortest speech, in seconds; before that the model may not end."""

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.min_seconds < float("inf") or not 0 < self.max_seconds < float("inf"):
            raise ValueError(
                f"max_seconds must be a number above 0 and min_seconds at least 0, got {self.max_seconds} and "
                f"{self.min_seconds}"
            )

    def settings(self, frame_rate: float) -> GenerationSettings:
        """Settings of generation, with seconds as codes of a codec with `frame_rate` codes a second."""
        values = {one.name: getattr(self, one.name) for one in fields(GenerationSettings)}
        values["min_codes"] = max(1, round(self.min_seconds * frame_rate))
        values["max_codes"] = max(1, round(self.max_seconds * frame_rate))
        return GenerationSettings(**values)


# At a temperature of .5, which is best for text, 8 of 16 fell silent; docs/LOG.md.
CONTINUATION = SpeechOptions(temperature=1.0, max_seconds=10.0)
