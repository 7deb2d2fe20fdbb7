"""Tables and plots of a page about tokens, from the JSON files of `q2d2 evaluate-tokens`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...audio.files import read_json, write_atomically
from ..metrics import imitated_by
from ..plot import panels
from ..report import IMITATED, PAGES, fill_tables
from . import published
from .probes import DISJOINT, RANDOM
from .sets import SETS
from .stability import ELSEWHERE, EQUAL, NEAR, SHIFT_SAMPLES

Table = list[list[str]]
Results = dict[str, dict[str, Any]]
_NO = "–"
_PROBES = "probes-"
_MODELLING = "modelling-"


def read_results(folder: Path) -> Results:
    """Contents of the JSON files of a folder by their names."""
    return {path.stem: read_json(path) for path in sorted(folder.glob("*.json"))}


def percent(score: dict[str, Any] | None, digits: int = 1) -> str:
    """A share with its interval, in percent."""
    if score is None:
        return _NO
    if "share" in score:
        return f"{100 * score['share']:.0f} % ({100 * score['low']:.0f} to {100 * score['high']:.0f})"
    interval = "" if score["interval"] is None else f" ± {100 * score['interval']:.{digits}f}"
    return f"{100 * score['mean']:.{digits}f}{interval}"


def _sets(results: Results) -> dict[str, dict[str, Any]]:
    """Results of the sets of probes that were measured, in their order."""
    return {name: results[_PROBES + name] for name in SETS if _PROBES + name in results}


def _models(results: Results) -> Results:
    """Results of --modelling by language model."""
    return {name.removeprefix(_MODELLING): found for name, found in results.items() if name.startswith(_MODELLING)}


def sets_table(results: Results) -> Table:
    """What the probes are measured on."""
    table = [["set", "what", "stands in for", "clips", "speakers", "most frequent class", "source", "licence"]]
    for name, found in _sets(results).items():
        one = SETS[name]
        cells = [f"{found['clips']}", f"{found['speakers'] or 'unknown'}", f"{100 * found['majority']:.1f} %"]
        table.append([name, one.task, one.stands_for or _NO, *cells, one.source, one.licence])
    return table


def probes_table(results: Results) -> Table:
    """Accuracy and macro-F1 of every representation on every set, with published ones."""
    titles = ["accuracy", "accuracy, scaled", "F1, scaled"]
    table = [
        ["set", "representation", "numbers", *(f"{split}: {title}" for split in (DISJOINT, RANDOM) for title in titles)]
    ]
    for name, found in _sets(results).items():
        for key, probe in found["probes"].items():
            cells = []
            for split in (DISJOINT, RANDOM):
                plain, scaled = (probe["splits"].get(f"{split}, {kind}") for kind in ("as it is", "scaled"))
                cells += [percent(plain and plain["accuracy"]), percent(scaled and scaled["accuracy"])]
                cells.append(f"{100 * scaled['macro_f1']:.1f}" if scaled else _NO)
            table.append([name, key, str(probe["dimensions"]), *cells])
    return table


def published_probes_table(results: Results) -> Table:
    """Published accuracies on the sets that those here stand in for."""
    table = [["published", *(f"{name}, %" for name in published.PROBE_SETS), "source"]]
    return table + [
        [name, *(f"{value:.2f}" for value in row[:3]), str(row[3])] for name, row in published.PROBES.items()
    ]


def _stability_row(name: str, row: dict[str, Any]) -> list[str]:
    quantiles = row["quantiles_of_equal"]
    spread = f"{100 * quantiles['0.05']:.1f} to {100 * quantiles['0.95']:.1f}"
    groups = ", ".join(f"{100 * group[EQUAL]['mean']:.0f}" for group in row["groups"])
    moved = ", ".join(f"{group['distance']['mean']:.2f}" for group in row["groups"])
    shares = [percent(row[key]) for key in (EQUAL, NEAR, ELSEWHERE)]
    return [name, *shares, spread, percent(row["edits"]), groups, moved]


_STABILITY_TITLES = [
    "what was done",
    "equal, %",
    "off by one cell, %",
    "elsewhere, %",
    "equal: 5 to 95 % of clips",
    "edits, %",
    "equal, by group, %",
    "distance, by group",
]


def stability_table(results: Results) -> Table:
    """Tokens that stay under every change."""
    found = results["stability"]
    hop = found["hop_length"]
    shown = {key: row for key, row in found["shifts"].items() if int(key) in (SHIFT_SAMPLES, hop // 2)}
    shifts = {f"first {key} samples cut off, {int(key) / hop:.2f} of a frame": row for key, row in shown.items()}
    rows = found["slices"] | shifts | {key: row for key, row in found["changes"].items() if key != "none"}
    for name, row in rows.items():
        if rate := row.get("bits_per_second"):
            rows[name] = row | {"name": f"{name} (came to {rate['mean'] / 1000:.1f})"}
    return [_STABILITY_TITLES, *(_stability_row(row.get("name", name), row) for name, row in rows.items())]


def rounds_table(results: Results) -> Table:
    """Tokens and quality after every round of encoding and decoding."""
    rounds = results["stability"]["rounds"]
    against = ("against the first", "against the round before")
    scores = [name for name in rounds[0] if name not in against]
    table = [
        ["round", *(f"equal {name}, %" for name in against), "off by one cell against the round before, %", *scores]
    ]
    for number, row in enumerate(rounds, 1):
        cells = [percent(row[name][EQUAL]) for name in against] + [percent(row[against[1]][NEAR])]
        table.append([str(number), *cells, *(f"{row[name]['mean']:.3f}" for name in scores)])
    return [*table, [IMITATED, *[_NO] * (len(against) + 1), *map(imitated_by, scores)]]


def published_stability_table(results: Results) -> Table:
    """Published shares of equal tokens of slices, and of edits under noise."""
    table = [["published", "equal tokens of slices, %", "edits under noise, %", "source"]]
    table += [[name, str(value), _NO, published.SLICES_SOURCE] for name, value in published.SLICES.items()]
    return table + [[name, _NO, str(value), published.EDITS_SOURCE] for name, value in published.EDITS.items()]


def modelling_table(results: Results) -> Table:
    """Bits per second of language models, ours and a published one."""
    table = [["measured on", "model", "vocabulary", "context", "seconds", "bit/s", "nominal", "saved"]]
    for name, found in _models(results).items():
        model = f"{name}, {found['parameters'] / 1e6:.1f} M, {found['head']}"
        for data, kinds in found["language_model"].items():
            for kind, row in kinds.items():
                bits = f"{row['bits_per_second']['mean']:.1f} ± {row['bits_per_second']['interval']:.1f}"
                where = f"{data}, {row['recordings']} recordings, {kind}"
                sizes = [f"{found['vocabulary']:,}", f"{found['context']:,} tokens", f"{row['seconds']:.0f}"]
                nominal = f"{row['nominal_bits_per_second']:.0f}"
                table.append([where, model, *sizes, bits, nominal, f"{100 * row['saved_share']:.1f} %"])
    other = published.SMALL_MODEL
    cells = [f"{other['parameters'] / 1e6:.1f} M, another codec", "not told", "not told", "not told"]
    numbers = f"{other['bits_per_second']}", f"{other['nominal_bits_per_second']:.0f}"
    saved = f"{100 * (1 - other['bits_per_second'] / other['nominal_bits_per_second']):.0f} %"
    return [*table, ["published, train-clean-100, one seed", *cells, *numbers, saved]]


def ngrams_table(results: Results) -> Table:
    """Bits per second of n-grams by order and view."""
    found = next(found["ngrams"] for found in _models(results).values() if "ngrams" in found)
    titles = [f"held out, {name}, bit/s" for name in found["held_out"]]
    table = [["view", "symbols before", *titles, "counted, bit/s", "n-grams seen once"]]
    first = next(iter(found["held_out"].values()))
    for view in ("flat", "factored"):
        for number, row in enumerate(first[view]):
            bits = [f"{one[view][number]['held_out']:.0f}" for one in found["held_out"].values()]
            table.append([view, str(row["order"]), *bits, f"{row['counted']:.0f}", f"{100 * row['once']:.0f} %"])
    return table


def perplexities_table(results: Results) -> Table:
    """Published perplexities, as bits per second where that can be told."""
    table = [["codec", "perplexity", "model and data", "tokens/s", "bit/s", "nominal bit/s", "why not", "source"]]
    for one in published.PERPLEXITIES:
        numbers = [one.tokens_per_second, one.bits_per_second, one.nominal_bits_per_second]
        cells = [_NO if value is None else f"{value:.0f}" for value in numbers]
        table.append([one.codec, f"{one.perplexity:,.0f}", one.model, *cells, one.problem or _NO, one.source])
    return table


def contrasts_table(results: Results) -> Table:
    """Share of pairs in which the original is likelier."""
    found = results["contrasts"]
    table = [["what changes half-way", "pairs", "original likelier (95 % interval)"]]
    return table + [[name, str(row["n"]), percent(row)] for name, row in found["tasks"].items()]


def published_contrasts_table(results: Results) -> Table:
    """Published shares of SALMon."""
    table = [["published", *(f"{name}, %" for name in published.SALMON_TASKS), "source"]]
    return table + [[name, *map(str, row), published.SALMON_SOURCE] for name, row in published.SALMON.items()]


def word_times_table(results: Results) -> Table:
    """Errors of where words begin."""
    found = results["word_times"]
    limits = list(found["alignment"]["within"])
    within = [f"within {1000 * float(limit):.0f} ms, %" for limit in limits]
    table = [["start of a word", "words", "median error, ms", "mean error, ms", "bias, ms", *within]]
    for name in ("alignment", "even letters"):
        row = found[name]
        mean, bias = (f"{1000 * row[key]['mean']:.0f} ± {1000 * row[key]['interval']:.0f}" for key in ("mean", "bias"))
        cells = [f"{found['words']}", f"{1000 * row['median']:.0f}", mean, bias]
        table.append([name, *cells, *(percent(row["within"][limit], 0) for limit in limits)])
    return table


def runs_table(results: Results) -> Table:
    """Codec, command and commit of every part."""
    rows = [
        [name, f"`{found['codec_fingerprint']}`", f"`{found['run']['command']}`", found["run"]["commit"]]
        for name, found in results.items()
    ]
    return [["part", "codec", "written by", "at commit"], *rows]


def summary_table(results: Results) -> Table:
    """The main numbers, for README and model card."""
    codecs = sorted({f"`{found['codec_fingerprint']}`" for found in results.values()})
    table = [[f"tokens of codec {', '.join(codecs)}", "number", "measured on"]]
    if found := _models(results).get("bundled"):
        for data, kinds in found["language_model"].items():
            row = kinds["speech alone"]
            size = f"{found['parameters'] / 1e6:.1f} M parameters"
            bits = f"{row['bits_per_second']['mean']:.0f} of {row['nominal_bits_per_second']:.0f} bit/s"
            table.append([f"a language model of {size} pays", bits, f"{data}, {row['recordings']} recordings"])
    if "stability" in results:
        found = results["stability"]
        on = f"LibriSpeech, {found['clips']} recordings of {found['speakers']} speakers"
        for name in ("stream in chunks of random size", "slice of 1 s"):
            table.append([f"equal in a {name}", f"{percent(found['slices'][name][EQUAL])} %", on])
        table.append(["equal at -6 dB", f"{percent(found['changes']['gain -6 dB'][EQUAL])} %", on])
    if "word_times" in results:
        row = results["word_times"]["alignment"]
        on = f"{results['word_times']['words']} words of eSpeak NG (synthetic)"
        table.append(["median error of where a word begins", f"{1000 * row['median']:.0f} ms", on])
    return table


# Tables by name, and the part of the results that each needs.
TABLES: dict[str, tuple[Callable[[Results], Table], str]] = {
    "sets": (sets_table, ""),
    "probes": (probes_table, ""),
    "published_probes": (published_probes_table, ""),
    "stability": (stability_table, "stability"),
    "rounds": (rounds_table, "stability"),
    "published_stability": (published_stability_table, ""),
    "modelling": (modelling_table, "modelling"),
    "ngrams": (ngrams_table, "ngrams"),
    "perplexities": (perplexities_table, ""),
    "contrasts": (contrasts_table, "contrasts"),
    "published_contrasts": (published_contrasts_table, ""),
    "word_times": (word_times_table, "word_times"),
    "runs": (runs_table, ""),
    "summary": (summary_table, ""),
}


def all_tables(results: Results) -> dict[str, Table]:
    """Every table; one that says so for a part that was not measured."""
    missing = [["not measured yet"], ["see `q2d2 evaluate-tokens --help`"]]
    parts = {name.partition("-")[0] for name in results}  # modelling of modelling-bundled
    if any("ngrams" in found for found in _models(results).values()):
        parts.add("ngrams")
    return {name: missing if part and part not in parts else make(results) for name, (make, part) in TABLES.items()}


def write_page(page: Path, folder: Path) -> None:
    """Fill the tables of a page, of README and of the card of the weights, and draw the plots into the folder.

    Args:
        page: Markdown file with marks such as <!-- tokens: probes -->, in the folder docs of a repository.
        folder: Folder of the JSON files.

    Raises:
        ValueError: If there is no such page, or no results to fill it with.
    """
    if not page.is_file():
        raise ValueError(f"there is no page {page} to fill; it needs marks such as <!-- tokens: probes -->")
    results = read_results(folder)
    if not results:
        raise ValueError(f"there are no results in {folder}; --output must be the folder that holds their JSON files")
    tables = all_tables(results)
    for path in (page, *(page.parent.parent / other for other in PAGES)):
        if path.is_file():
            write_atomically(path, fill_tables(path.read_text(), tables, "tokens").encode())
    if _sets(results):
        plot_probes(folder / "probes.png", results)
    if "stability" in results:
        plot_stability(folder / "stability.png", results["stability"])


def plot_probes(path: Path, results: Results) -> None:
    """A bar for every representation on every set, on the speaker-disjoint split, if there is one."""
    found = _sets(results)
    with panels(path, len(found), min(3, len(found)), (4.5, 3)) as axes:
        for axis, (name, one) in zip(axes, found.items(), strict=True):
            split = next(
                s for s in (DISJOINT, RANDOM) if f"{s}, scaled" in next(iter(one["probes"].values()))["splits"]
            )
            scores = {key: probe["splits"][f"{split}, scaled"]["accuracy"] for key, probe in one["probes"].items()}
            intervals = [100 * (score["interval"] or 0) for score in scores.values()]
            axis.barh(list(scores), [100 * score["mean"] for score in scores.values()], xerr=intervals)
            axis.axvline(100 * one["majority"], color="gray", linestyle=":")
            axis.set(title=f"{name}: {split}, n={one['clips']}", xlabel="accuracy, % (scaled)")
            axis.invert_yaxis()


def plot_stability(path: Path, found: dict[str, Any]) -> None:
    """Where tokens go under every change, shares of equal tokens by shift, and by round of encoding."""
    changes = {name: row for name, row in found["changes"].items() if name != "none"}
    with panels(path, 3, 3, (5, 5)) as (bars, shifts, rounds):
        left = [0.0] * len(changes)
        for key, colour in zip((EQUAL, NEAR, ELSEWHERE), ("C0", "C9", "lightgray"), strict=True):
            shares = [100 * row[key]["mean"] for row in changes.values()]
            bars.barh(list(changes), shares, left=left, color=colour, label=key)
            left = [a + b for a, b in zip(left, shares, strict=True)]
        bars.invert_yaxis()
        bars.set(xlabel="% of tokens")
        bars.legend(loc="lower right")
        near = {int(key): row for key, row in found["shifts"].items() if 2 * int(key) <= found["hop_length"]}
        for key in (EQUAL, NEAR):
            shifts.plot(list(near), [100 * row[key]["mean"] for row in near.values()], marker=".", label=key)
        shifts.set(xlabel=f"first samples cut off (hop {found['hop_length']})", ylabel="% of tokens")
        shifts.legend()
        for name in ("against the first", "against the round before"):
            values = [100 * row[name][EQUAL]["mean"] for row in found["rounds"]]
            rounds.plot(range(1, len(values) + 1), values, marker=".", label=f"equal {name}")
        if "stoi" in found["rounds"][0]:
            stoi = [100 * row["stoi"]["mean"] for row in found["rounds"]]
            rounds.plot(range(1, len(stoi) + 1), stoi, linestyle=":", label="STOI x 100")
        rounds.set(xlabel="round of encoding and decoding", ylabel="%")
        rounds.legend()
