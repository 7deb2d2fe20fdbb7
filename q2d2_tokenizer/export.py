"""Checkpoints for release: float16 weights on disk, float32 in use, with or without the code that reads them."""

import copy
from pathlib import Path

import torch
from transformers.dynamic_module_utils import custom_object_save

from .configuration_q2d2 import FOLDER_LOADER, Q2D2Config
from .feature_extraction_q2d2 import Q2D2FeatureExtractor
from .modeling_q2d2 import Q2D2Model
from .processing_q2d2 import Q2D2Processor

_MODEL_AUTO_MAP = {
    "AutoConfig": "configuration_q2d2.Q2D2Config",
    "AutoModel": "modeling_q2d2.Q2D2Model",
    "AutoModelForAudioTokenization": "modeling_q2d2.Q2D2Model",
}
_PROCESSOR_AUTO_MAP = {
    "AutoFeatureExtractor": "feature_extraction_q2d2.Q2D2FeatureExtractor",
    "AutoProcessor": "processing_q2d2.Q2D2Processor",
}

# Of the bundled folder: a module in it finds the code in the package, so that it is not there twice.
_FOLDER_MODEL_AUTO_MAP = {"AutoConfig": f"{FOLDER_LOADER}.Config"}
_FOLDER_PROCESSOR_AUTO_MAP = {
    "AutoFeatureExtractor": f"{FOLDER_LOADER}.FeatureExtractor",
    "AutoProcessor": f"{FOLDER_LOADER}.Processor",
}


def export_checkpoint(model: Q2D2Model, folder: str | Path, remote_code: bool = False) -> str:
    """Write config, feature extractor and weights to a folder; returns the fingerprint of what was written.

    Parameters are rounded to float16 on disk; `from_pretrained` gives a float32 model of that fingerprint. The model
    that is passed stays as it is, so its own fingerprint is another one unless its parameters were float16 values.

    Args:
        model: The codec.
        folder: Where to write; made if absent.
        remote_code: Also write the code, so that `trust_remote_code=True` loads the folder where this package is not
            installed.

    Raises:
        ValueError: If a parameter is too large for float16 or not finite.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    rounded = _rounded_to_half(model)
    vars(rounded.config).pop("auto_map", None)  # of a model that was itself loaded from a folder with code
    if remote_code:
        rounded.config.auto_map = dict(_MODEL_AUTO_MAP)
    elif _finds_package(folder):
        rounded.config.auto_map = dict(_FOLDER_MODEL_AUTO_MAP)
    parameters = {name for name, _ in rounded.named_parameters()}
    state = {name: x.half() if name in parameters else x for name, x in rounded.state_dict().items()}
    rounded.save_pretrained(folder, state_dict=state)
    save_feature_extractor(rounded.config, folder, remote_code)
    return rounded.fingerprint()


def _rounded_to_half(model: Q2D2Model) -> Q2D2Model:
    """Copy of a model, float32 on the CPU, whose parameters are float16 values."""
    rounded = copy.deepcopy(model).cpu().float()
    for name, parameter in rounded.named_parameters():
        parameter.data = parameter.data.half().float()
        if not torch.isfinite(parameter).all():
            raise ValueError(f"parameters must be finite and fit into float16; {name} does not")
    return rounded


def save_feature_extractor(config: Q2D2Config, folder: Path, remote_code: bool = False) -> None:
    """Write the feature extractor of a codec beside its weights, for `AutoFeatureExtractor` and `AutoProcessor`."""
    feature_extractor = Q2D2FeatureExtractor(sampling_rate=config.sampling_rate)
    feature_extractor.processor_class = Q2D2Processor.__name__  # for AutoProcessor
    if remote_code:
        feature_extractor.auto_map = dict(_PROCESSOR_AUTO_MAP)
        for cls in (Q2D2Model, Q2D2Processor):  # with the files they import
            custom_object_save(cls, folder)
    elif _finds_package(folder):
        feature_extractor.auto_map = dict(_FOLDER_PROCESSOR_AUTO_MAP)
    feature_extractor.save_pretrained(folder)


def _finds_package(folder: Path) -> bool:
    return (folder / f"{FOLDER_LOADER}.py").exists()
