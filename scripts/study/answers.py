"""The answers of the study in sentences, which follow from the intervals alone."""

from compare import LM_BITS, Study
from figures import IMITATED, TITLES
from plan import REFERENCE

from q2d2_tokenizer.evaluation.metrics import LOWER_IS_BETTER

GRIDS = ("rhombic", "hexagon", "brick", "bcc")
LOWER = LOWER_IS_BETTER | {LM_BITS}


def answers(study: Study, scores: list[str]) -> str:
    """Which quantizer at which rate, and whether a lattice of several dimensions helps."""
    rates = list(dict.fromkeys(rate for _, rate in study.runs))
    lines = [line for rate in rates for line in _best(study, rate, scores)]
    lines += [line for rate in rates for line in _grids(study, rate, scores)]
    lines += [line for score in scores if score not in IMITATED for line in _channels(study, score)]
    if not lines:
        return "No two arms of a rate are done yet."
    imitated = " and ".join(TITLES[score] for score in IMITATED)
    return "\n".join(f"- {line}" for line in [*lines, f"Training imitates {imitated}: decide by the other scores."])


def _labels(study: Study, names: list[str]) -> str:
    return ", ".join(study.plan.arms[name]["label"] for name in names)


def _best(study: Study, rate: str, scores: list[str]) -> list[str]:
    """The best arm by each score, and those that are not clearly worse."""
    names = [name for name in study.plan.compared("main") if study.of(name, rate)]
    if len(names) < 2:
        return []
    lines = []
    for score in [*scores, LM_BITS] if rate == study.plan.middle else scores:
        means = {name: study.mean(name, rate, score) for name in names if study.table(name, rate, score).size}
        if len(means) < 2:
            continue
        best = (min if score in LOWER else max)(means, key=lambda name: means[name])
        others = {name: study.difference(name, best, rate, score) for name in means if name != best}
        level = [name for name, found in others.items() if found and not found.is_clear]
        rest = f"not clearly worse: {_labels(study, level)}" if level else "all others are clearly worse"
        lines.append(f"Rate {rate}, {TITLES[score]}: best is {_labels(study, [best])}; {rest}.")
    return lines


def _grids(study: Study, rate: str, scores: list[str]) -> list[str]:
    """Whether each lattice of several dimensions is better or worse than single channels."""
    lines = []
    for name in GRIDS:
        found = {score: study.difference(name, REFERENCE, rate, score) for score in scores}
        known = {score: one for score, one in found.items() if one}
        if not known:
            continue
        better = [s for s, one in known.items() if one.is_clear and (one.mean < 0) == (s in LOWER)]
        worse = [s for s, one in known.items() if one.is_clear and s not in better]
        unknown = [s for s in known if s not in better + worse]
        parts = [("better than FSQ by", better), ("worse by", worse), ("no clear difference in", unknown)]
        said = "; ".join(f"{text} {', '.join(TITLES[s] for s in which)}" for text, which in parts if which)
        lines.append(f"{_labels(study, [name])} at rate {rate}: {said}.")
    return lines


def _channels(study: Study, score: str) -> list[str]:
    """Where pairs of channels help against as many single ones, by a score."""
    lines = []
    for name in study.plan.compared("channels"):
        other = study.plan.against(name)
        found = study.difference(name, other, study.plan.middle, score) if name.startswith("rhombic-") else None
        if found:
            verdict = "no clear difference"
            if found.is_clear:
                verdict = "the lattice is better" if (found.mean < 0) == (score in LOWER) else "the lattice is worse"
            span = f"{100 * found.low:+.1f} to {100 * found.high:+.1f} %"
            pair = f"{_labels(study, [name])} against {_labels(study, [other])}"
            lines.append(f"{pair}, {TITLES[score]}: {verdict} ({span}).")
    return lines
