"""The language model: a Llama of transformers, built from scratch, in its own weights layout."""

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from .layout import BOS, EOS, PAD, Layout
from .text import TEXT_FILE, TextTokenizer

IGNORED = -100


@dataclass
class ModelSettings:
    """Size of a language model; everything else is Llama's default."""

    hidden_size: int = field(default=384, metadata={"help": "Width"})
    num_layers: int = field(default=8, metadata={"help": "Blocks"})
    num_heads: int = field(default=6, metadata={"help": "Attention heads"})
    intermediate_size: int = field(default=1024, metadata={"help": "Width inside the MLPs"})
    context: int = field(default=1536, metadata={"help": "Longest sequence, in tokens"})
    attention_dropout: float = field(default=0.0, metadata={"help": "Share of attention weights dropped in training"})
    tie_embeddings: bool = field(default=True, metadata={"help": "Whether input and output share one table"})

    def __post_init__(self):
        if self.hidden_size % self.num_heads or (self.hidden_size // self.num_heads) % 2:
            raise ValueError(
                f"hidden_size must be an even multiple of num_heads, got {self.hidden_size} and {self.num_heads}"
            )


def make_language_model(settings: ModelSettings, layout: Layout) -> LlamaForCausalLM:
    """A language model with random weights; `generate` knows how its sequences begin and end and what audio is."""
    config = LlamaConfig(
        vocab_size=layout.vocab_size,
        hidden_size=settings.hidden_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        intermediate_size=settings.intermediate_size,
        max_position_embeddings=settings.context,
        attention_dropout=settings.attention_dropout,
        tie_word_embeddings=settings.tie_embeddings,
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
    )
    model = LlamaForCausalLM(config)
    model.generation_config = GenerationConfig(
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        max_length=settings.context,
        suppress_tokens=[i for i in range(layout.audio_offset) if i != EOS],
    )
    return model


class Scorer(nn.Module):
    """Log loss of a language model on the tokens it is to predict; the output layer sees those positions alone.

    Args:
        model: The language model.
    """

    def __init__(self, model: LlamaForCausalLM):
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, targets: Tensor) -> Tensor:
        """Nats (n,) of the targets in reading order.

        Args:
            input_ids: (B, S) int64, padded at the end. Attention looks back only, so no token sees the padding and
                no attention mask is needed.
            targets: (B, S) int64, the token after each position, or `IGNORED` where none is scored.
        """
        hidden = self.model.model(input_ids=input_ids, use_cache=False).last_hidden_state
        scored = targets != IGNORED
        logits = self.model.lm_head(hidden[scored])  # (n, V)
        return nn.functional.cross_entropy(logits.float(), targets[scored], reduction="none")


@dataclass(frozen=True)
class LanguageModel:
    """A language model with what it takes to use it.

    Args:
        model: The weights.
        layout: Its vocabulary.
        text: Its text tokenizer; None for a model of speech alone.

    Raises:
        ValueError: If the parts do not belong together.
    """

    model: LlamaForCausalLM
    layout: Layout
    text: TextTokenizer | None = None

    def __post_init__(self):
        if self.model.config.vocab_size != self.layout.vocab_size:
            raise ValueError(
                f"the model has {self.model.config.vocab_size} ids, its layout {self.layout.vocab_size}; "
                "they are not of the same training run"
            )
        self.layout.check_text(self.text.fingerprint if self.text else "")

    def save(self, folder: str | Path) -> None:
        """Write weights, layout and text tokenizer into a folder, which any Llama runtime reads."""
        self.model.save_pretrained(folder)
        self.layout.save(folder)
        if self.text:
            self.text.save(folder)

    @classmethod
    def load(
        cls, folder: str | Path, codec_fingerprint: str | None = None, dtype: torch.dtype = torch.float32
    ) -> "LanguageModel":
        """Read what `save` wrote, for inference.

        Args:
            folder: Of the language model.
            codec_fingerprint: Of the codec it is to be used with; not checked if it is None.
            dtype: Of the weights in memory.

        Raises:
            ValueError: If the model is for another codec, or its parts do not belong together.
        """
        layout = Layout.load(folder, codec_fingerprint)  # before the weights: a wrong codec is refused at once
        text = TextTokenizer.load(folder) if (Path(folder) / TEXT_FILE).exists() else None
        return cls(LlamaForCausalLM.from_pretrained(folder, dtype=dtype).eval(), layout, text)
