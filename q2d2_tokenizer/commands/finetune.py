"""The command `q2d2 finetune`."""

from pathlib import Path

from ..training.settings import TrainConfig
from .train import examine

SCORES = ["pesq_wb", "stoi", "log_mel", "distillmos", "speaker"]


def finetune(*, config: TrainConfig, check: bool = False, elsewhere: list[str] | None = None, clips: int = 24) -> int:
    """Fine-tune a codec on your own recordings and measure what that gained on some that were held out.

        q2d2 finetune --data my_recordings --output runs/my_voice
        q2d2 finetune --data my_recordings --output runs/my_voice --freeze encoder quantizer

    Takes every setting of q2d2 train, with other defaults (configs/finetune.yaml of the package); an interrupted run
    goes on. Then the codec before and after codes the held-out recordings, and with --elsewhere also recordings of
    other data, to see what was lost there. Writes weights/ (a codec like any other), comparison.md and comparison.json
    into the output folder. Discriminators are off by default; --adversarial_start 0 takes them from the first step on.
    See docs/finetuning.md.

    Args:
        check: Examine data and settings instead, as q2d2 train --check does.
        elsewhere: Other recordings to measure on, which are not trained on: files, folders or globs.
        clips: Largest number of clips of --elsewhere to measure.
    """
    if config.validation_data or not config.hold_out:
        raise ValueError("recordings are held out of --data: give --hold_out, not --validation_data")
    if not config.codec or config.codec.endswith(".json"):
        raise ValueError(
            f"fine-tuning begins with weights: --codec must be 'bundled' or a folder, got {config.codec!r}"
        )
    from ..audio.files import write_json
    from ..bundled import codec_source
    from ..evaluation.comparison import compare, measure, table
    from ..evaluation.metrics import METRICS
    from ..evaluation.provenance import describe_run, require_commit
    from ..training.codec import CodecTrainer
    from ..training.data import AudioCache

    require_commit(config.output)
    if check:
        return examine(config)
    trainer = CodecTrainer(config)
    trainer.run()
    if not trainer.accelerator.is_main_process:
        return 0
    assert isinstance(trainer.data, AudioCache) and trainer.validation  # as recordings are held out
    places = {"held out": trainer.validation}
    if elsewhere:
        cache = Path(config.cache or f"{config.output}/cache")
        places["elsewhere"] = AudioCache(elsewhere, cache, trainer.data.sampling_rate, config.audio_column)
    names = [name for name in SCORES if not METRICS[name].missing()]
    scores = {}
    for place, recordings in places.items():
        indices = recordings.spread(config.hold_out if place == "held out" else clips)
        pair = (codec_source(config.codec), f"{config.output}/weights")
        scores[place] = compare(*(measure(source, recordings, indices, names) for source in pair))
    result = {
        "run": describe_run(),
        "training_recordings": len(trainer.data),
        "training_seconds": trainer.data.seconds,
        "steps": trainer.progress.step,
        "minutes": trainer.progress.minutes,
        "scores": scores,
    }
    output = Path(config.output)
    write_json(output / "comparison.json", result)
    (output / "comparison.md").write_text(table(result))
    print(table(result))
    return 0
