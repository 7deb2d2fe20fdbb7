"""What an evaluation of a language model writes: tables and plots."""

from pathlib import Path
from typing import Any

from lm.generate import ENDED, LOOPED, MAX_LENGTH

from ..metrics import imitated_by
from ..plot import panels, plot_scores
from ..provenance import written_by
from ..report import IMITATED, format_score
from ..tables import markdown_table
from .speech import SILENT

Result = dict[str, Any]
_SHARES = {ENDED: "ended", MAX_LENGTH: "cut at the maximum", LOOPED: "looped", SILENT: "went silent"}
_ERRORS = {"wer": "WER", "cer": "CER"}


def likelihood_table(result: Result) -> list[list[str]]:
    """Rows of cells, the first one with titles: bits of held-out codes."""
    table = [["held-out", "recordings", "bit/token", "bit/s", "nominal", "zero-order", "saved", "best guess right"]]
    for name, facts in result.get("likelihood", {}).items():
        table.append(
            [
                name,
                str(facts["recordings"]),
                f"{facts['bits_per_token']['mean']:.3f} ± {facts['bits_per_token']['interval']:.3f}",
                f"{facts['bits_per_second']['mean']:.1f} ± {facts['bits_per_second']['interval']:.1f}",
                f"{facts['nominal_bits_per_second']:.1f}",
                f"{facts['zero_order_bits_per_second']:.1f}",
                f"{100 * facts['saved_share']:.1f} %",
                f"{100 * facts['right_share']:.1f} %",
            ]
        )
    return table


def group_table(result: Result) -> list[list[str]]:
    """Rows of cells, the first one with titles: bits of each group of a code, given the groups before it."""
    table = [["held-out", "group", "bit", "nominal", "zero-order"]]
    for name, facts in result.get("likelihood", {}).items():
        parts = [facts[f"{kind}bits_by_group"] for kind in ("", "nominal_", "zero_order_")]
        for number, bits in enumerate(zip(*parts, strict=True), start=1):
            table.append([name, str(number), *(f"{value:.3f}" for value in bits)])
    return table


def _percent(score: dict[str, float] | None) -> str:
    if score and "share" in score:
        return f"{100 * score['share']:.0f} % ({100 * score['low']:.0f} to {100 * score['high']:.0f})"
    return format_score(score, digits=1, scale=100, unit=" %")


def speech_table(result: Result) -> list[list[str]]:
    """Rows of cells, the first one with titles: recordings, codec and generated speech."""
    known = {"runs", "speed", *_SHARES, *_ERRORS}
    summaries = result.get("speech", {})
    names = list(dict.fromkeys(name for summary in summaries.values() for name in summary if name not in known))
    table = [["speech", "n", *_ERRORS.values(), *names, *_SHARES.values(), "x real time"]]
    for system, summary in summaries.items():
        errors = [_percent(summary.get(name)) for name in _ERRORS]
        scores = [format_score(summary.get(name), summary["runs"]) for name in names]
        shares = [_percent(summary.get(name)) for name in _SHARES]
        speed = f"{summary['speed']:.2f}" if "speed" in summary else "–"
        table.append([system, str(summary["runs"]), *errors, *scores, *shares, speed])
    if names:
        table.append([IMITATED, "–", *["–" for _ in _ERRORS], *map(imitated_by, names), *["–" for _ in _SHARES], "–"])
    return table


def write_report(path: Path, result: Result) -> None:
    """The result as Markdown."""
    run = result["run"]
    notes = [
        f"{result['parameters'] / 1e6:.1f} M parameters, codec {result['codec_fingerprint']}. Mean ± half-width of the "
        "95 % interval; shares with the 95 % interval after Wilson. Bits are those of the codes and of <eos>. The "
        "zero-order entropy is that of the counts of held-out codes, too low while codes are not many times the "
        "codebook. Bits of a group are given the groups before it, without <eos>.",
        f"Speed: {run['threads']} threads, decoding included.",
        written_by(run),
    ]
    tables = [likelihood_table(result), group_table(result), speech_table(result)]
    path.write_text("\n\n".join([*(markdown_table(table) for table in tables if len(table) > 1), *notes]) + "\n")


def plot_likelihood(path: Path, result: Result) -> None:
    """Bits per token by place after `<audio>`, with the nominal and the zero-order ones."""
    with panels(path, 1, 1, (7, 4)) as (axis,):
        for name, facts in result["likelihood"].items():
            bits = facts["bits_by_place"]
            axis.plot([int(place) + 1 for place in bits], list(bits.values()), marker="o", label=name)
        axis.axhline(facts["nominal_bits_per_token"], color="gray", label="nominal")
        axis.axhline(facts["zero_order_bits_per_token"], color="gray", linestyle=":", label="zero-order")
        axis.set(xscale="log", xlabel="place after <audio>", ylabel="bits per token")
        axis.legend()


def plot_speech(path: Path, result: Result) -> None:
    """Bars of error rates and opinion scores for every kind of speech, if any were measured."""
    summaries = {}
    for system, summary in result["speech"].items():
        means = {name: score for name, score in summary.items() if isinstance(score, dict) and "mean" in score}
        means.pop("duration_ratio", None)  # neither high nor low is better
        if means:
            summaries[system] = means
    if summaries:
        plot_scores(path, summaries)
