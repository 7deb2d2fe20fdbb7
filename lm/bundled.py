"""The language model that comes with the package, and making a folder for it."""

import copy
from pathlib import Path

import torch
from transformers import LlamaForCausalLM

from .model import LanguageModel, audio_generation_config
from .pairs import FOLDER_LOADER


def default_checkpoint() -> str:
    """Folder of the language model that comes with the package, for `LanguageModel.load`.

    Raises:
        FileNotFoundError: If none came with it.
    """
    folder = Path(__file__).parent / "checkpoint"
    if not (folder / "model.safetensors").exists():
        raise FileNotFoundError(
            f"no language model came with this package ({folder}); train one with scripts/train_lm.py and pass its "
            "folder output/weights"
        )
    return str(folder)


def export_checkpoint(language_model: LanguageModel, folder: str | Path) -> int:
    """Write a language model for sharing; returns the bytes of all its files.

    Weights are rounded to float16 on disk; they are float32 when loaded, as the config says.

    Args:
        language_model: With a flat head, it gets the generation config that `generate` of transformers needs.
        folder: Where to write; made if absent.

    Raises:
        ValueError: If a weight is too large for float16 or not finite.
    """
    folder = Path(folder)
    rounded = copy.deepcopy(language_model.model).cpu().float()
    if isinstance(rounded, LlamaForCausalLM):
        context = rounded.config.max_position_embeddings
        rounded.generation_config = audio_generation_config(language_model.layout, context)
    elif (folder / f"{FOLDER_LOADER}.py").exists():
        rounded.config.auto_map = {"AutoConfig": f"{FOLDER_LOADER}.Config"}
    halves = {name: weight.data.half() for name, weight in rounded.named_parameters()}  # tied ones once
    for name, weight in halves.items():
        if not torch.isfinite(weight).all():
            raise ValueError(f"weights must be finite and fit into float16; {name} does not")
    rounded.save_pretrained(folder, state_dict=halves)
    language_model.save_parts(folder)
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
