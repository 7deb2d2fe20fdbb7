"""The language model: a Llama of transformers, built from scratch, in its own weights layout; or one of pair tokens."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedConfig

from .alignment import ALIGNMENT_FILE, Alignment
from .layout import BOS, EOS, PAD, Layout
from .pairs import AnyLlama, PairLlamaConfig, PairLlamaForCausalLM
from .settings import ModelSettings
from .steps import PreparedLlama, checksum
from .text import TEXT_FILE, TextTokenizer

IGNORED = -100
_CLASSES = {"llama": LlamaForCausalLM, "pair_llama": PairLlamaForCausalLM}


def audio_generation_config(layout: Layout, context: int) -> GenerationConfig:
    """What `model.generate` of transformers does: nothing but codes and `<eos>`, which ends, within the context."""
    return GenerationConfig(
        pad_token_id=PAD,
        bos_token_id=BOS,
        eos_token_id=EOS,
        max_length=context,
        suppress_tokens=[i for i in range(layout.audio_offset) if i != EOS],
    )


def make_language_model(settings: ModelSettings, layout: Layout) -> AnyLlama:
    """A language model with random weights; `generate` knows how its sequences begin and end.

    Raises:
        ValueError: If pair tokens are wanted and the layout does not know the groups.
    """
    values: dict[str, Any] = {
        "hidden_size": settings.hidden_size,
        "num_hidden_layers": settings.num_layers,
        "num_attention_heads": settings.num_heads,
        "intermediate_size": settings.intermediate_size,
        "max_position_embeddings": settings.context,
        "attention_dropout": settings.attention_dropout,
        "tie_word_embeddings": settings.tie_embeddings,
        "pad_token_id": PAD,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
    }
    if settings.audio_head == "flat":
        model = LlamaForCausalLM(LlamaConfig(vocab_size=layout.vocab_size, **values))
        model.generation_config = audio_generation_config(layout, settings.context)
        return model
    if not layout.points_per_group:
        raise ValueError("pair tokens need points_per_group, which these token shards lack; tokenize again")
    groups = list(layout.points_per_group)
    return PairLlamaForCausalLM(PairLlamaConfig(vocab_size=layout.audio_offset, points_per_group=groups, **values))


@dataclass(frozen=True)
class LanguageModel:
    """A language model with what it takes to use it.

    Args:
        model: The weights.
        layout: Its vocabulary.
        text: Its text tokenizer; None for a model of speech alone.
        alignment: Fitted to its training data, if its text lies where its sound is.

    Raises:
        ValueError: If the parts do not belong together.
    """

    model: AnyLlama
    layout: Layout
    text: TextTokenizer | None = None
    alignment: Alignment | None = None
    _prepared: dict[tuple[int, ...], PreparedLlama] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self):
        config = self.model.config
        num_ids, groups = config.vocab_size, self.layout.points_per_group
        if isinstance(config, PairLlamaConfig):
            num_ids, groups = config.num_ids, tuple(config.points_per_group)
        if (num_ids, groups) != (self.layout.vocab_size, self.layout.points_per_group):
            raise ValueError(
                f"the model has {num_ids} ids in groups of {groups} points, its layout {self.layout.vocab_size} in "
                f"{self.layout.points_per_group}; they are not of the same training run"
            )
        self.layout.check_text(self.text.fingerprint if self.text else "")

    def prepared(self) -> PreparedLlama:
        """The weights as they are now, laid out for generation; done again when they have changed."""
        key = checksum(self.model)
        if key not in self._prepared:
            self._prepared.clear()
            self._prepared[key] = PreparedLlama(self.model, self.layout.audio_offset)
        return self._prepared[key]

    def save(self, folder: str | Path) -> None:
        """Write everything into a folder; with a flat head any Llama runtime reads it."""
        self.model.save_pretrained(folder)
        self.save_parts(folder)

    def save_parts(self, folder: str | Path) -> None:
        """Write all but the weights into a folder; what else was there of another model is deleted."""
        self.layout.save(folder)
        for name in (TEXT_FILE, ALIGNMENT_FILE):
            (Path(folder) / name).unlink(missing_ok=True)
        if self.text:
            self.text.save(folder)
        if self.alignment:
            self.alignment.save(folder)

    @classmethod
    def load(
        cls, folder: str | Path, codec_fingerprint: str | None = None, dtype: torch.dtype = torch.float32
    ) -> "LanguageModel":
        """Read what `save` wrote, for inference.

        Args:
            folder: Folder of the language model.
            codec_fingerprint: Fingerprint of the codec it is to be used with; not checked if it is None.
            dtype: Type of the weights in memory.

        Raises:
            ValueError: If the model is of another kind or for another codec, or its parts do not belong together.
        """
        layout = Layout.load(folder, codec_fingerprint)  # before the weights: a wrong codec is refused at once
        text = TextTokenizer.load(folder) if (Path(folder) / TEXT_FILE).exists() else None
        kind = PreTrainedConfig.get_config_dict(folder)[0].get("model_type")
        if kind not in _CLASSES:
            hint = f"; did you mean {folder}/weights?" if (Path(folder) / "weights").is_dir() else ""
            raise ValueError(f"{folder} must hold a model of type {' or '.join(_CLASSES)}, got {kind}{hint}")
        return cls(_CLASSES[kind].from_pretrained(folder, dtype=dtype).eval(), layout, text, Alignment.load(folder))
