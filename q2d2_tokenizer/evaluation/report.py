"""The files `evaluate_codec.py` writes from its result: a table and a page with players."""

import html
import math
import os
from pathlib import Path
from typing import Any

from .plot import arrow
from .rows import Row, audio_file, flat_scores
from .tables import markdown_table

Result = dict[str, Any]


def score_names(result: Result) -> list[str]:
    """Names of all scores, in the order in which they were measured."""
    return list(dict.fromkeys(name for summary in result["summary"].values() for name in summary))


def format_score(score: dict[str, float] | None, clips: int) -> str:
    """Mean, interval, and n where it is not the number of clips."""
    if score is None or not score["n"]:
        return "–"
    counted = "" if score["n"] == clips else f" (n={score['n']})"
    interval = "" if math.isnan(score["interval"]) else f" ± {score['interval']:.3f}"
    return f"{score['mean']:.3f}{interval}{counted}"


def quality_table(result: Result) -> list[list[str]]:
    """Rows of cells, the first one with titles: every score of every codec."""
    names = score_names(result)
    table = [["codec", "n", *map(arrow, names)]]
    for codec, summary in result["summary"].items():
        clips = len(result["clips"][codec])
        table.append([codec, str(clips), *(format_score(summary.get(name), clips) for name in names)])
    return table


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
    """Rows of cells, the first one with titles: use of the joint codebook and of every grid."""
    table = [["codebook", "codes", "used", "entropy, bit", "of", "perplexity"]]
    ours = result["ours"]
    grids = {f"grid {i + 1}": grid for i, grid in enumerate(ours["usage_per_grid"])}
    for name, use in {"joint": ours["usage"], **grids}.items():
        most = math.log2(use["size"])
        cells = [f"{use['size']}", f"{use['used']}", f"{use['entropy_bits']:.3f}", f"{most:.3f}"]
        table.append([name, *cells, f"{use['perplexity']:.1f}"])
    return table


def notes(result: Result) -> list[str]:
    """Sentences below the tables: what was measured, how, and by which command."""
    ours, run, data = result["ours"], result["run"], result["data"]
    notes = [
        f"{data['clips']} clips, {data['seconds']:.0f} seconds. Mean ± half-width of the 95 % interval; an arrow shows "
        f"which way is better. {result['alignment']}",
        f"Q2D2: fingerprint {ours['fingerprint']}, {ours['tokens']} tokens. The entropy is that of the counts, too low "
        "while tokens are not many times the codebook. Files of Opus and Codec2 count with their containers.",
    ]
    if ours["memory"]:
        memory = ours["memory"]
        notes.append(
            f"Peak memory of coding {memory['audio_seconds']:.0f} seconds both ways: {memory['peak_mb']:.0f} MB, with "
            f"weights and libraries {memory['process_mb']:.0f} MB. Speed: warm, {run['threads']} threads."
        )
    return [*notes, f"Written by `{run['command']}` at commit {run['commit']}."]


def write_table(path: Path, result: Result) -> None:
    """The summary as Markdown."""
    blocks = [markdown_table(table) for table in (quality_table(result), rate_table(result), usage_table(result))]
    path.write_text("\n\n".join([*blocks, *notes(result)]) + "\n")


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
        *(_html_table(table) for table in (quality_table(result), rate_table(result), usage_table(result))),
        *(f"<p>{html.escape(note)}</p>" for note in notes(result)),
        f'<img src="{html.escape(os.path.relpath(plot, path.parent))}" alt="scores of all codecs">',
        "<h2>Listen</h2>",
        *(_players(rows, audio, path) for rows in listen),
    ]
    path.write_text("\n".join(parts) + "\n")
