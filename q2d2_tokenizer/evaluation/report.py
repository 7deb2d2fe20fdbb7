"""What an evaluation writes: tables as Markdown, and a page with players."""

import base64
import html
import math
import os
import re
from pathlib import Path
from typing import Any

from ..audio.files import write_atomically
from .metrics import RESAMPLING, imitated_by
from .plot import arrow
from .provenance import written_by
from .rows import Row, audio_file, flat_scores
from .tables import markdown_table

Result = dict[str, Any]


PAGES = ("README.md", "q2d2_tokenizer/checkpoint/README.md")
IMITATED = "imitated in training by"  # title of the row that says it of every score
_README_SCORES = {
    "pesq_wb": "PESQ-WB",
    "stoi": "STOI",
    "dnsmos": "DNSMOS",
    "nisqa": "NISQA",
    "distillmos": "DistillMOS",
    "speaker": "speaker similarity",
    "wer": "word errors",
}


def score_names(result: Result) -> list[str]:
    """Names of all scores, in the order in which they were measured."""
    return list(dict.fromkeys(name for summary in result["summary"].values() for name in summary))


def format_score(
    score: dict[str, float] | None, clips: int | None = None, digits: int = 3, scale: float = 1, unit: str = ""
) -> str:
    """Mean and interval, and n where it is not the number of clips.

    Args:
        score: As `mean_and_interval` gives it; a dash for none.
        clips: Number of clips, if it counts.
        digits: Digits behind the point.
        scale: Factor of the numbers.
        unit: What stands behind them.
    """
    if score is None or not score["n"]:
        return "–"
    counted = "" if clips in (None, score["n"]) else f" (n={score['n']})"
    interval = "" if math.isnan(score["interval"]) else f" ± {scale * score['interval']:.{digits}f}"
    return f"{scale * score['mean']:.{digits}f}{interval}{unit}{counted}"


def quality_table(result: Result) -> list[list[str]]:
    """Rows of cells, the first one with titles: every score of every codec."""
    names = score_names(result)
    table = [["codec", "n", *map(arrow, names)]]
    for codec, summary in result["summary"].items():
        clips = len(result["clips"][codec])
        table.append([codec, str(clips), *(format_score(summary.get(name), clips) for name in names)])
    return [*table, [IMITATED, "–", *map(imitated_by, names)]]


def short_table(result: Result) -> list[list[str]]:
    """Rows of cells, the first one with titles: means of the main scores, for README.md and the model card."""
    scores = {name: title for name, title in _README_SCORES.items() if name in score_names(result)}
    table = [["codec", "bit/s", *(title + arrow(name).removeprefix(name) for name, title in scores.items())]]
    for codec, summary in result["summary"].items():
        rate = result["codecs"][codec].get("nominal_bps")
        cells = [_short(name, summary.get(name)) for name in scores]
        table.append([codec, "–" if rate is None else f"{rate:,.0f}", *cells])
    return [*table, [IMITATED, "–", *map(imitated_by, scores)]]


def _short(name: str, score: dict[str, float] | None) -> str:
    """A mean and its interval in two or three digits; word errors in percent."""
    if name == "wer":
        return format_score(score, digits=1, scale=100, unit=" %")
    return format_score(score, digits=3 if name in ("stoi", "speaker") else 2)


def fill_tables(text: str, tables: dict[str, list[list[str]]], kind: str = "results") -> str:
    """The Markdown with the tables between <!-- KIND: NAME --> and <!-- end --> written anew.

    Raises:
        ValueError: If a mark names no table, or is not closed.
    """

    def table(match: re.Match) -> str:
        if match[2] not in tables or not match[3]:
            problem = "which is not closed by <!-- end -->" if match[2] in tables else "which is none"
            raise ValueError(f"a mark must be one of {kind}: {', '.join(tables)}; got {match[2]}, {problem}")
        return f"{match[1]}\n{markdown_table(tables[match[2]])}\n{match[3]}"

    return re.sub(rf"(<!-- {kind}: (\w+) -->)\n(?:[^<]*?(<!-- end -->))?", table, text)


def fill_pages(output: Path, result: Result) -> None:
    """Write the tables of README.md and of the card of the weights anew, in the repository of a page in docs/."""
    for path in (output.parent.parent / page for page in PAGES):
        if path.is_file():
            write_atomically(path, fill_tables(path.read_text(), {"quality": short_table(result)}).encode())


def rate_table(result: Result) -> list[list[str]]:
    """Rows of cells, the first one with titles: bitrate and speed of every codec for which they are known."""
    titles = {"nominal_bps": "nominal bit/s", "entropy_bps": "entropy bit/s", "file_bps": "file bit/s"}
    titles |= {"encode_speed": "encode, x real time", "decode_speed": "decode, x real time"}
    table = [["codec", *titles.values()]]
    for codec, facts in result["codecs"].items():
        cells = [f"{facts[key]:.{1 if 'speed' in key else 0}f}" if key in facts else "–" for key in titles]
        if set(cells) != {"–"}:
            table.append([codec, *cells])
    return table


def usage_table(result: Result) -> list[list[str]]:
    """Rows of cells, the first one with titles: use of the joint codebook and of every group."""
    table = [["codebook", "codes", "used", "entropy, bit", "of", "perplexity"]]
    ours = result["ours"]
    groups = {f"group {number}": use for number, use in enumerate(ours["usage_per_grid"], 1)}
    for name, use in {"joint": ours["usage"], **groups}.items():
        most = math.log2(use["size"])
        cells = [f"{use['size']}", f"{use['used']}", f"{use['entropy_bits']:.3f}", f"{most:.3f}"]
        table.append([name, *cells, f"{use['perplexity']:.1f}"])
    return table


def interval_note(result: Result) -> str:
    """What the intervals are; those of evaluations that did not count speakers are of clips."""
    if "speakers" not in result["data"]:
        return "Mean ± half-width of the 95 % interval, of clips."
    return (
        "Mean ± half-width of the 95 % interval, of speakers (cluster-robust standard error, t with one degree of "
        "freedom less than speakers; none for a single speaker)."
    )


def left_out(result: Result) -> list[str]:
    """For every codec and reason, how many clips have which scores not."""
    found: dict[tuple[str, str, int], list[str]] = {}
    for codec, summary in result["summary"].items():
        for name, score in summary.items():
            for reason, count in score.get("left_out", {}).items():
                found.setdefault((codec, reason, count), []).append(name)
    return [f"{count} of {codec} in {', '.join(names)} ({reason})" for (codec, reason, count), names in found.items()]


def notes(result: Result) -> list[str]:
    """Sentences below the tables: what was measured, how, and by which command."""
    ours, run, data = result["ours"], result["run"], result["data"]
    speakers = f" of {data['speakers']} speakers" if "speakers" in data else ""
    notes = [
        f"{data['clips']} clips{speakers}, {data['seconds']:.0f} seconds. {interval_note(result)} An arrow "
        "shows which way is better or the best value, the last row what of the training imitates the score. "
        f"{RESAMPLING} {result['alignment']}",
        f"Q2D2: fingerprint {ours['fingerprint']}, {ours['tokens']} tokens. The entropy is that of the counts, too low "
        "while tokens are not many times the codebook. Files of Opus and Codec2 count with their containers.",
    ]
    if lost := left_out(result):
        notes.append(f"Left out: {'; '.join(lost)}.")
    if ours["memory"]:
        memory = ours["memory"]
        notes.append(
            f"Peak memory of coding {memory['audio_seconds']:.0f} seconds both ways: {memory['peak_mb']:.0f} MB, with "
            f"weights and libraries {memory['process_mb']:.0f} MB. Speed: warm, {run['threads']} threads."
        )
    return [*notes, written_by(run)]


def tables(result: Result) -> list[list[list[str]]]:
    """All tables of an evaluation."""
    return [quality_table(result), rate_table(result), usage_table(result)]


def as_markdown(result: Result) -> str:
    """Tables and notes as Markdown."""
    return "\n\n".join([*map(markdown_table, tables(result)), *notes(result)])


def _html_table(table: list[list[str]]) -> str:
    head = "".join(f"<th>{html.escape(cell)}</th>" for cell in table[0])
    body = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in table[1:])
    return f"<table><tr>{head}</tr>{body}</table>"


def _players(rows: list[Row], audio: Path, page: Path) -> str:
    """Table of one clip: codec, player, scores."""
    lines = []
    for row in rows:
        scores = html.escape(", ".join(f"{name} {value:.3f}" for name, value in flat_scores(row).items()))
        source = html.escape(os.path.relpath(audio_file(audio, row), page.parent))
        player = f'<audio controls preload="none" src="{source}"></audio>'
        lines.append(f"<tr><td>{html.escape(row['codec'])}</td><td>{player}</td><td>{scores}</td></tr>")
    return f"<h3>{html.escape(rows[0]['clip'])}</h3><table>{''.join(lines)}</table>"


def write_page(path: Path, result: Result, plot: Path, audio: Path, listen: list[list[Row]]) -> None:
    """The tables, the plot and players for some clips, each with the rows of all codecs, as one HTML page."""
    style = "body{font-family:sans-serif;max-width:75em;margin:auto} td,th{padding:.2em .6em;text-align:left}"
    parts = [
        f"<!doctype html><meta charset=utf-8><title>Q2D2 evaluation</title><style>{style}</style>",
        "<style>table{display:block;overflow-x:auto} img{max-width:100%}</style>",
        "<h1>Q2D2 evaluation</h1>",
        *map(_html_table, tables(result)),
        *(f"<p>{html.escape(note)}</p>" for note in notes(result)),
        f'<img src="data:image/png;base64,{base64.b64encode(plot.read_bytes()).decode()}" alt="scores of all codecs">',
        "<h2>Listen</h2>",
        *(_players(rows, audio, path) for rows in listen),
    ]
    path.write_text("\n".join(parts) + "\n")
