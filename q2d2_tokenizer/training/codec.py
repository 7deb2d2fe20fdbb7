"""The trainer of the codec: mel, perceptual and adversarial losses, every weight of them in one place."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ..audio.files import read_json, write_atomically
from ..audio.voice import measure_voice
from ..bundled import load_codec
from ..configuration_q2d2 import Q2D2Config
from ..export import save_feature_extractor
from ..feature_extraction_q2d2 import to_float32
from ..layers import ConvNeXtBackbone
from ..modeling_q2d2 import Q2D2Model
from ..quantizers import LatticeQuantizer
from .augmentation import Augmentation
from .data import AudioCache
from .discriminators import Discriminators
from .gan import Autoencoder, discriminator_step, generator_step, spectral_step
from .loop import ResumableTrainer
from .losses import EnvelopeLoss, LevelLoss, MelLoss, PulseLoss
from .loudness import LoudnessLoss
from .projected import ProjectedDiscriminator  # noqa: F401  (registers it)
from .settings import TrainConfig
from .stream import AudioStream


def make_codec(
    source: str,
    levels: list[int] | tuple[int, ...] = (),
    encoder_look_ahead: int | None = None,
    decoder_look_ahead: int | None = None,
) -> Q2D2Model:
    """A codec to train.

    Args:
        source: Config file (random weights), folder with weights, "bundled", or "" (default config).
        levels: Instead of those of the source. Lattices fill the same box whatever their levels, so a trained codec
            goes on from where it was, with finer or coarser points. More levels than channels add channels behind
            them, which say nothing before they are trained.
        encoder_look_ahead: Frames that the encoder looks ahead, instead of what it did. Its kernels have the same size.
        decoder_look_ahead: The same of the decoder.

    Raises:
        ValueError: If the source is no codec, there are not as many levels as channels, or a part cannot look ahead so
            far.
    """
    if source and not source.endswith(".json"):
        codec = load_codec(source)
    else:
        codec = Q2D2Model(Q2D2Config.from_json_file(source) if source else Q2D2Config())
    channels = len(codec.config.levels)
    can_grow = isinstance(codec.quantizer, LatticeQuantizer)
    if levels and (len(levels) < channels or (len(levels) > channels and not can_grow)):
        more = ", or more to add channels" if can_grow else ""
        raise ValueError(f"levels must be {channels} numbers, one a channel{more}, got {list(levels)}")
    changes: dict[str, Any] = {"levels": list(levels)} if levels else {}
    for part, frames in (("encoder", encoder_look_ahead), ("decoder", decoder_look_ahead)):
        if frames is not None:
            changes[f"{part}_kwargs"] = getattr(codec.config, f"{part}_kwargs") | {"look_ahead": frames}
    if not changes:
        return codec
    weights = {name: tensor for name, tensor in codec.state_dict().items() if ".lattices." not in name}
    changed = Q2D2Model(Q2D2Config.from_dict(codec.config.to_dict() | changes))
    if len(changed.config.levels) > channels:
        for name, initial in changed.quantizer.named_parameters(prefix="quantizer"):
            weights[name] = _with_channels(weights[name], initial.detach())
    changed.load_state_dict(weights, strict=False)  # what is missing is the tables of the new levels
    for old, new in zip(codec.modules(), changed.modules(), strict=True):
        if isinstance(old, ConvNeXtBackbone) and isinstance(new, ConvNeXtBackbone):
            new.take_kernels(old)
    return changed


def _with_channels(weight: Tensor, initial: Tensor) -> Tensor:
    """A weight of a quantizer in the size of its initial value: new channels go in as they begin, and not out yet."""
    goes_in = weight.shape[1:] == initial.shape[1:]
    extended = initial.clone() if goes_in else torch.zeros_like(initial)
    extended[tuple(slice(size) for size in weight.shape)] = weight
    return extended


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
        codec = make_codec(config.codec, config.levels, config.encoder_look_ahead, config.decoder_look_ahead)
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
        segments = self.batch(step).chunk(self.config.accumulation)
        losses, seen, codes = self._codec_gradients(segments, self._judged(step) if adversarial else None)
        if adversarial:
            losses["discriminator"] = self._discriminator_gradients(seen)
        norm = self.apply_gradients(losses)[0]
        self.average.update_parameters(self.codec)
        used = self.accelerator.gather(codes).unique().numel()
        return losses | {"gradient_norm": norm, "codes_used": torch.tensor(float(used), device=codes.device)}

    def _judged(self, step: int) -> slice:
        """Samples of the segments of a step that the discriminators see."""
        config, hop = self.config, self.codec.config.hop_length
        frames = config.discriminator_frames or config.segment_frames
        first = int(np.random.default_rng((config.seed, step)).integers(config.segment_frames - frames + 1))
        return slice(first * hop, (first + frames) * hop)

    def _codec_gradients(
        self, parts: tuple[Tensor, ...], judged: slice | None
    ) -> tuple[dict[str, Tensor], list[tuple[Any, Any]], Tensor]:
        """Losses of a step, what the discriminators saw of audio and reconstruction, part by part, and codes (b, T).

        Args:
            parts: Segments (b, 1, N) of each part.
            judged: Samples of them that the discriminators see; None to leave those out.
        """
        # Unwrapped and frozen: the codec's loss needs no gradient of the discriminators' weights.
        frozen = None if judged is None else self.accelerator.unwrap_model(self.discriminators).requires_grad_(False)
        sums: dict[str, Tensor] = {}
        seen, codes = [], []
        for audio in self.accumulate(self.model, parts):
            with self.accelerator.autocast():
                reconstruction, part_codes, quantizer_loss = self.model(audio)
                losses = spectral_step(audio, reconstruction, self.spectral_losses)
                if quantizer_loss is not None:
                    losses["quantizer"] = quantizer_loss
                if frozen is not None:
                    with torch.no_grad():
                        real = frozen.prepare(audio[..., judged])
                    fake = frozen.prepare(reconstruction[..., judged])
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
        if self.progress.step and path.exists() and read_json(path, ["digests"])["digests"] != digests:
            raise ValueError(
                f"{self.output} holds a run that held out other recordings, which would be trained on; choose another "
                "output, or the data and hold_out it was started with"
            )
        super().record_settings()
        if self.accelerator.is_main_process:
            write_atomically(path, json.dumps({"digests": digests}, indent=2).encode())
