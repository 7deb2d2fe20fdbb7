"""What is taken of a generation config of transformers; whatever else it asks for is refused by name."""

from collections.abc import Collection
from typing import Any

from transformers import GenerationConfig

from .layout import BOS, EOS, PAD

_IDS = {"pad_token_id": PAD, "bos_token_id": BOS, "eos_token_id": EOS}
# Settings that change nothing at these values.
_WITHOUT_EFFECT: dict[str, Any] = {
    "num_beams": 1,
    "num_return_sequences": 1,
    "repetition_penalty": 1.0,
    "length_penalty": 1.0,
    "typical_p": 1.0,
    "no_repeat_ngram_size": 0,
    "early_stopping": False,
    "use_cache": True,
    "output_scores": False,
    "return_dict_in_generate": False,
}


def fields_of(config: GenerationConfig, honoured: Collection[str]) -> dict[str, Any]:
    """Fields of a config that are set, among those that are honoured.

    Raises:
        ValueError: If any other field asks for something, or an id is not that of the layout.
    """
    given = {name: value for name, value in config.to_diff_dict().items() if name != "transformers_version"}
    fields = {name: given.pop(name) for name in honoured if given.get(name) is not None}
    expected = _IDS | _WITHOUT_EFFECT
    refused = {
        name: value
        for name, value in given.items()
        if value is not None and not (name in expected and value in (expected[name], [expected[name]]))
    }
    if refused:
        settings = ", ".join(f"{name}={value!r}"[:80] for name, value in sorted(refused.items()))
        raise ValueError(
            f"generation_config asks for {settings}; honoured are {', '.join(honoured)}, and ids are those of the "
            f"layout ({', '.join(f'{name} {value}' for name, value in _IDS.items())}); leave out the others"
        )
    return fields
