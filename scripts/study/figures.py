"""The figures of the study: each is to be understood without the text."""

import math
import os
from pathlib import Path
from typing import Any

from compare import LM_BITS, Study

from q2d2_tokenizer.evaluation.metrics import LOWER_IS_BETTER
from q2d2_tokenizer.evaluation.plot import panels

IMITATED = ("log_mel", "stoi")  # by the losses of the study, which has no loudness loss
TITLES = {
    "log_mel": "log-mel distance",
    "stoi": "STOI",
    "pesq_wb": "PESQ-WB",
    "dnsmos": "DNSMOS",
    LM_BITS: "bit/s after the language model",
}
COLOURS = {"lattice": "C0", "single": "C1", "learned": "C2", "signs": "C3"}
WORDS = {
    "lattice": "lattice in pairs or threes",
    "single": "single channels (FSQ)",
    "learned": "learned codebooks (VQ, PQ)",
    "signs": "signs (LFQ, BSQ)",
}


def kind_of(arm: dict[str, Any]) -> str:
    """Kind of quantizer of an arm, a key of `COLOURS`."""
    quantizer, group_size = arm["codec"].get("quantizer", "lattice"), arm["codec"]["group_size"]
    if quantizer in ("lattice", "fsq"):
        return "single" if group_size == 1 else "lattice"
    return "signs" if quantizer in ("lfq", "bsq") else "learned"


def better(score: str) -> str:
    """Which way is better."""
    return "lower is better" if score in LOWER_IS_BETTER | {LM_BITS} else "higher is better"


def link_to(folder: Path, beside: Path) -> str:
    """A folder as a page in another one links it."""
    return Path(os.path.relpath(folder, beside)).as_posix()


def draw(study: Study, records: list[dict[str, Any]], folder: Path, beside: Path) -> list[str]:
    """Draw all figures for which there are runs; returns Markdown that shows them.

    Args:
        study: The runs that are done.
        records: All records.
        folder: Where the figures are written.
        beside: Folder of the page.
    """
    folder.mkdir(parents=True, exist_ok=True)
    main = study.plan.compared("main")
    others = [name for name in study.plan.arms if name not in main]
    drawn = {
        "differences.png": ("Quantizers at equal bits", draw_differences(study, folder / "differences.png", main)),
        "variants.png": ("Variants at equal bits", draw_differences(study, folder / "variants.png", others)),
        "rates.png": ("Quality against bits", draw_rates(study, folder)),
        "after_lm.png": ("Quality against bits after the language model", draw_after(study, folder)),
        "curves.png": ("Learning rate and losses", draw_curves(study, records, folder)),
    }
    return [f"![{title}]({link_to(folder, beside)}/{name})" for name, (title, is_there) in drawn.items() if is_there]


def _legend(axis: Any, kinds: set[str]) -> None:
    """Name the kinds of quantizers by their colours, below all panels."""
    for kind in COLOURS:
        if kind in kinds:
            axis.plot([], [], "o", color=COLOURS[kind], label=WORDS[kind])
    axis.figure.legend(loc="outside lower center", ncols=len(COLOURS), fontsize=8)


def draw_differences(study: Study, path: Path, names: list[str]) -> bool:
    """One panel a score: arms against their counterparts at the middle rate, with 95 % intervals."""
    plan, middle = study.plan, study.plan.middle
    names = [n for n in names if plan.against(n) != n and study.difference(n, plan.against(n), middle, "log_mel")]
    if not names:
        return False
    labels = [f"{plan.arms[name]['label']}\nagainst {plan.arms[plan.against(name)]['label']}" for name in names]
    with panels(path, len(TITLES), len(TITLES), (3.4, 1.6 + 0.36 * len(names))) as axes:
        for axis, score in zip(axes, TITLES, strict=True):
            for row, name in enumerate(names):
                found = study.difference(name, plan.against(name), middle, score)
                if found:
                    error = 0 if math.isnan(found.interval) else 100 * found.interval
                    colour = COLOURS[kind_of(plan.arms[name])]
                    axis.errorbar(100 * found.mean, row, xerr=error, fmt="o", color=colour, capsize=2)
            axis.axvline(0, color="black", linewidth=0.8)
            axis.set_yticks(range(len(names)), labels if axis is axes[0] else [""] * len(names), fontsize=7)
            axis.set_ylim(len(names) - 0.5, -0.5)
            axis.grid(axis="y", alpha=0.3)
            axis.set_title(f"{TITLES[score]}\n({better(score)})", fontsize=10)
            axis.set_xlabel("difference, %")
        _legend(axes[0], {kind_of(plan.arms[name]) for name in names})
    return True


def draw_rates(study: Study, folder: Path) -> bool:
    """One panel a score: every main arm at all rates, with the noise of seeds."""
    names = [name for name in study.plan.compared("main") if any(arm == name for arm, _ in study.runs)]
    if not names:
        return False
    scores = [score for score in TITLES if score != LM_BITS]
    with panels(folder / "rates.png", len(scores), 2, (7, 4.5)) as axes:
        for axis, score in zip(axes, scores, strict=True):
            for name in names:
                _rate_line(axis, study, name, score)
            axis.set(title=f"{TITLES[score]} ({better(score)})", xlabel="bit/s of the tokens", xscale="log")
            axis.set_xticks([500, 1000, 2000], ["500", "1000", "2000"])
            axis.set_xlim(480, 2500)  # room for names
            axis.minorticks_off()
        _legend(axes[0], {kind_of(study.plan.arms[name]) for name in names})
    return True


def _rate_line(axis: Any, study: Study, name: str, score: str) -> None:
    points = []
    for rate in dict.fromkeys(rate for arm, rate in study.runs if arm == name):
        mean = study.mean(name, rate, score)
        if not math.isnan(mean):
            points.append((study.of(name, rate)[0]["bits"]["per_second"], mean))
    points.sort()
    if points:
        colour = COLOURS[kind_of(study.plan.arms[name])]
        axis.plot(*zip(*points, strict=True), marker=".", color=colour, alpha=0.7, linewidth=1)
        axis.annotate(name, points[-1], textcoords="offset points", xytext=(4, 0), fontsize=7, color=colour)


def draw_after(study: Study, folder: Path) -> bool:
    """Log-mel distance and DNSMOS against bits after the language model: to the left costs less."""
    middle = study.plan.middle
    names = [name for name in study.plan.compared("main") if study.table(name, middle, LM_BITS).size]
    if not names:
        return False
    scores = ("log_mel", "pesq_wb", "dnsmos")
    noise = study.seed_noise(LM_BITS)[0]
    with panels(folder / "after_lm.png", len(scores), 3, (6, 5)) as axes:
        for axis, score in zip(axes, scores, strict=True):
            for name in names:
                x, y = (study.mean(name, middle, one) for one in (LM_BITS, score))
                error = 0 if math.isnan(noise) else 2 * noise * x / math.sqrt(len(study.of(name, middle)))
                colour = COLOURS[kind_of(study.plan.arms[name])]
                axis.errorbar(x, y, xerr=error, fmt="o", color=colour, markersize=4, linewidth=0.7)
                axis.annotate(name, (x, y), textcoords="offset points", xytext=(4, 3), fontsize=7, color=colour)
            axis.set(xlabel="bit/s of held-out speech after the language model", ylabel=TITLES[score])
            axis.set_title(f"{TITLES[score]} ({better(score)})")
        _legend(axes[0], {kind_of(study.plan.arms[name]) for name in names})
    return True


def draw_curves(study: Study, records: list[dict[str, Any]], folder: Path) -> bool:
    """The common learning rate, and mel losses of all main arms at the middle rate, smoothed over ten lines."""
    main = study.plan.compared("main")
    found = [r for r in records if r["config"]["arm"] in main and r["config"]["rate"] == study.plan.middle]
    found = [record for record in found if record.get("curve", {}).get("step")]
    if not found:
        return False
    with panels(folder / "curves.png", 2, 2, (7, 4)) as axes:
        curve = found[0]["curve"]
        axes[0].plot(curve["step"], curve["learning_rate"])
        axes[0].set(title="learning rate, the same for all arms", xlabel="step")
        for record in found:
            losses = record["curve"]["mel"]
            means = [sum(part) / len(part) for i in range(len(losses)) if (part := losses[max(0, i - 9) : i + 1])]
            ended_well = record["status"] == "done"
            colour = COLOURS[kind_of(study.plan.arms[record["config"]["arm"]])]
            axes[1].plot(record["curve"]["step"], means, color=colour, alpha=0.5, linestyle="-" if ended_well else ":")
        axes[1].set(title="mel loss in training, every arm and seed (dotted: diverged)", xlabel="step", yscale="log")
        _legend(axes[1], {kind_of(study.plan.arms[record["config"]["arm"]]) for record in found})
    return True
