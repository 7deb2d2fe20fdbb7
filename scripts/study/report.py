"""Write docs/STUDY.md and its figures from the records of the runs.

    python scripts/study/report.py
    python scripts/study/report.py --runs runs/pilot --output runs/study.md

The page says how many of the runs are done. Needs the extra `eval`.
"""

import argparse
import json
import math
import sys
from collections import Counter
from pathlib import Path
from statistics import fmean
from typing import Any

import figures
from answers import answers
from compare import LM_BITS, Difference, Study, holm, outcome
from figures import link_to
from plan import ARMS, LARGEST_DIFFERENCE, SMALL, load_plan, read_yaml
from records import read_record

from q2d2_tokenizer.audio.files import write_atomically
from q2d2_tokenizer.evaluation.metrics import imitated_by
from q2d2_tokenizer.evaluation.plot import arrow
from q2d2_tokenizer.evaluation.provenance import describe_run, require_commit, written_by
from q2d2_tokenizer.evaluation.tables import markdown_table

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs/results/study"
SCORES = {"log_mel": 3, "stoi": 3, "pesq_wb": 2, "dnsmos": 2}  # digits
COMPARISONS = {
    "main": "Quantizers",
    "channels": "Channels",
    "levels": "Levels",
    "border": "Room at the border",
    "rotation": "A learned rotation",
    "learning_rate": "Learning rate",
}
_USE = ("codes used", "entropy, bit", "sum over groups, bit", "of")
ABOUT = {
    "channels": "More channels have fewer levels, at the same bits. Q2D2 is compared with FSQ of as many channels.",
    "levels": "Pairs of unequal levels, at the same bits; six and eight channels, above, have up to 4 and 3 levels.",
    "border": "Without room the outermost points lie on the edge of the box, and half of their cells outside.",
    "rotation": "The linear layer before the lattice could learn the rotation too.",
    "learning_rate": "Whether the order would be another one at another rate: was the common one made for one arm?",
}


def percent(difference: Difference | None) -> str:
    """A difference with its interval, in percent; a dash for none."""
    if difference is None:
        return "–"
    interval = "" if math.isnan(difference.interval) else f" ± {100 * difference.interval:.1f}"
    return f"{100 * difference.mean:+.1f}{interval}"


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"


def _p(value: float | None) -> str:
    return "–" if value is None or math.isnan(value) else "<.001" if value < 0.001 else f"{value:.3f}".lstrip("0")


def scores_table(study: Study, names: list[str], rate: str) -> str:
    """Means of every score of every arm at a rate, and use of its codebook on held-out recordings."""
    titles = [arrow(score) for score in SCORES]
    rows = [["arm", "channels and levels", "bit/s", "seeds", *titles, *_USE, "CPU s"]]
    for name in names:
        records = study.of(name, rate)
        if not records:
            continue
        config, bits = records[0]["config"]["codec"], records[0]["bits"]
        means = [_number(study.mean(name, rate, score), digits) for score, digits in SCORES.items()]
        seconds = f"{fmean(record['seconds']['codec']['processor'] for record in records):.0f}"
        levels = " ".join(map(str, config["levels"]))
        cells = [study.plan.arms[name]["label"], levels, f"{bits['per_second']:.1f}", str(len(records)), *means]
        rows.append([*cells, *_use(records), f"{bits['per_token']:.2f}", seconds])
    return markdown_table(rows)


def _use(records: list[dict[str, Any]]) -> list[str]:
    """Share of the codes that occur, entropy of codes, and the sum of entropies of groups; means over seeds.

    The first two are dashes where there are not more tokens than codes.
    """
    usages = [record["usage"] for record in records]
    groups = f"{fmean(sum(group['entropy_bits'] for group in use['groups']) for use in usages):.2f}"
    if any(use["tokens"] < use["codebook"]["size"] for use in usages):
        return ["–", "–", groups]
    used = fmean(use["codebook"]["used"] / use["codebook"]["size"] for use in usages)
    return [f"{100 * used:.0f} %", f"{fmean(use['codebook']['entropy_bits'] for use in usages):.2f}", groups]


def differences_table(study: Study, names: list[str], rate: str) -> str:
    """Differences to the arm that each is compared with, in percent, with p after Holm."""
    scores = [*SCORES, LM_BITS] if rate == study.plan.middle else list(SCORES)
    pairs = [(name, study.plan.against(name)) for name in names if study.plan.against(name) != name]
    found = {(name, score): study.difference(name, other, rate, score) for name, other in pairs for score in scores}
    families = {score: holm({n: d.p for (n, s), d in found.items() if s == score and d}) for score in scores}
    rows = [["arm", "against", *(column for score in scores for column in (figures.TITLES[score] + ", %", "p"))]]
    for name, other in pairs:
        if any(found[name, score] for score in scores):
            cells = [(percent(found[name, score]), _p(families[score].get(name))) for score in scores]
            labels = [study.plan.arms[arm]["label"] for arm in (name, other)]
            rows.append([*labels, *(cell for pair in cells for cell in pair)])
    return markdown_table(rows)


def models_table(study: Study, names: list[str]) -> str:
    """Bits after the language models of every arm."""
    middle = study.plan.middle
    rows = [["arm", "bit/s before", "bit/s after, flat", "bit/s after, factors", "the better one, of those before"]]
    for name in names:
        records = [record for record in study.of(name, middle) if record.get("language_models")]
        if not records:
            continue
        before = records[0]["bits"]["per_second"]
        heads = [
            [r["language_models"][head]["bits_per_second"] for r in records if head in r["language_models"]]
            for head in ("flat", "pairs")
        ]
        after = [f"{fmean(values):.1f}" if values else "–" for values in heads]
        share = f"{100 * study.mean(name, middle, LM_BITS) / before:.1f} %"
        rows.append([study.plan.arms[name]["label"], f"{before:.1f}", *after, share])
    return markdown_table(rows)


def predictions_table(study: Study, predictions: list[dict[str, Any]]) -> str:
    """What was expected, why, and what came."""
    rows = [["expected before the runs", "because", "found, %", "came"]]
    for one in predictions:
        difference = study.difference(one["arm"], one["against"], one["rate"], one["score"])
        ours, theirs = (study.plan.arms[one[key]]["label"] for key in ("arm", "against"))
        signs = {"same": f"within {one.get('margin', 0):.0%} of", "less": "less than", "more": "more than"}
        text = f"{figures.TITLES[one['score']]} of {ours} {signs[one['expect']]} that of {theirs}, rate {one['rate']}"
        rows.append([text, one["because"], percent(difference), outcome(one, difference)])
    return markdown_table(rows)


def status(study: Study, records: list[dict[str, Any]]) -> str:
    """How many runs are done, which ended otherwise, and at which commits."""
    total, counts = len(study.plan.runs), Counter(record["status"] for record in records)
    text = f"**{counts['done']} of {total} runs are done**, {counts['diverged']} diverged, {counts['failed']} failed."
    if len(records) < total:
        missing = Counter(run.rate for run in study.plan.runs)
        missing.subtract(record["config"]["rate"] for record in records)
        parts = ", ".join(f"{count} at rate {rate}" for rate, count in missing.items() if count)
        text += f" {total - len(records)} are missing ({parts}): what follows is of those that are there."
    lines = [
        f"- {study.plan.arms[r['config']['arm']]['label']}, rate {r['config']['rate']}, seed {r['config']['seed']}: "
        f"{r['status']}, {r['error']}"
        for r in study.others
    ]
    return "\n".join([text, *([""] if lines else []), *lines])


def method(study: Study, records: list[dict[str, Any]]) -> str:
    """How the runs are made, from the plan and from the records."""
    settings = study.plan.runs[0].settings
    lines = [
        f"Codec: {json.dumps(settings['codec'])} in the first run. Others differ from it in the quantizer alone. "
        "Initial weights of encoder and decoder are of one distribution; draws differ where quantizers have other "
        "parameters. Runs of one seed see the same segments in the same order.",
        f"Training: {json.dumps(settings['training'])}; three arms are also trained at other learning rates.",
        study.plan.inherited,
        f"Evaluation: {json.dumps(settings['evaluation'])}.",
        f"Language models: {json.dumps(settings['language_model'])}; a "
        "flat one, with one softmax over all codes, and where a code has several groups one of factors, `lm/pairs.py`. "
        "Tables and figures take the better one where one number is needed; codebooks of one part have the flat one "
        "alone.",
        *(_found(study, records) if records else []),
    ]
    return "\n\n".join(lines)


def _found(study: Study, records: list[dict[str, Any]]) -> list[str]:
    """What the records say of data, noise, cost and commits."""
    config, run = records[0]["config"], records[0]["run"]
    done = next((record for record in records if record["status"] == "done"), None)
    clips = f"{len(done['clips'])} clips of {len(set(done['speakers']))} speakers" if done else "no clips yet"
    scores = {score: study.seed_noise(score)[0] for score in (*SCORES, LM_BITS)}
    noise = [f"{figures.TITLES[score]} {100 * value:.1f} %" for score, value in scores.items() if not math.isnan(value)]
    seconds = [sum(part["processor"] for part in r["seconds"].values()) for r in records if "seconds" in r]
    cost = f"{fmean(seconds):.0f} CPU seconds a run in the mean" if seconds else "not known yet"
    commits = ", ".join(sorted({record["run"]["commit"] for record in records}))
    return [
        f"Data: trained on {', '.join(config['data'])}; measured on {clips} of {', '.join(config['validation_data'])}.",
        f"Standard deviation between seeds, of all arms with several: {', '.join(noise) or 'not known yet'}.",
        f"Cost: {cost}, {run['threads']} thread of {run['processor']}.",
        f"Commits of the runs: {commits}; torch {run['torch']}, transformers {run['transformers']}.",
    ]


WHAT = """One small encoder and decoder are trained with every quantizer for the same number of steps, on the same
segments, at the same learning rate. Levels or codebook sizes are chosen so that bits per second are equal within
{limit:.0%}: {rates}. At equal *levels* a rhombic grid has nearly twice the points of a rectangle, so an order found
there is one of unequal bits.

- A rectangle in pairs has the points of FSQ: both are one arm. Even levels lie about the origin here; *FSQ as
  published* counts them from -l/2.
- The rhombic grid is the square lattice, turned by 45 degrees, so its cells are as good as those of FSQ; what differs
  is the border, and that levels of a pair go together. The hexagon has the best cells in two dimensions (.17 dB), BCC
  in three (.26 dB).
- A grid in pairs is product quantization (PQ) with codebooks that were fixed beforehand: channels in pairs, a codebook
  for each, a code of all of them. *PQ in pairs* learns the points instead, in the same box, in as many channels.
- `log_mel` and `stoi` are imitated by losses, PESQ and DNSMOS by none; DNSMOS hears the reconstruction alone."""

NOTES = """Differences are in percent of the other arm, ± half-width of the 95 % interval over seeds and clips, which
are crossed: the variance is that of the paired differences of clips, robust to what clips of a speaker have in common,
plus that between seeds, estimated from all arms with several. p is of the paired test that there is no difference,
after Holm over the arms of a table; the plain answer takes the intervals, which are not adjusted. A run with one seed
has the seed noise of the others in its interval. Training imitates {imitated}; no loss imitates the other scores."""

RERUN = """```bash
pip install -c constraints.txt -e '.[train,eval]'
python scripts/study/run.py --data 'speech/librispeech-train-*.parquet' \\
    --validation_data 'speech/librispeech-validation-*.parquet'     # all runs; start it twice for two cores
python scripts/study/run.py ... --only fsq_middle_0 rhombic_middle_0   # two of them
python scripts/study/run.py --list                                  # what is done
python scripts/study/report.py                                      # this page
```

The queue writes one JSON a run into `docs/results/study/runs`, and goes on where it was interrupted; a run that
diverges or fails has a JSON that says so. Delete a JSON to make its run again. Arms are in `scripts/study/arms.yaml`; a
file whose arms differ by more than {limit:.0%} in bits per second is refused.

`scripts/study/gpu.yaml` has the sizes of the paper, for a GPU: `--size scripts/study/gpu.yaml`. It is **untried**."""


def _bits_of(study: Study, rate: str) -> str:
    """Lowest and highest bit rate of the arms at a rate."""
    bits = [run.codec.bitrate for run in study.plan.runs if run.rate == rate]
    return f"{min(bits):.0f} to {max(bits):.0f}"


def quantizer_level(folder: Path, beside: Path) -> str:
    """The page that scripts/study/quantizers.py wrote, a level lower, with links that are right in this one.

    Args:
        folder: Where it is.
        beside: Folder of this page.
    """
    path = folder / "quantizers.md"
    if not path.exists():
        return "Not measured yet: `scripts/study/quantizers.py`."
    text = path.read_text(encoding="utf-8").partition("\n")[2]  # without its title
    return text.replace("\n## ", "\n### ").replace("](", f"]({link_to(folder, beside)}/").strip()


def page(study: Study, records: list[dict[str, Any]], beside: Path, pictures: list[str]) -> str:
    """The whole page.

    Args:
        study: The runs that are done.
        records: All records.
        beside: Folder of the page.
        pictures: Markdown that shows the figures.
    """
    middle = study.plan.middle
    imitated = " and ".join(f"{s} ({imitated_by(s)})" for s in figures.IMITATED)
    rates = dict.fromkeys(run.rate for run in sorted(study.plan.runs, key=lambda run: run.codec.bitrate))
    nominal = [f"{rate} is {_bits_of(study, rate)} bit/s" for rate in rates]
    what = WHAT.format(limit=LARGEST_DIFFERENCE, rates=", ".join(nominal))
    parts = [
        "# The study: lattices and other quantizers at equal bits",
        "Written by `scripts/study/report.py`; change the scripts, not this page.",
        status(study, records),
        "## Plain answer",
        answers(study, list(SCORES)),
        "## What is compared",
        what,
        "## Predictions",
        "Written down and committed before the first run, in `docs/results/study/predictions.yaml`.",
        predictions_table(study, read_yaml(RESULTS / "predictions.yaml")),
        *(["## Pictures", *pictures] if pictures else []),
    ]
    for comparison, title in COMPARISONS.items():
        names = study.plan.compared(comparison)
        for rate in rates if comparison == "main" else [middle]:
            shown = [*names, *(study.plan.against(n) for n in names if study.plan.against(n) not in names)]
            shown = list(dict.fromkeys(shown))
            if any(study.of(name, rate) for name in shown):
                parts += [f"## {title}, rate {rate}" if comparison == "main" else f"## {title}"]
                parts += [ABOUT[comparison]] if comparison in ABOUT else []
                parts += [scores_table(study, shown, rate), differences_table(study, names, rate)]
    if records:
        parts += [NOTES.format(imitated=imitated).replace("\n", " ")]
        parts += ["## After the language model", models_table(study, list(study.plan.arms))]
    parts += ["## The quantizers alone", quantizer_level(RESULTS, beside)]
    parts += ["## How it was made", method(study, records)]
    parts += ["## Run it again", RERUN.format(limit=LARGEST_DIFFERENCE), written_by(describe_run())]
    return "\n\n".join(parts) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Write the page and the figures; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=Path, default=RESULTS / "runs", help="folder of the records")
    parser.add_argument("--arms", type=Path, default=ARMS, help="file with the arms")
    parser.add_argument("--size", type=Path, default=SMALL, help="file with sizes and budget")
    parser.add_argument("--output", type=Path, default=ROOT / "docs/STUDY.md", help="the page")
    args = parser.parse_args(argv)
    require_commit(args.output)
    try:
        plan = load_plan(args.arms, args.size)
        found = [read_record(args.runs / f"{run.name}.json", run.settings) for run in plan.runs]
    except ValueError as error:
        raise SystemExit(str(error)) from error
    records = [record for record in found if record]
    study = Study(plan, records)
    folder = RESULTS if args.output.resolve().is_relative_to(ROOT / "docs") else args.output.parent
    pictures = figures.draw(study, records, folder, args.output.parent)
    write_atomically(args.output, page(study, records, args.output.parent, pictures).encode())
    print(status(study, records))
    return 0


if __name__ == "__main__":
    sys.exit(main())
