"""The training doctor: overfits one batch and says what is wrong with data, codec or settings, and what to do."""

import math
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from ..audio.errors import NotFiniteAudioError
from ..audio.files import make_folder, write_json
from ..audio.voice import measure_voice
from ..feature_extraction_q2d2 import to_float32
from .codec import CodecTrainer, TrainConfig
from .data import AudioCache
from .gan import Autoencoder
from .loop import NotFiniteError
from .speech_statistics import SpeechStatistics, measure_speech
from .statistics import usage

# Share of each weighted loss in their sum. Healthy runs of the default and of tiny codecs, from random and from trained
# weights, stay inside; a weight off by 100 does not.
EXPECTED_SHARES = {
    "mel": (0.08, 0.92),
    "loudness": (0.03, 0.85),
    "envelope": (0.02, 0.85),
    "adversarial": (0.002, 0.35),
    "feature": (0.003, 0.35),
}
# For one batch that is trained on: where the losses begin, and the share that is left after the steps of the check.
EXPECTED_START = {"mel": (0.1, 8.0), "loudness": (0.05, 12.0)}
MOST_LEFT = 0.9
_SILENCE_DB = -60.0
_LEAST_ENTROPY = 0.1  # of a group, as a share of what is possible


@dataclass(frozen=True)
class Finding:
    """Something that is wrong: where, what, and what to do about it."""

    part: str
    problem: str
    advice: str


@dataclass
class Report:
    """What `examine` found and measured."""

    faults: list[Finding] = field(default_factory=list)
    losses: list[dict[str, float]] = field(default_factory=list)
    """Losses of every step."""
    gradient_norms: list[dict[str, float]] = field(default_factory=list)
    """Gradient norm of every part, at every step."""
    shares: dict[str, float] = field(default_factory=dict)
    """Share of every weighted loss in their sum."""
    usage: list[dict[str, float]] = field(default_factory=list)
    """Use of every group, by the codes of the batch; of the codebook if it has no groups."""
    histograms: list[list[int]] = field(default_factory=list)
    """How often each point of every group was used."""
    speech: SpeechStatistics | None = None
    voice: dict[str, float] = field(default_factory=dict)
    """What the codec loses of the batch before it is trained, see `audio.voice`; empty for random weights."""

    def add(self, part: str, problem: str, advice: str) -> None:
        """Note a fault."""
        self.faults.append(Finding(part, problem, advice))

    def text(self) -> str:
        """The report in words."""
        lines = [f"FAULT in {f.part}: {f.problem}\n  What to do: {f.advice}" for f in self.faults]
        lines = lines or ["No fault found."]
        if self.losses:
            first, last = self.losses[0], self.losses[-1]
            lines.append(f"\nLosses on one batch, first step and step {len(self.losses)}:")
            for name, value in last.items():
                start = next(row[name] for row in self.losses if name in row)
                band = EXPECTED_START.get(name)
                expected = f" (expected to start within {band[0]:g} and {band[1]:g})" if band and name in first else ""
                lines.append(f"  {name:15s} {start:9.4f} -> {value:9.4f}{expected}")
        if self.shares:
            lines.append("\nShare of each weighted loss:")
            for name, share in self.shares.items():
                low, high = EXPECTED_SHARES[name]
                lines.append(f"  {name:15s} {share:9.2%} (expected {low:.2%} to {high:.1%})")
        if self.gradient_norms:
            lines.append("\nGradient norms, last step:")
            lines += [f"  {part:15s} {norm:9.3g}" for part, norm in self.gradient_norms[-1].items()]
        for number, use in enumerate(self.usage, 1):
            lines.append(
                f"\nGroup {number}: {use['used']} of {use['size']} points, {use['entropy_bits']:.2f} of "
                f"{math.log2(use['size']):.2f} bits"
            )
        if self.speech:
            lines.append(f"\nRecordings: {_describe(self.speech)}")
        if self.voice:
            lines.append("\nVoice through the codec as it is now (see docs/evaluation.md for what is good):")
            lines += [f"  {name:24s} {value:9.3f}" for name, value in self.voice.items()]
        return "\n".join(lines)

    def write(self, folder: str | Path) -> None:
        """Write report.txt, report.json and, if matplotlib is there, report.png."""
        folder = Path(folder)
        make_folder(folder)
        (folder / "report.txt").write_text(self.text() + "\n")
        write_json(folder / "report.json", asdict(self))
        _plot(folder / "report.png", self)


def _plot(path: Path, report: Report) -> None:
    """Losses, gradient norms, shares of the losses and use of every group, as PNG; nothing without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    groups = report.histograms
    columns = max(3, len(groups))
    figure, axes = plt.subplots(2, columns, figsize=(4.5 * columns, 7), layout="constrained", squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    curves = {"losses": report.losses, "gradient norms": report.gradient_norms}
    for axis, (title, rows) in zip(axes[0], curves.items(), strict=False):
        axis.set_axis_on()
        axis.set(title=title, xlabel="step", yscale="log")
        for name in dict.fromkeys(name for row in rows for name in row):
            axis.plot([row.get(name) for row in rows], label=name)
        if rows:
            axis.legend(fontsize="x-small")
    axes[0, 2].set_axis_on()
    axes[0, 2].barh(list(report.shares), list(report.shares.values()))
    axes[0, 2].set(title="share of each weighted loss", xlim=(0, 1))
    for number, (axis, counts) in enumerate(zip(axes[1], groups, strict=False), 1):
        use = report.usage[number - 1]
        axis.set_axis_on()
        axis.bar(range(len(counts)), sorted(counts, reverse=True), width=1.0)
        title = f"group {number}: {use['used']} of {use['size']} points, {use['entropy_bits']:.2f} bits"
        axis.set(title=title, xlabel="point, by use", ylabel="frames")
    figure.savefig(path, dpi=100)
    plt.close(figure)


class _OneBatch(CodecTrainer):
    """A trainer that gets the same batch at every step and notes the gradient norm of every part."""

    norms: dict[str, float]

    def batch(self, step: int) -> Tensor:
        return super().batch(0)

    def apply_gradients(self, losses: dict[str, Tensor]) -> list[Tensor]:
        for module, _ in self.with_gradients():
            module = self.accelerator.unwrap_model(module)
            if isinstance(module, Autoencoder):
                parts = dict(module.codec.named_children())
            else:
                parts = dict(zip(module.labels, module.parts, strict=True))
            for name, part in parts.items():
                gradients = [p.grad.norm() for p in part.parameters() if p.grad is not None]
                self.norms[name] = float(torch.stack(gradients).norm()) if gradients else 0.0
        return super().apply_gradients(losses)


def examine(config: TrainConfig, steps: int = 40, batch_size: int = 4) -> Report:
    """Check the data, then train on one batch and check what happens.

    Args:
        config: Settings of the run to check; its output folder gets the cache of its data and nothing else.
        steps: Steps on the batch; the second half with discriminators, if the run has them.
        batch_size: Segments of the batch, at most those of the config.
    """
    report = Report()
    small = replace(
        config,
        batch_size=min(batch_size, config.batch_size),
        accumulation=1,
        steps=steps,
        warmup_steps=5,
        decay_steps=1,
        adversarial_start=steps if config.adversarial_start >= config.steps else steps // 2,
        validation_data=[],
        hold_out=0,
    )
    try:
        trainer = _OneBatch(small)
        trainer.say(f"check: looking at the data, then training on one batch for {steps} steps; takes minutes on a CPU")
        _check_data(report, trainer)  # streaming reads now
    except NotFiniteAudioError as error:
        report.add("the data", str(error), "repair or remove the recording; decoders write NaN for damaged float files")
        return report
    if not report.faults or all(fault.part == "the data" for fault in report.faults):
        _overfit(report, trainer, steps)
    return report


@torch.no_grad()
def _voice(trainer: CodecTrainer, audio: Tensor) -> dict[str, float]:
    """Measures of `audio.voice` of a batch (B, 1, N) through the codec."""
    decoded = trainer.codec(audio).audio_values
    pairs = zip(audio[:, 0].cpu().numpy(), decoded[:, 0].cpu().numpy(), strict=True)
    return measure_voice(pairs, trainer.codec.config.sampling_rate)


def _describe(speech: SpeechStatistics) -> str:
    return (
        f"pitch {speech.pitch_hz:.0f} Hz, syllables at {speech.syllable_hz:.1f} Hz, half of the energy below "
        f"{speech.energy_hz:.0f} Hz, third formant {speech.third_formant_hz:.0f} Hz, nothing above "
        f"{speech.bandwidth_hz:.0f} Hz; seems {speech.speed:.2f} times as fast as typical adult speech"
    )


def _check_data(report: Report, trainer: CodecTrainer) -> None:
    """Silence, clipping and speed, on the batch and on recordings where there is a list of them."""
    batch = trainer.batch(0).cpu().numpy()[:, 0]
    if isinstance(trainer.data, AudioCache):
        recordings = [to_float32(trainer.data[i]) for i in trainer.data.spread(32)]
    else:
        recordings = list(batch)
    levels = [20 * math.log10(max(float(np.sqrt((audio**2).mean())), 1e-9)) for audio in recordings]
    silent = sum(level < _SILENCE_DB for level in levels)
    if silent > len(recordings) / 4:
        report.add(
            "the data",
            f"{silent} of {len(recordings)} recordings are silent (below {_SILENCE_DB:.0f} dB of full scale)",
            "listen to some; silence comes from a wrong channel, a wrong sample format or empty files",
        )
        return
    clipped = sum(float((np.abs(audio) > 0.999).mean()) > 0.01 for audio in recordings)
    if clipped > len(recordings) / 4:
        report.add("the data", f"{clipped} of {len(recordings)} recordings are clipped", "take them at a lower level")
    report.speech = measure_speech(recordings, trainer.codec.config.sampling_rate)
    if report.speech.wrong_speed:
        report.add(
            "the data",
            f"the recordings do not sound like adults at their own speed ({_describe(report.speech)})",
            "compare the sampling rate in the files' headers, or in the data set, with how they sound: a wrong one "
            "plays them too fast or too slowly. Children, song and music look alike here and are no fault; "
            "1.2 times too fast, or 1.5 times too slow, may pass unseen",
        )


def _overfit(report: Report, trainer: _OneBatch, steps: int) -> None:
    """Train on the batch; then look at gradients, losses, shares and codes."""
    audio = trainer.batch(0)
    if trainer.config.codec and not trainer.config.codec.endswith(".json"):
        report.voice = _voice(trainer, audio)
    start = time.monotonic()
    for step in range(steps):
        if step % 10 == 3:
            left = (time.monotonic() - start) / step * (steps - step)
            trainer.say(f"check: step {step} of {steps} on one batch, about {tqdm.format_interval(left)} to go")
        trainer.norms = {}
        try:
            losses = trainer.train_step()
        except NotFiniteError as error:
            report.add("training", str(error), "lower learning_rate; look for extreme weights of the losses")
            return
        report.losses.append({name: loss.item() for name, loss in losses.items()})
        report.gradient_norms.append(trainer.norms)
    _check_encoder(report, trainer, audio)
    _check_codes(report, trainer, audio)
    _check_gradients(report, trainer)
    _check_losses(report)
    check_shares(report, trainer.config)


def _check_encoder(report: Report, trainer: CodecTrainer, audio: Tensor) -> None:
    with torch.no_grad():
        latents = trainer.codec.encoder(audio, exact=False).float()
    spread, size = float(latents.std(dim=(0, 1)).mean()), float(latents.abs().mean())
    if spread <= 1e-3 * size or size == 0:
        report.add(
            "the encoder",
            f"its output does not depend on the audio (standard deviation {spread:.2g} around values of {size:.2g})",
            "look at its last layers: weights of zero, an output that is not used, or a normalisation that removes all",
        )


def _check_codes(report: Report, trainer: CodecTrainer, audio: Tensor) -> None:
    with torch.no_grad():
        codes = trainer.model(audio)[1].flatten()
    groups = trainer.codec.quantizer.codes_to_indices(codes).T.cpu().numpy()
    sizes = trainer.codec.config.points_per_group
    for number, (indices, size) in enumerate(zip(groups, sizes, strict=True), 1):
        report.usage.append(usage(indices, size))
        report.histograms.append(np.bincount(indices, minlength=size).tolist())
        if report.usage[-1]["entropy_bits"] < _LEAST_ENTROPY * math.log2(size):
            report.add(
                f"group {number} of the quantizer",
                f"it uses {report.usage[-1]['used']} of {size} points, {report.usage[-1]['entropy_bits']:.2f} bits",
                "its input hardly moves: see the encoder first, then the scale of quantizer.project_in and its rate",
            )


def _check_gradients(report: Report, trainer: CodecTrainer) -> None:
    for part, last in report.gradient_norms[-1].items():
        worked = any(norms.get(part, 0.0) > 0 for norms in report.gradient_norms)
        parameters = dict(trainer.codec.named_children()).get(part)
        if parameters is not None and not any(True for _ in parameters.parameters()):
            continue
        if not worked and part not in trainer.config.freeze:
            report.add(
                f"the {part}",
                "no gradient reaches it",
                "it is frozen (requires_grad), or what follows does not depend on it: a detach, a product with zero",
            )
        elif not math.isfinite(last):
            report.add(f"the {part}", f"its gradient is {last}", "lower the learning rate; train in float32")


def _check_losses(report: Report) -> None:
    count = max(1, len(report.losses) // 10)
    for name, (low, high) in EXPECTED_START.items():
        start = report.losses[0].get(name)  # None for a loss of weight 0
        if start is not None and not low <= start <= high:
            report.add(
                f"the {name} loss",
                f"it begins at {start:.3g}, expected within {low:g} and {high:g}",
                "look at the level of the audio and at the arguments of the loss",
            )
    values = [row["mel"] for row in report.losses]
    first, end = np.mean(values[:count]), np.mean(values[-count:])
    if end > MOST_LEFT * first and end > EXPECTED_START["mel"][0]:
        report.add(
            "training",
            f"one batch cannot be learned: in {len(values)} steps its mel loss went from {first:.3g} to {end:.3g}",
            "look at the faults above; else raise learning_rate, or mel_weight against the other losses",
        )


def check_shares(report: Report, config: TrainConfig) -> None:
    """Note the shares of the weighted losses in their sum, and those that are out of proportion.

    Counted are the steps in which all losses take part, and losses whose weight is not 0.
    """
    rows = [row for row in report.losses if set(row) >= set(report.losses[-1])]
    weights = {name: getattr(config, f"{name}_weight") for name in EXPECTED_SHARES if name in report.losses[-1]}
    values = {name: weight * sum(row[name] for row in rows) for name, weight in weights.items() if weight}
    report.shares = {name: value / sum(values.values()) for name, value in values.items()}
    for name, share in report.shares.items():
        low, high = EXPECTED_SHARES[name]
        if not low <= share <= high:
            weight = getattr(config, f"{name}_weight")
            effect = "drowns all others" if share > high else "has no effect"
            report.add(
                f"the weight of the {name} loss",
                f"with {name}_weight={weight:g} it {effect}: {share:.3%} of the sum, not {low:.2%} to {high:.1%}",
                f"the default is {TrainConfig.__dataclass_fields__[name + '_weight'].default:g}; 0 switches a loss off",
            )
