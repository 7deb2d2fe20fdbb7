"""The command `q2d2 bundle-lm`."""

from pathlib import Path

LARGEST_MB = 60


def bundle_lm(weights: Path, *, output: Path | None = None) -> None:
    """Put a trained language model where the package finds it: float16 weights, layout, text tokenizer.

        q2d2 bundle-lm runs/lm/weights

    Args:
        weights: Folder of a trained language model, output/weights of a run.
        output: Folder to write; that of the package if left out.
    """
    import lm
    from lm.bundled import export_checkpoint
    from lm.model import LanguageModel

    from ..audio.files import make_folder

    output = output or Path(lm.__file__).parent / "checkpoint"
    language_model = LanguageModel.load(weights)
    parameters = language_model.model.num_parameters()
    if parameters * 2 > LARGEST_MB * 1e6:
        raise ValueError(
            f"{parameters / 1e6:.1f} M parameters take more than {LARGEST_MB} MB in float16; train a smaller model"
        )
    make_folder(output)
    size = export_checkpoint(language_model, output)
    print(f"{output}: {parameters / 1e6:.1f} M parameters, {size / 1e6:.1f} MB")
