"""Files that come with the package, and codecs by name."""

import json
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from .configuration_q2d2 import Q2D2Config
from .modeling_q2d2 import Q2D2Model

_FOLDER = Path(__file__).parent
_LOADING_ERRORS = (
    *(ValueError, AttributeError, OSError, RuntimeError, MemoryError),
    *(StrictDataclassError, SafetensorError),
)
BUNDLED = "bundled"  # what options call the files that come with the package


def default_checkpoint() -> str:
    """Folder of the codec that comes with the package, for `from_pretrained`."""
    return str(_FOLDER / "checkpoint")


def sample_recording() -> str:
    """A short wav file of read English that comes with the package; CMU ARCTIC, voice slt."""
    return str(_FOLDER / "samples" / "arctic_a0009.wav")


def codec_source(codec: str) -> str:
    """Folder or name on the Hub, for `from_pretrained`.

    Args:
        codec: Folder, name on the Hub, or `bundled`.

    Raises:
        ValueError: If no codec came with the package, there is no such folder and it cannot be a name on the Hub
            (owner/name), or the folder holds something else.
    """
    if codec == BUNDLED:
        if not Path(default_checkpoint()).is_dir():
            raise ValueError("no codec comes with this installation; pass another codec than 'bundled'")
        return default_checkpoint()
    if Path(codec).exists():
        _check_folder(Path(codec))
    elif codec.count("/") != 1 or codec[0] in "./~" or Path(codec).parent.is_dir():
        raise ValueError(
            f"there is no folder {codec}; a codec is a folder with config.json and weights, a name on the Hub "
            f"(owner/name, unless there is a folder called owner here), or {BUNDLED!r}"
        )
    return codec


def _check_folder(folder: Path) -> None:
    """Refuse a folder that holds no codec of ours; says what it holds."""
    if not (folder / "config.json").is_file():
        hint = f"; did you mean {folder}/weights?" if (folder / "weights").is_dir() else ""
        raise ValueError(f"{folder} is no folder of a codec: it has no config.json{hint}")
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{folder}/config.json is no JSON of a model: {error}") from error
    if kind != Q2D2Config.model_type:
        raise ValueError(f"{folder} holds a model of type {kind!r}, expected a codec of type {Q2D2Config.model_type!r}")


def load_codec(codec: str = BUNDLED, device: str = "cpu", **options: Any) -> Q2D2Model:
    """A codec, ready for use.

    Args:
        codec: Folder, name on the Hub, or `bundled`.
        device: Where it runs, such as `cpu` or `cuda`.
        **options: For `from_pretrained`.

    Raises:
        ValueError: If it cannot be loaded, or there is no such device.
    """
    source = codec_source(codec)
    try:
        model = Q2D2Model.from_pretrained(source, **options).eval()
    except _LOADING_ERRORS as error:
        raise ValueError(f"cannot load the codec {codec}: {error}") from error
    try:
        return model.to(device)
    except (AssertionError, RuntimeError) as error:  # what torch raises for a device that is not there
        raise ValueError(f"cannot use the device {device!r}: {error}") from error
