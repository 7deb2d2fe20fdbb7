"""The command `q2d2 evaluate-domains`."""

from pathlib import Path
from typing import Any

from ..evaluation.domains import SNR_DB, collect, write_summary
from ..evaluation.evaluate import evaluate_codec
from ..evaluation.provenance import require_commit


def evaluate_domains(
    *,
    speech: Path,
    output: Path = Path("docs/results/domains"),
    cache: Path = Path("runs/cache"),
    clips: int = 40,
    snr: list[float] = SNR_DB,
    **options: Any,
) -> None:
    """Measure a codec where it was not trained: noise, other languages, music, effects; all in one picture.

        q2d2 evaluate-domains --speech speech --output docs/results/domains --clips 40 --metrics all

    Evaluates every domain whose files are in the folder of --speech (see DOMAINS in evaluation/domains.py), and noisy
    speech: clips of English speech mixed with noise at each of --snr, always the same ones. Writes
    <domain>/evaluation.json and the folder details of q2d2 evaluate, domains.png and domains.md; an interrupted run
    goes on. For noisy speech the reference is the noisy recording: a codec shall give back what it was given.

    Args:
        speech: Folder with the recordings.
        output: Folder for the results.
        cache: Folder for decoded audio.
        clips: Largest number of recordings of each domain.
        snr: Ratios of speech to noise, in dB.
    """
    require_commit(output)
    results = {}
    for name, files in collect(speech, cache, clips, snr).items():
        folder = output / "".join(c if c.isalnum() else "-" for c in name.lower())
        results[name] = evaluate_codec(files, output=folder, cache=cache, clips=clips, title=name, **options)
        for file in ("evaluation.md", "evaluation.png"):  # domains.md, domains.png and docs/RESULTS.md say the same
            (folder / file).unlink()
    write_summary(output, results)
