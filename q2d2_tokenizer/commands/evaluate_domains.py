"""The command `q2d2 evaluate-domains`."""

from pathlib import Path

from ..evaluation.options import SNR_DB, EvaluationOptions


def evaluate_domains(
    *,
    speech: Path,
    snr: list[float] = SNR_DB,
    options: EvaluationOptions = EvaluationOptions(output=Path("docs/results/domains"), clips=40),  # noqa: B008
) -> None:
    """Measure a codec where it was not trained: noise, other languages, music, effects; all in one picture.

        q2d2 evaluate-domains --speech speech --output docs/results/domains --clips 40 --metrics all

    Evaluates every domain whose files are in the folder of --speech (see DOMAINS in evaluation/domains.py), and noisy
    speech: clips of English speech mixed with noise at each of --snr, always the same ones. Writes
    <domain>/evaluation.json and the folder details of q2d2 evaluate, domains.png and domains.md; an interrupted run
    goes on. For noisy speech the reference is the noisy recording: a codec shall give back what it was given. --clips
    counts those of each domain, and titles are the names of the domains.

    Args:
        speech: Folder with the recordings.
        snr: Ratios of speech to noise, in dB.
    """
    from ..audio.files import make_folder
    from ..evaluation.domains import collect, write_summary
    from ..evaluation.evaluate import evaluate_codec
    from ..evaluation.provenance import require_commit

    require_commit(options.output)
    make_folder(options.output)
    results = {}
    for name, files in collect(speech, options.cache, options.clips, snr).items():
        folder = options.output / "".join(c if c.isalnum() else "-" for c in name.lower())
        results[name] = evaluate_codec(files, **vars(options) | {"output": folder, "title": name})
        for file in ("evaluation.md", "evaluation.png"):  # domains.md, domains.png and docs/RESULTS.md say the same
            (folder / file).unlink()
    write_summary(options.output, results)
