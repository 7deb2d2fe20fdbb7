"""Write the page of `space/` with models and runtime, as a folder that any web server or a static Space serves.

npm install --prefix space
python scripts/build_space.py --output runs/space
python scripts/build_space.py --output runs/space --serve 8000
"""

import argparse
import functools
import gzip
import http.server
import json
import shutil
from pathlib import Path

import lm
from lm.model import LanguageModel
from q2d2_tokenizer import Q2D2Model, default_checkpoint, sample_recording
from q2d2_tokenizer.export_onnx import export_codec, export_language_model
from q2d2_tokenizer.lattices import build_groups, lattice_neighbours, lattice_points

PAGE = Path(__file__).parents[1] / "space"
RUNTIME = PAGE / "node_modules" / "onnxruntime-web" / "dist"
RUNTIME_FILES = ["ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"]
RUNTIME_FILES += ["ort.webgpu.min.mjs", "ort-wasm-simd-threaded.asyncify.mjs", "ort-wasm-simd-threaded.asyncify.wasm"]
PARTS = ["encoder", "decoder", "language_model"]


def build(output: Path) -> None:
    """Write the whole folder.

    Raises:
        SystemExit: If onnxruntime-web is not installed.
    """
    missing = [name for name in RUNTIME_FILES if not (RUNTIME / name).exists()]
    if missing:
        raise SystemExit(f"{RUNTIME} lacks {', '.join(missing)}; run: npm install --prefix space")
    for name in ("models", "ort"):
        (output / name).mkdir(parents=True, exist_ok=True)
    for path in PAGE.iterdir():
        if path.is_file() and path.name not in ("package.json", "package-lock.json"):
            shutil.copy(path, output)
    for name in RUNTIME_FILES:
        shutil.copy(RUNTIME / name, output / "ort")
    shutil.copy(sample_recording(), output / "sample.wav")
    write_models(output / "models")


def write_models(folder: Path) -> None:
    """Write the models, packed, and vocabulary.json with all that the page has to know of them."""
    codec = Q2D2Model.from_pretrained(default_checkpoint()).eval()
    language_model = LanguageModel.load(lm.default_checkpoint(), codec.fingerprint())
    assert language_model.text is not None and language_model.text.pronunciations is not None
    export_codec(codec, folder)
    export_language_model(language_model, folder)
    facts = {name: read_facts(folder / f"{name}.onnx") for name in PARTS}
    for name in [*(f"{part}.onnx" for part in PARTS), "pronunciations.txt"]:
        (folder / f"{name}.gz").write_bytes(gzip.compress((folder / name).read_bytes(), mtime=0))
    for path in folder.iterdir():
        if path.suffix != ".gz":
            path.unlink()
    config, layout, text = codec.config, language_model.layout, language_model.text
    groups = build_groups(config.lattice, config.levels, config.group_size)
    vocabulary = {
        "codec_fingerprint": codec.fingerprint(),
        "sampling_rate": config.sampling_rate,
        "hop_length": config.hop_length,
        "bitrate": config.bitrate,
        "points": [lattice_points(group) for group in groups],
        "neighbours": [lattice_neighbours(group) for group in groups],
        "encoder": facts["encoder"],
        "decoder": facts["decoder"],
        "layout": {
            "text_offset": layout.text_offset,
            "audio_offset": layout.audio_offset,
            "codes_per_piece": layout.codes_per_piece,
            "codes_before_text": layout.codes_before_text,
            "context": language_model.model.config.max_position_embeddings,
            "past_shape": facts["language_model"]["past_shape"],
        },
        "pieces": text.pieces_with_scores(),
        "bytes": {path.name.partition(".")[0]: path.stat().st_size for path in sorted(folder.glob("*.gz"))},
    }
    (folder / "vocabulary.json").write_text(json.dumps(vocabulary, separators=(",", ":"), ensure_ascii=False) + "\n")


def read_facts(path: Path) -> dict:
    """What a caller of an ONNX file has to know: delay and size of the state, or the shape of keys and values."""
    import onnx

    model = onnx.load(path)
    shapes = {one.name: [axis.dim_value for axis in one.type.tensor_type.shape.dim] for one in model.graph.input}
    if "past" in shapes:
        return {"past_shape": shapes["past"]}
    metadata = {entry.key: entry.value for entry in model.metadata_props}
    contexts = {name: int(metadata[name]) for name in ("context_frames", "context_frames_before")}
    return {**contexts, "state_size": shapes["state"][1]}


class Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files with the headers that let a page use threads."""

    extensions_map = {**http.server.SimpleHTTPRequestHandler.extensions_map, ".mjs": "text/javascript"}

    def end_headers(self) -> None:
        """Add the headers of an isolated page."""
        self.send_header("Cross-Origin-Opener-Policy", "same-origin")
        self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        self.send_header("Cache-Control", "no-store")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


def server(folder: Path, port: int) -> http.server.ThreadingHTTPServer:
    """A server of a folder on this machine; port 0 takes a free one."""
    return http.server.ThreadingHTTPServer(("127.0.0.1", port), functools.partial(Handler, directory=str(folder)))


def main() -> None:
    """Build, and serve if asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    parser.add_argument("--serve", type=int, metavar="PORT", help="then serve it on this machine")
    options = parser.parse_args()
    build(options.output)
    sizes = {path: path.stat().st_size for path in options.output.rglob("*") if path.is_file()}
    models = sum(size for path, size in sizes.items() if path.parent.name == "models")
    print(f"wrote {options.output}, {sum(sizes.values()) / 1e6:.1f} MB, of which {models / 1e6:.1f} MB are models")
    if options.serve:
        print(f"open http://127.0.0.1:{options.serve}")
        server(options.output, options.serve).serve_forever()


if __name__ == "__main__":
    main()
