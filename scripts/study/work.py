"""One run of the study from nothing to its numbers: codec, its scores, its tokens, language models on them.

Weights are not kept, so all that is to be known of a run is measured here.
"""

import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch
from plan import Run
from records import rounded

from lm.layout import codes_to_indices
from lm.model import ModelSettings
from lm.training import LanguageModelTrainer
from lm.training import TrainConfig as LanguageModelConfig
from q2d2_tokenizer import Q2D2Model
from q2d2_tokenizer.corpus.shards import codec_metadata, shard_schema, write_shard
from q2d2_tokenizer.evaluation.clips import Clip, load_clips
from q2d2_tokenizer.evaluation.curves import read_log
from q2d2_tokenizer.evaluation.rows import build_metrics
from q2d2_tokenizer.feature_extraction_q2d2 import to_float32
from q2d2_tokenizer.training.codec import CodecTrainer, TrainConfig
from q2d2_tokenizer.training.data import AudioCache
from q2d2_tokenizer.training.loop import NotFiniteError
from q2d2_tokenizer.training.statistics import usage

DIGITS = 6  # of numbers in a record
CURVES = ("mel", "envelope", "gradient_norm", "codes_used")


class Clock:
    """Seconds of wall clock and processor that the parts of a run took."""

    def __init__(self) -> None:
        self.seconds: dict[str, dict[str, float]] = {}

    @contextmanager
    def measure(self, part: str) -> Iterator[None]:
        """Measure what is done inside."""
        start = time.perf_counter(), _processor_seconds()
        try:
            yield
        finally:
            wall, processor = time.perf_counter() - start[0], _processor_seconds() - start[1]
            self.seconds[part] = {"wall": round(wall, 1), "processor": round(processor, 1)}


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def work(run: Run, data: list[str], validation_data: list[str], cache: Path, folder: Path) -> dict[str, Any]:
    """Train and measure a run; returns its record.

    Args:
        run: Its settings.
        data: Recordings to train on, as `q2d2 train` takes them.
        validation_data: Recordings of other speakers.
        cache: Folder of decoded audio, shared by all runs.
        folder: An empty one, for what is needed meanwhile.
    """
    clock = Clock()
    record: dict[str, Any] = {
        "bits": {"per_token": run.codec.bits_per_code, "per_second": run.codec.bitrate},
        "status": "done",
        "error": None,
    }
    trainer = _trainer(run, data, cache, folder)
    try:
        with clock.measure("codec"):
            trainer.run()
    except NotFiniteError as error:
        record |= {"status": "diverged", "error": str(error)}
    record["steps"] = trainer.progress.step
    record["curve"] = _curve(trainer)
    if record["status"] == "done" and not _has_learned(record["curve"]["mel"]):
        record |= {"status": "diverged", "error": "the mel loss at the end is not below that of the first steps"}
    if record["status"] == "done":
        codec = trainer.averaged.eval()
        with clock.measure("evaluation"):
            record |= evaluate(codec, run.settings["evaluation"], validation_data, cache)
        with clock.measure("tokens"):
            held_out = AudioCache(validation_data, cache, codec.config.sampling_rate)
            chosen = held_out.spread(run.settings["evaluation"]["token_recordings"])
            record["usage"] = describe_codes(tokenize(codec, held_out, chosen, folder / "validation.parquet"), codec)
        if run.settings["language_model"]:
            assert isinstance(trainer.data, AudioCache)  # the runs do not stream
            record["language_models"] = language_models(codec, run, trainer.data, folder, clock)
    return record | {"seconds": clock.seconds}


def _trainer(run: Run, data: list[str], cache: Path, folder: Path) -> CodecTrainer:
    run.codec.to_json_file(folder / "codec.json")
    settings = run.settings["training"]
    config = TrainConfig(
        output=str(folder / "codec"),
        codec=str(folder / "codec.json"),
        data=data,
        cache=str(cache),
        seed=run.seed,
        save_every=settings["steps"],
        **settings,
    )
    return CodecTrainer(config)


def _curve(trainer: CodecTrainer) -> dict[str, list[float]]:
    """Logged steps with their learning rates and losses."""
    path = trainer.output / "log.jsonl"
    logged = read_log(path) if path.exists() else {}
    curve: dict[str, list[float]] = {name: [] for name in ("step", "learning_rate", *CURVES)}
    for name in CURVES:
        if name in logged:
            curve["step"], curve[name] = logged[name]
    config = trainer.config
    curve["learning_rate"] = [config.learning_rate * config.rate_factor(step - 1) for step in curve["step"]]
    return rounded(curve, DIGITS)


def _has_learned(losses: list[float]) -> bool:
    return len(losses) < 2 or losses[-1] < losses[0]


def evaluate(codec: Q2D2Model, settings: dict[str, Any], validation_data: list[str], cache: Path) -> dict[str, Any]:
    """Scores of every clip, with their names and speakers."""
    rate = codec.config.sampling_rate
    found = load_clips(validation_data, cache, rate, settings["clips"])
    longest = round(settings["seconds"] * rate)
    clips = [Clip(clip.id, clip.audio[:longest], rate, speaker=clip.speaker) for clip in found]
    metrics = build_metrics(settings["metrics"], rate, frame_rate=codec.config.frame_rate)
    scores: dict[str, list[float]] = {}
    for clip in clips:
        decoded = codec(torch.from_numpy(clip.audio).view(1, 1, -1)).audio_values.flatten().numpy()
        for metric in metrics.values():
            for name, value in metric(clip, decoded).items():
                scores.setdefault(name, []).append(rounded(float(value), DIGITS))
    return {"clips": [clip.id for clip in clips], "speakers": [clip.speaker for clip in clips], "scores": scores}


def language_models(
    codec: Q2D2Model, run: Run, recordings: AudioCache, folder: Path, clock: Clock
) -> dict[str, dict[str, Any]]:
    """What language models with each head make of the tokens of the codec."""
    settings = run.settings["language_model"]
    count = max(1, round(len(recordings) * min(1.0, settings["hours"] * 3600 / recordings.seconds)))
    with clock.measure("tokens to train on"):
        tokenize(codec, recordings, recordings.spread(count), folder / "train.parquet")
    models = {}
    for head in settings["heads"]:
        if head == "flat" or len(codec.config.points_per_group) > 1:
            with clock.measure(f"language model, {head}"):
                models[head] = train_language_model(head, run.seed, settings, folder)
    return models


def describe_codes(codes: np.ndarray, codec: Q2D2Model) -> dict[str, Any]:
    """How many codes of the codebook (N,), and points of every group, are in use, and how evenly."""
    groups = list(codec.config.points_per_group)
    indices = codes_to_indices(codes.astype(np.int64), groups)
    found = {
        "tokens": len(codes),
        "codebook": usage(codes, codec.config.codebook_size),
        "groups": [usage(index, size) for index, size in zip(indices, groups, strict=True)],
    }
    return rounded(found, DIGITS)


def tokenize(codec: Q2D2Model, recordings: AudioCache, indices: list[int], shard: Path) -> np.ndarray:
    """Write the tokens of recordings as a shard, and return them (N,), one recording after the other."""
    rows = {"id": [], "codes": [], "num_samples": []}
    for index in indices:
        audio = torch.from_numpy(to_float32(recordings[index])).view(1, 1, -1)
        rows["id"].append(str(index))
        rows["codes"].append(codec.encode(audio).audio_codes.flatten().int().numpy())
        rows["num_samples"].append(audio.shape[-1])
    write_shard(shard, pa.table(rows, schema=shard_schema(pa.schema([]), codec_metadata(codec))))
    return np.concatenate(rows["codes"])


def train_language_model(head: str, seed: int, settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Train one on the shards of a folder; returns its bits on the validation shard, and its curve."""
    steps = settings["training"]["steps"]
    config = LanguageModelConfig(
        output=str(folder / f"lm-{head}"),
        data=[str(folder / "train.parquet")],
        validation_data=[str(folder / "validation.parquet")],
        seed=seed,
        save_every=steps,
        validate_every=steps,
        **settings["training"],
    )
    trainer = LanguageModelTrainer(config, ModelSettings(audio_head=head, **settings["model"]))
    trainer.run()
    logged = read_log(trainer.output / "log.jsonl")
    steps_logged, bits = logged["bits_per_token"]
    found = {name: logged[f"validation_{name}"][1][-1] for name in ("bits_per_second", "bits_per_token", "right_share")}
    curve = {
        "step": steps_logged,
        "learning_rate": logged["learning_rate"][1],
        "bits_per_token": bits,
    }
    parameters = sum(weight.numel() for weight in trainer.language_model.model.parameters())
    return rounded(found | {"parameters": parameters, "curve": curve}, DIGITS)
