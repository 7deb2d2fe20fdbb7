"""Files that come with the package."""

from pathlib import Path


def default_checkpoint() -> str:
    """Folder of the codec that comes with the package, for `from_pretrained`."""
    return str(Path(__file__).parent / "checkpoint")


def sample_recording() -> str:
    """A short wav file of read English that comes with the package; CMU ARCTIC, voice slt."""
    return str(Path(__file__).parent / "samples" / "arctic_a0009.wav")
