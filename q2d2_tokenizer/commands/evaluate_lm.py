"""Measure a language model: bits of held-out tokens, and the speech it generates next to recordings and codec.

    python scripts/evaluate_lm.py --tokens 'tokens/*-validation-*.parquet' --output docs/results/lm
    python scripts/evaluate_lm.py --recordings 'speech/piperjoe-validation-*.parquet' --clips 100 \
        --sentences sentences.txt --asr models/moonshine --metrics dnsmos speaker --output docs/results/lm

Writes lm.json (the summary, with command, commit and versions), lm.md (tables) and plots, and in the folder details,
which git ignores: the audio and rows.jsonl, from which an interrupted evaluation goes on. Recordings are Parquet files
with `id`, `audio`, `text` and `speaker`; each is measured as it is, through the codec, read from its text, read in the
voice of another recording of the speaker, and continued after its first seconds. Rows are known by weights, settings
and task but not by the code of the metrics: --restart measures all again. For --asr see evaluation/asr.py.
"""

import argparse
import dataclasses
import json
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from ..evaluation.arguments import clip_count
from ..evaluation.language_model.likelihood import measure_likelihood
from ..evaluation.language_model.report import plot_likelihood, plot_speech, write_report
from ..evaluation.language_model.speech import Speech, SpeechMeasures, summarize
from ..evaluation.language_model.tasks import Task, load_recordings, recording_tasks, sentence_tasks
from ..evaluation.metrics import METRICS
from ..evaluation.provenance import describe_run
from ..evaluation.summary import without_nan
from ..speech import CONTINUATION_TEMPERATURE, add_options, load_models, make_settings

# Of speech that no recording says the same way: what it is compared with is another recording of the speaker.
_METRICS = [name for name, metric in METRICS.items() if name == "speaker" or not metric.needs_reference]


def parse_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The arguments, checked as far as that needs no models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", nargs="+", default=[], help="held-out token shards: files, folders or globs")
    parser.add_argument("--recordings", nargs="+", default=[], help="held-out Parquet files, folders or globs")
    parser.add_argument("--clips", type=clip_count, default=100, help="at most that many recordings, evenly spread")
    parser.add_argument("--sentences", type=Path, help="text file to be read, a sentence per line")
    parser.add_argument(
        "--asr", metavar="FOLDER", help="with a model (see evaluation/asr.py): adds word and letter error rates"
    )
    parser.add_argument(
        "--metrics", nargs="*", default=[], choices=_METRICS, metavar="METRIC", help=f"of {', '.join(_METRICS)}"
    )
    parser.add_argument(
        "--continuation_temperature",
        type=float,
        default=CONTINUATION_TEMPERATURE,
        help="of sampling where there is no text, which --temperature is for",
    )
    parser.add_argument("--output", type=Path, default=Path("runs/lm_evaluation"), help="folder for the results")
    parser.add_argument("--restart", action="store_true", help="forget the rows of earlier runs")
    add_options(parser, max_seconds=20.0)
    args = parser.parse_args(argv)
    if not (args.tokens or args.recordings or args.sentences):
        parser.error("give --tokens, --recordings or --sentences")
    for name in args.metrics:
        if METRICS[name].missing():
            modules, install = ", ".join(METRICS[name].missing()), METRICS[name].install
            parser.error(f"the metric {name} needs {modules}, which is not installed: pip install {install}")
    return args


def prepare_output(folder: Path, restart: bool) -> Path:
    """The folder of the results, and in it the one that git ignores, which is returned."""
    details = folder / "details"
    details.mkdir(parents=True, exist_ok=True)
    (details / ".gitignore").write_text("*\n")
    if restart:
        (details / "rows.jsonl").unlink(missing_ok=True)
    return details


def evaluate_speech(speech: Speech, tasks: list[Task]) -> dict[str, Any]:
    """Summary of every system; tasks that the file of rows has are not measured again."""
    rows: dict[str, list] = {}
    for task in tqdm(tasks, desc="speech", disable=None):
        rows.setdefault(task.system, []).append(speech.row(task))
    return {system: summarize(found) for system, found in rows.items()}


def main(argv: list[str] | None = None) -> None:
    """Parse the arguments, measure and write the results."""
    args = parse_arguments(argv)
    codec, language_model = load_models(args)
    settings = make_settings(args, codec.config.frame_rate)
    without_text = dataclasses.replace(settings, temperature=args.continuation_temperature)
    details = prepare_output(args.output, args.restart)
    result = {
        "run": describe_run(),
        "parameters": language_model.model.num_parameters(),
        "codec_fingerprint": language_model.layout.codec_fingerprint,
        "generation": vars(settings) | {"continuation_temperature": args.continuation_temperature},
    }
    if args.tokens:
        result["likelihood"] = measure_likelihood(language_model, codec.config, args.tokens)
        plot_likelihood(args.output / "bits_by_place.png", result)
    tasks = sentence_tasks(args.sentences, language_model) if args.sentences else []
    if args.recordings:
        recordings = load_recordings(args.recordings, codec, args.clips)
        tasks = recording_tasks(recordings, language_model, codec) + tasks
    if tasks:
        measures = SpeechMeasures(args.metrics, codec.config.sampling_rate, args.asr)
        speech = Speech(codec, language_model, (settings, without_text), measures, details)
        result["speech"] = evaluate_speech(speech, tasks)
        plot_speech(args.output / "speech.png", result)
    (args.output / "lm.json").write_text(json.dumps(without_nan(result), indent=1) + "\n")
    write_report(args.output / "lm.md", result)
    print((args.output / "lm.md").read_text())
