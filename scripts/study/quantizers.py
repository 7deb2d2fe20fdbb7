"""Lattices at equal bits, apart from any training: error, border, walls of cells, gradients, and margins of tokens.

    python scripts/study/quantizers.py --data 'speech/librispeech-validation-*.parquet'

Writes quantizers.json, quantizers.md and five pictures. Real latents are those of the bundled encoder, of the recording
that comes along and of `--data`. Takes less than five minutes on one core.
"""

import argparse
import json
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import lattice_experiments as experiments
import torch
from lattice_experiments import BORDERS, NAMES, SAME_SIZE, SPREADS, Curves, at_rate
from records import rounded

import q2d2_tokenizer
from q2d2_tokenizer import Q2D2Model
from q2d2_tokenizer.evaluation.clips import load_clips
from q2d2_tokenizer.evaluation.plot import panels
from q2d2_tokenizer.evaluation.provenance import describe_run, require_commit, written_by
from q2d2_tokenizer.evaluation.tables import markdown_table, rows_table

RATES = (2.0, 3.25)  # bits a channel; the second is that of the bundled codec and the trained study, about
COLOURS = {"FSQ": "C0", "rhombic": "C1", "hexagon": "C2", "bcc": "C3", "brick": "C4", "learned": "C5"}
STYLES = {"inside": "-", "edge": "--", "best box": "-", "no border": "-"}
REAL = "real latents"


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The settings of a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", nargs="*", default=[], help="recordings for real latents, besides the sample")
    parser.add_argument("--clips", type=int, default=40, help="recordings of the data, evenly spread")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of a recording, from its beginning")
    parser.add_argument("--log2_vectors", type=int, default=16, help="logarithm of the number of synthetic vectors")
    parser.add_argument("--output", type=Path, default=Path("docs/results/study"), help="folder of the results")
    return parser.parse_args(argv)


def read_latents(data: list[str], clips: int, seconds: float) -> list[experiments.Latents]:
    """Latents of the sample that comes along, and of recordings."""
    model = Q2D2Model.from_pretrained(q2d2_tokenizer.default_checkpoint()).eval()
    rate = model.config.sampling_rate
    with TemporaryDirectory() as cache:
        recordings = load_clips([q2d2_tokenizer.sample_recording()], cache, rate)
        recordings += load_clips(data, cache, rate, clips) if data else []
    cut = [replace(clip, audio=clip.audio[: int(seconds * rate)]) for clip in recordings]
    return [experiments.latents_of(model, clip, number) for number, clip in enumerate(cut)]


def run(settings: argparse.Namespace) -> dict[str, Any]:
    """All results."""
    count = 2**settings.log2_vectors
    recordings = read_latents(settings.data, settings.clips, settings.seconds)
    latents = [recording.clean for recording in recordings]
    real, others = torch.cat(latents[::2]), torch.cat(latents[1::2] or latents)  # to quantize, and to learn points from
    samples = {source: experiments.measures.sample(source, count)[0] for source in experiments.BOUNDED}
    sources: dict[str, Curves] = {source: experiments.bounded_curves(source, count) for source in experiments.BOUNDED}
    sources |= {source: experiments.unbounded_curves(source, count) for source in experiments.UNBOUNDED}
    sweeps = {source: experiments.room_sweep(x, alike=True) for source, x in samples.items()}
    return {
        "recordings": len(recordings),
        "frames": sum(map(len, latents)),
        "cells": experiments.cells(),
        "curves": sources | {REAL: experiments.real_curves(real, others)},
        "rooms": sweeps | {REAL: experiments.room_sweep(real, alike=False)},
        "flips": experiments.flips(2 * count),
        "gradients": experiments.gradients(),
        "margins": experiments.margins(recordings),
    }


def rate_rows(curves: dict[str, Curves], key: str) -> list[list[str]]:
    """Excess at the rates, a row for every lattice and border and a column for every source.

    Of real latents it is against FSQ with the border inside. Sources without bounds have no border.
    """
    free = {"bits": "best box", "entropy": "no border"}[key]
    labels = [f"{name}, {border}" for name in NAMES for border in (*BORDERS, free)] + ["learned"]

    def cell(source: str, label: str) -> str:
        values = [at_rate(curves[source][label], key, rate) for rate in RATES] if label in curves[source] else []
        if source == REAL:
            reference = [at_rate(curves[source]["FSQ, inside"], key, rate) for rate in RATES]
            pairs = zip(values, reference, strict=False)
            values = [None if pair[0] is None or pair[1] is None else pair[0] - pair[1] for pair in pairs]
        return " / ".join("–" if value is None else f"{value:.2f}" for value in values)

    rows = [[label, *(cell(source, label) for source in curves)] for label in labels]
    return [["lattice", *curves], *rows]


def margin_rows(margins: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for every lattice and what was done to recordings."""
    return [
        {
            "lattice": name,
            "change": change,
            "share changed": found["changed"],
            **{
                title: f"{found[key]['mean']:.3f} ± {found[key]['interval']:.3f}"
                for title, key in {"AUROC, wall": "auroc", "AUROC, point": "auroc_of_error"}.items()
            },
        }
        for name, by_change in margins.items()
        for change, found in by_change.items()
    ]


def wall_rows(flips: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for every lattice and border."""
    name = f"tokens of 12 channels that change, noise {flips['noise'][1]}"
    return [{"lattice": k, "walls": v, name: flips["of_12_channels"][k][1]} for k, v in flips["walls"].items()]


def gradient_rows(gradients: dict[str, list[list[float]]]) -> list[dict[str, Any]]:
    """A row for every lattice and border, a column for every spread."""
    return [
        {"lattice": label} | {str(s): f"{x:.3f} ({y:.3f})" for s, (x, y) in zip(SPREADS, pairs, strict=True)}
        for label, pairs in gradients.items()
    ]


def report(results: dict[str, Any], record: dict[str, Any]) -> str:
    """Text of quantizers.md."""
    sections = {
        "Cells alone": ("Without a border, at a high rate.", rows_table(results["cells"]), ""),
        "At equal codebook size": (
            f"Error above the Shannon lower bound, in dB, at {' / '.join(map(str, RATES))} bits a channel; of real "
            "latents against FSQ with the border inside. `tanh s` is the tanh of a Gaussian of standard deviation s; "
            "`tanh 0.8` is what the bound of iFSQ makes of a standard one. `best box`: the size of the box is the best "
            "for the source. `learned`: points of k-means on the latents of other recordings. Values between levels "
            "are interpolated.",
            markdown_table(rate_rows(results["curves"], "bits")),
            "",
        ),
        "At equal entropy": (
            "The same, with the entropy of the indices as the rate: joint in a group, and for real latents in pairs, "
            "of FSQ too. `no border`: levels without an end.",
            markdown_table(rate_rows(results["curves"], "entropy")),
            "![Error above the bound by rate](quantizers_rate.png)",
        ),
        "The place of the border": (
            "Error by room between the outermost levels and the side of the box, in lattice units, with "
            f"{', '.join(f'{SAME_SIZE[name]} levels of {name}' for name in results['rooms'][REAL])}. Room 0 is the "
            "border `edge`; a vertical line marks `inside`.",
            "",
            "![Error by room](quantizers_border.png)",
        ),
        "Walls": (
            "Uniform latents at equal codebook size: how often the index of a channel changes under little noise, "
            "against FSQ with the border inside; and tokens of 12 channels. Noise is in half-widths of the box.",
            rows_table(wall_rows(results["flips"])),
            "![Changes by noise](quantizers_flips.png)",
        ),
        "The straight-through gradient": (
            "Relative error of the gradient of the mean output, by spread of the latents in widths of a cell: "
            "everywhere, and in brackets away from the border.",
            rows_table(gradient_rows(results["gradients"])),
            "![Error of the gradient](quantizers_gradient.png)",
        ),
        "Which tokens change": (
            f"{results['frames']} frames of {results['recordings']} recordings. AUROC of the distance to the wall, and "
            "of the distance to the point, which is known for every codebook, for whether the index of a pair changes: "
            "means over recordings, with 95 % intervals that allow for recordings of one speaker.",
            rows_table(margin_rows(results["margins"])),
            "![Changes by distance](quantizers_margin.png)",
        ),
    }
    parts = ["# Quantizers apart from training"]
    for title, (text, rows, picture) in sections.items():
        parts += [part for part in (f"## {title}", textwrap.fill(text, 120), rows, picture) if part]
    return "\n\n".join([*parts, written_by(record)]) + "\n"


def plot_rates(path: Path, curves: dict[str, Curves]) -> None:
    """Error above the bound by entropy, a panel for every source."""
    with panels(path, len(curves), 4, (5, 4)) as axes:
        for axis, (source, of_source) in zip(axes, curves.items(), strict=True):
            for label, curve in of_source.items():
                name, _, border = label.partition(", ")
                if border == "best box" or name == "brick":
                    continue
                points = sorted((point["entropy"], point["excess_entropy"]) for point in curve)
                axis.plot(*zip(*points, strict=True), STYLES.get(border, ":"), color=COLOURS[name], label=label)
            axis.set_title(source)
            axis.set_xlabel("entropy, bits a channel")
            axis.set_ylabel("dB above the bound" if source != REAL else "dB, up to a constant")
            axis.set_xlim(1.3, 4)
            axis.grid(alpha=0.3)
        axes[0].legend(fontsize=7)
        axes[-1].legend(fontsize=7)


def plot_rooms(path: Path, rooms: dict[str, Any]) -> None:
    """Error by room, a panel for every source; at equal entropy, and thin at equal codebook size."""
    with panels(path, len(rooms), 2, (5, 4)) as axes:
        for axis, (source, curves) in zip(axes, rooms.items(), strict=True):
            for name, curve in curves.items():
                room = [point["room"] for point in curve]
                axis.plot(room, [point["relative_entropy"] for point in curve], color=COLOURS[name], label=name)
                axis.plot(room, [point["relative_bits"] for point in curve], ":", color=COLOURS[name])
                inside = experiments.room_inside(NAMES[name][0], SAME_SIZE[name], 2)
                axis.axvline(inside, color=COLOURS[name], alpha=0.3)
            axis.set_title(source)
            axis.set_xlabel("room, lattice units (lines: inside)")
            axis.set_ylabel("dB against FSQ with room 0.5")
            axis.grid(alpha=0.3)
        axes[0].plot([], [], "k-", label="equal entropy")
        axes[0].plot([], [], "k:", label="equal codebook size")
        axes[0].legend(fontsize=8)


def plot_lines(path: Path, x: list[float], lines: dict[str, list[float]], labels: tuple[str, str]) -> None:
    """Lines by lattice and border on logarithmic axes."""
    with panels(path, 1, 1, (7, 5)) as (axis,):
        for label, y in lines.items():
            name, _, border = label.partition(", ")
            axis.loglog(x, y, STYLES[border], color=COLOURS[name], label=label)
        axis.set_xlabel(labels[0])
        axis.set_ylabel(labels[1])
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=8)


def plot_margins(path: Path, margins: dict[str, dict[str, Any]]) -> None:
    """Share of changed indices by distance to the wall, a panel for every lattice."""
    with panels(path, len(margins), 3, (5, 5)) as axes:
        for axis, (name, by_change) in zip(axes, margins.items(), strict=True):
            for change, found in by_change.items():
                label = f"{change}, AUROC {found['auroc']['mean']:.2f}"
                axis.plot(found["distance"], found["changed_by_distance"], "o-", label=label)
            axis.set_title(name)
            axis.set_xlabel("distance to the wall, widths of a cell (deciles)")
            axis.set_ylabel("share of pairs that change")
            axis.set_ylim(0, 1)
            axis.grid(alpha=0.3)
            axis.legend(fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.15))


def main(argv: list[str] | None = None) -> None:
    """Measure, and write results and pictures."""
    settings = arguments(argv)
    folder = settings.output
    require_commit(folder)
    started = time.monotonic()
    results = run(settings)
    record = describe_run() | {"seconds": round(time.monotonic() - started)}
    folder.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"run": record, **rounded(results, 5)}, indent=1)
    (folder / "quantizers.json").write_text(content + "\n")
    (folder / "quantizers.md").write_text(report(results, record), encoding="utf-8")
    plot_rates(folder / "quantizers_rate.png", results["curves"])
    plot_rooms(folder / "quantizers_border.png", results["rooms"])
    flips = results["flips"]
    labels = "noise, half-widths of the box", "share of tokens of 12 channels that change"
    plot_lines(folder / "quantizers_flips.png", flips["noise"], flips["of_12_channels"], labels)
    gradients = {label: [pair[0] for pair in pairs] for label, pairs in results["gradients"].items()}
    labels = "spread of latents, widths of a cell", "relative error of the straight-through gradient"
    plot_lines(folder / "quantizers_gradient.png", list(SPREADS), gradients, labels)
    plot_margins(folder / "quantizers_margin.png", results["margins"])
    print(f"wrote {folder}/quantizers.md in {record['seconds']} s")


if __name__ == "__main__":
    main(sys.argv[1:])
