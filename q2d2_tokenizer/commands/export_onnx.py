"""The command `q2d2 export-onnx`."""

from pathlib import Path


def export_onnx(*, output: Path, codec: str = "bundled") -> None:
    """Export a codec to ONNX: encoder.onnx (audio -> tokens) and decoder.onnx (tokens -> audio), one file each.

        q2d2 export-onnx --output runs/onnx
        python scripts/onnx_example.py runs/onnx recording.wav reconstruction.wav

    Lengths are free; batches hold one recording, which is computed at once, not in blocks. The metadata of both files
    name sampling_rate, hop_length, codebook_size and codec_fingerprint.

    Args:
        output: Folder for both files.
        codec: Folder of a codec, its name on the Hub, or bundled.
    """
    import onnxscript  # noqa: F401  (torch exports with it; here, what is missing is named before any work)
    import torch

    from ..bundled import load_codec
    from ..export_onnx import export

    export(load_codec(codec, dtype=torch.float32), output)
    for path in sorted(output.glob("*.onnx")):
        print(f"wrote {path}, {path.stat().st_size / 1e6:.1f} MB")
