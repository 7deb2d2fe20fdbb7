"""The trainer of the codec: mel, perceptual and adversarial losses, every weight of them in one place."""

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import soundfile
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..audio.files import write_atomically
from ..audio.voice import measure_voice
from ..bundled import default_checkpoint
from ..configuration_q2d2 import Q2D2Config
from ..export import save_feature_extractor
from ..feature_extraction_q2d2 import to_float32
from ..modeling_q2d2 import Q2D2Model
from .augmentation import Augmentation
from .data import AudioCache
from .discriminators import Discriminators
from .gan import Autoencoder, discriminator_step, generator_step, spectral_step
from .loop import LoopConfig, ResumableTrainer
from .losses import EnvelopeLoss, LevelLoss, MelLoss, PulseLoss
from .loudness import LoudnessLoss
from .projected import ProjectedDiscriminator  # noqa: F401  (registers it)
from .stream import AudioStream


@dataclass(kw_only=True)
class TrainConfig(LoopConfig):
    """Everything a training run depends on, besides the codec's own config."""

    data: list[str]
    """Parquet, tar or audio files, folders, globs, lists or URLs; list a source twice to weight it double."""
    validation_data: list[str] = field(default_factory=list)
    """Recordings to validate on, given like data; of other speakers."""
    hold_out: int = 0
    """Number of recordings to take from data and validate on, instead of validation_data."""
    codec: str = ""
    """Codec to begin from: config file (random weights), folder with weights, or 'bundled'; the default config with
    random weights if empty."""
    levels: list[int] = field(default_factory=list)
    """Levels of the codec's channels, instead of its own; its other weights stay."""
    freeze: list[str] = field(default_factory=list)
    """Parts that are not trained: encoder, quantizer, decoder. Tokens stay the same if encoder and quantizer do."""
    audio_column: str = "audio"
    """Column of Parquet files that holds the audio."""
    streaming: bool = False
    """Decode data while training, without a cache on disk."""
    cache: str = ""
    """Folder for decoded audio, 173 MB an hour; cache/ in the output folder if empty."""
    steps: int = 100_000
    """Optimizer steps in all. 500 fine-tune the bundled codec; a new one needs about 10,000 without discriminators and
    tens of thousands with them."""
    batch_size: int = 16
    """Segments per step, over all processes."""
    segment_frames: int = 64
    """Length of a segment, in frames of the codec (at 75 a second, 64 are 0.85 s)."""
    gain_db: float = 6.0
    """Largest random gain of a segment, up or down, in dB."""
    speed: float = 0.0
    """Largest random change of speed and pitch, as a fraction: 0.1 is up to 10 % faster or slower."""
    tone_db: float = 0.0
    """Largest gain of a random curve over frequency, in dB."""
    formants: float = 0.0
    """Largest random shift of the formants at the same pitch, as a fraction."""
    discriminator_learning_rate: float = 5e-4
    """Peak learning rate of the discriminators."""
    discriminator_betas: list[float] = field(default_factory=lambda: [0.9, 0.99])
    """AdamW betas of the discriminators."""
    ema_decay: float = 0.999
    """Decay per step of the averaged weights, which are the result."""
    mel_weight: float = 15.0
    """Weight of the mel loss."""
    loudness_weight: float = 2.0
    """Weight of the loudness loss, after PESQ."""
    envelope_weight: float = 15.0
    """Weight of the envelope loss, after STOI."""
    level_weight: float = 0.0
    """Weight of the level loss, which is in dB."""
    pulse_weight: float = 0.0
    """Weight of the pulse loss, the modulation of envelopes at the rates of a pitch."""
    adversarial_weight: float = 1.0
    """Weight of the adversarial loss."""
    feature_weight: float = 2.0
    """Weight of the feature loss, the distance of the discriminators' hidden features."""
    adversarial_start: int = 10_000
    """First step with discriminators; one beyond the last trains without them."""
    mel_n_ffts: list[int] = field(default_factory=lambda: [256, 512, 1024, 2048, 4096])
    """Window lengths of the mel loss, in samples."""
    mel_bands: list[int] = field(default_factory=lambda: [20, 40, 80, 160, 320])
    """Number of mel bands for each window length."""
    mel_floor: float = 1e-3
    """Smallest magnitude the mel loss tells apart; lower ones count as this much."""
    discriminators: list[str] = field(default_factory=lambda: ["band", "period"])
    """Discriminators: band, period, resolution, multiband, projected. The paper has period, resolution, multiband."""
    discriminator_kwargs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Arguments of discriminators, by name: {"period": {"sizes": [2, 3], "channels": [8, 16]}}."""
    validation_clips: int = 40
    """Recordings per validation, evenly spread."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.discriminator_kwargs, str):  # as runs recorded it before
            self.discriminator_kwargs = json.loads(self.discriminator_kwargs)
        if unknown := set(self.freeze) - {"encoder", "quantizer", "decoder"}:
            raise ValueError(f"freeze takes encoder, quantizer and decoder, got {sorted(unknown)}")
        if self.hold_out and (self.validation_data or self.streaming):
            raise ValueError("hold_out takes recordings from data: it excludes validation_data and streaming")


def make_codec(source: str, levels: list[int] | tuple[int, ...] = ()) -> Q2D2Model:
    """A codec to train.

    Args:
        source: Config file (random weights), folder with weights, "bundled", or "" (default config).
        levels: Instead of those of the source. Lattices fill the same box whatever their levels, so a trained codec
            goes on from where it was, with finer or coarser points.

    Raises:
        ValueError: If there are not as many levels as channels.
    """
    if source == "bundled":
        source = default_checkpoint()
    if source and not source.endswith(".json"):
        codec = Q2D2Model.from_pretrained(source)
    else:
        codec = Q2D2Model(Q2D2Config.from_json_file(source) if source else Q2D2Config())
    if not levels:
        return codec
    if len(levels) != len(codec.config.levels):
        raise ValueError(f"levels must be {len(codec.config.levels)} numbers, one a channel, got {list(levels)}")
    weights = {name: tensor for name, tensor in codec.state_dict().items() if ".lattices." not in name}
    codec = Q2D2Model(Q2D2Config.from_dict(codec.config.to_dict() | {"levels": list(levels)}))
    codec.load_state_dict(weights, strict=False)  # what is missing is the tables of the new levels
    return codec


class CodecTrainer(ResumableTrainer):
    """Trains a codec with mel and adversarial losses and keeps an average of its weights; see `ResumableTrainer`.

    Args:
        config: Settings of the run.
    """

    config: TrainConfig
    data: AudioCache | AudioStream
    validation: AudioCache | None

    def build(self) -> None:
        """Make the codec, its losses and the discriminators, and open the data.

        Raises:
            ValueError: If batches cannot be split among the processes, or the output lies in a data folder.
        """
        config, processes = self.config, self.accelerator.num_processes
        if config.batch_size % (processes * config.accumulation):
            raise ValueError(
                f"batch_size={config.batch_size} must be a multiple of {processes} processes times "
                f"accumulation={config.accumulation}"
            )
        codec = make_codec(config.codec, config.levels)
        for name in config.freeze:
            codec.get_submodule(name).requires_grad_(False)
        rate = codec.config.sampling_rate
        self._open_data(rate)
        mel_loss = MelLoss(rate, tuple(config.mel_n_ffts), tuple(config.mel_bands), config.mel_floor)
        self.spectral_losses = nn.ModuleDict({"mel": mel_loss, "envelope": EnvelopeLoss(rate)})
        if config.loudness_weight:
            self.spectral_losses["loudness"] = LoudnessLoss(rate)
        if config.level_weight:
            self.spectral_losses["level"] = LevelLoss()
        if config.pulse_weight:
            self.spectral_losses["pulse"] = PulseLoss(rate)
        self.spectral_losses.to(self.accelerator.device)
        self.average = AveragedModel(codec, multi_avg_fn=get_ema_multi_avg_fn(config.ema_decay))
        self.average.to(self.accelerator.device)
        self.accelerator.register_for_checkpointing(self.average)
        discriminators = Discriminators(config.discriminators, config.discriminator_kwargs)
        self.model = self.add(Autoencoder(codec), config.learning_rate, config.betas)
        self.discriminators = self.add(discriminators, config.discriminator_learning_rate, config.discriminator_betas)

    def _open_data(self, sampling_rate: int) -> None:
        config = self.config
        output = self.output.resolve()
        for folder in filter(os.path.isdir, [*config.data, *config.validation_data]):
            if output.is_relative_to(Path(folder).resolve()):
                raise ValueError(
                    f"output {config.output} lies in the data folder {folder}: what is written there would be data"
                )
        cache, column = config.cache or str(self.output / "cache"), config.audio_column
        self.validation = None
        with self.accelerator.main_process_first():
            if config.streaming:
                self.data = AudioStream(
                    config.data, sampling_rate, config.batch_size, audio_column=column, output=config.output
                )
            else:
                self.data = AudioCache(config.data, cache, sampling_rate, column, config.output)
            if config.validation_data:
                self.validation = AudioCache(config.validation_data, cache, sampling_rate, column, config.output)
        if config.hold_out:
            assert isinstance(self.data, AudioCache)  # hold_out excludes streaming
            self.data, self.validation = self.data.split(config.hold_out)

    @property
    def codec(self) -> Q2D2Model:
        """The codec that is trained."""
        return self.accelerator.unwrap_model(self.model).codec

    @property
    def averaged(self) -> Q2D2Model:
        """The codec with averaged weights."""
        assert isinstance(self.average.module, Q2D2Model)
        return self.average.module

    def batch(self, step: int) -> Tensor:
        """Segments (b, 1, N) of this process for a step."""
        config = self.config
        share = config.batch_size // self.accelerator.num_processes
        first = step * config.batch_size + self.accelerator.process_index * share
        samples = config.segment_frames * self.codec.config.hop_length
        augmentation = Augmentation(config.gain_db, config.speed, config.tone_db, config.formants)
        segments = self.data.batch(config.seed, range(first, first + share), samples, augmentation)
        return segments.to(self.accelerator.device)

    def update(self, step: int) -> dict[str, Tensor]:
        """Update the codec and, once they take part, the discriminators; returns this process's losses by name."""
        adversarial = step >= self.config.adversarial_start
        losses, seen, codes = self._codec_gradients(self.batch(step).chunk(self.config.accumulation), adversarial)
        if adversarial:
            losses["discriminator"] = self._discriminator_gradients(seen)
        norm = self.apply_gradients(losses)[0]
        self.average.update_parameters(self.codec)
        used = self.accelerator.gather(codes).unique().numel()
        return losses | {"gradient_norm": norm, "codes_used": torch.tensor(float(used), device=codes.device)}

    def _codec_gradients(
        self, parts: tuple[Tensor, ...], adversarial: bool
    ) -> tuple[dict[str, Tensor], list[tuple[Any, Any]], Tensor]:
        """Losses of a step, what the discriminators saw of audio and reconstruction, part by part, and codes (b, T)."""
        # Unwrapped and frozen: the codec's loss needs no gradient of the discriminators' weights.
        frozen = self.accelerator.unwrap_model(self.discriminators).requires_grad_(False) if adversarial else None
        sums: dict[str, Tensor] = {}
        seen, codes = [], []
        for audio in self.accumulate(self.model, parts):
            with self.accelerator.autocast():
                reconstruction, part_codes = self.model(audio)
                losses = spectral_step(audio, reconstruction, self.spectral_losses)
                if frozen is not None:
                    with torch.no_grad():
                        real = frozen.prepare(audio)
                    fake = frozen.prepare(reconstruction)
                    losses |= generator_step(frozen, real, fake, self.config.feature_weight > 0)
                    seen.append((real, fake))
            total = sum(getattr(self.config, f"{name}_weight") * loss for name, loss in losses.items())
            self.accelerator.backward(total / len(parts))
            sums = {name: sums.get(name, 0) + loss.detach() / len(parts) for name, loss in losses.items()}
            codes.append(part_codes)
        if frozen is not None:
            frozen.requires_grad_(True)
        return sums, seen, torch.cat(codes)

    def _discriminator_gradients(self, seen: list[tuple[Any, Any]]) -> Tensor:
        total = torch.zeros((), device=self.accelerator.device)
        for real, fake in self.accumulate(self.discriminators, seen):
            with self.accelerator.autocast():
                loss = discriminator_step(self.discriminators, real, fake) / len(seen)
            self.accelerator.backward(loss)
            total = total + loss.detach()
        return total

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Mel loss, use of codes, and what no loss imitates, of the averaged weights; writes three clips as wav.

        Choose among checkpoints by the measures of `audio.voice`, and by judges such as NISQA, not by the mel loss.
        """
        assert self.validation is not None
        codec = self.averaged.eval()
        clips = self.validation.spread(self.config.validation_clips)
        losses: list[float] = []
        used: set[int] = set()
        pairs = []
        for number, index in enumerate(clips):
            audio = torch.from_numpy(to_float32(self.validation[index])).view(1, 1, -1)
            audio = audio.to(self.accelerator.device)
            output = codec(audio)
            losses.append(self.spectral_losses["mel"](output.audio_values, audio).item())
            used.update(output.audio_codes.flatten().tolist())
            pairs.append((audio.flatten().cpu().numpy(), output.audio_values.flatten().cpu().numpy()))
            if number < 3 and self.accelerator.is_main_process:
                path = self.output / "validation" / f"{number}.wav"
                path.parent.mkdir(exist_ok=True)
                soundfile.write(path, output.audio_values.flatten().cpu(), codec.config.sampling_rate)
        voice = measure_voice(pairs, codec.config.sampling_rate)
        means = {"validation_mel": sum(losses) / len(losses), "validation_codes_used": len(used)}
        return means | {f"validation_{name}": value for name, value in voice.items()}

    def save_weights(self, folder: Path) -> None:
        """Write the averaged weights and the feature extractor."""
        self.averaged.save_pretrained(folder)
        save_feature_extractor(self.codec.config, folder)

    def record_settings(self) -> None:
        """Write the settings, and digests of what is held out.

        Raises:
            ValueError: If other recordings were held out before: some would be trained on.
        """
        path = self.output / "held_out.json"
        digests = self.validation.digests if self.validation is not None and self.config.hold_out else []
        if self.progress.step and path.exists() and json.loads(path.read_text())["digests"] != digests:
            raise ValueError(
                f"{self.output} holds a run that held out other recordings, which would be trained on; choose another "
                "output, or the data and hold_out it was started with"
            )
        super().record_settings()
        if self.accelerator.is_main_process:
            write_atomically(path, json.dumps({"digests": digests}, indent=2).encode())
