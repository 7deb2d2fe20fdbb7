"""The command `q2d2 export-onnx`."""

from pathlib import Path


def export_onnx(
    *, output: Path, codec: str = "bundled", language_model: str = "bundled", first_points: int = 16
) -> None:
    """Export a codec and its language model to ONNX, to be run without torch, chunk by chunk.

        q2d2 export-onnx --output runs/onnx
        python scripts/onnx_stream.py runs/onnx recording.wav reconstruction.wav
        python scripts/onnx_speak.py runs/onnx "How are you?" speech.wav

    Writes encoder.onnx, decoder.onnx and language_model.onnx, and what reads text. Caches go in and come out, so a
    recording of any length takes little memory. The metadata name the codec.

    Args:
        output: Folder for the files.
        codec: Folder of a codec, its name on the Hub, or bundled.
        language_model: Folder of a language model of pair tokens, bundled, or none.
        first_points: The language model scores the codes of so many likely points of the first group; more take longer.
    """
    import onnxscript  # noqa: F401  (torch exports with it; here, what is missing is named before any work)
    import torch

    import lm
    from lm.model import LanguageModel

    from ..audio.files import make_folder
    from ..bundled import load_codec
    from ..export_onnx import export_codec, export_language_model

    make_folder(output)
    model = load_codec(codec, dtype=torch.float32)
    speaker = None
    if language_model != "none":
        folder = lm.default_checkpoint() if language_model == "bundled" else language_model
        speaker = LanguageModel.load(folder, model.fingerprint())
    export_codec(model, output)
    if speaker:
        export_language_model(speaker, output, first_points)
    for path in sorted(output.glob("*.onnx")):
        print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")
