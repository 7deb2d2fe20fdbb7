"""Settings of training runs; loads nothing heavy, because the help of commands is made of it."""

import json
import math
from dataclasses import dataclass, field
from typing import Any


@dataclass(kw_only=True)
class LoopConfig:
    """What every training run depends on."""

    output: str
    """Folder of the run: settings, log, checkpoints and weights. A run that was interrupted goes on from there."""
    steps: int = 100_000
    """Optimizer steps in all."""
    max_minutes: float = math.inf
    """Stop after this many minutes; the same command goes on from there."""
    accumulation: int = 1
    """Compute each step in this many parts, one after another, to save memory; the result is the same."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    betas: list[float] = field(default_factory=lambda: [0.9, 0.99])
    """AdamW betas."""
    warmup_steps: int = 300
    """Steps over which the learning rate rises linearly to its peak."""
    decay_steps: int = 5_000
    """Steps at the end over which the learning rate falls linearly to zero; at most all steps."""
    gradient_clip: float = 1.0
    """Largest norm of the gradients; larger ones are scaled down to it."""
    mixed_precision: str = "no"
    """Precision of the forward pass: no (all float32) or bf16. Weights stay in float32."""
    seed: int = 0
    """Random seed of initial weights and batches."""
    log_every: int = 50
    """Steps between lines of log.jsonl; without a terminal, also between lines of progress."""
    validate_every: int = 1_000
    """Steps between validations."""
    save_every: int = 500
    """Steps between resumable checkpoints."""
    keep_checkpoints: int = 2
    """Number of resumable checkpoints to keep; older ones are deleted."""

    def __post_init__(self) -> None:
        counts = ("steps", "accumulation", "warmup_steps", "decay_steps", "log_every", "validate_every", "save_every")
        self.require_positive(*counts, "keep_checkpoints")
        if len(self.betas) != 2:
            raise ValueError(f"betas must be two numbers, got {self.betas}")
        if self.mixed_precision not in ("no", "bf16"):
            raise ValueError(f"mixed_precision must be 'no' or 'bf16', got {self.mixed_precision!r}")

    def require_positive(self, *names: str) -> None:
        """Refuse settings below 1."""
        for name in names:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")

    def rate_factor(self, step: int) -> float:
        """Share of the peak learning rate at a step: linear warm-up, constant, linear decay to zero."""
        return min(1.0, (step + 1) / self.warmup_steps, (self.steps - step) / min(self.decay_steps, self.steps))


@dataclass(kw_only=True)
class TrainConfig(LoopConfig):
    """Everything a training run depends on, besides the codec's own config."""

    data: list[str]
    """Parquet, tar or audio files, folders, globs, lists or URLs; list a source twice to weight it double."""
    validation_data: list[str] = field(default_factory=list)
    """Recordings to validate on, given like --data; of other speakers."""
    hold_out: int = 0
    """Number of recordings to take from --data and validate on, instead of --validation_data."""
    codec: str = ""
    """Codec to begin from: folder with weights, name on the Hub, bundled, or a configuration (.json; random weights);
    the default configuration with random weights if left out."""
    levels: list[int] = field(default_factory=list)
    """Levels of the lattice, one for each channel, instead of the codec's own; its other weights stay. More of them add
    channels."""
    encoder_look_ahead: int | None = None
    """Frames that the encoder may look ahead, instead of those of the codec; its weights are kept. Makes new tokens."""
    decoder_look_ahead: int | None = None
    """Frames that the decoder may look ahead, instead of those of the codec; its weights are kept."""
    freeze: list[str] = field(default_factory=list)
    """Parts that are not trained: encoder, quantizer, decoder. Tokens stay the same if encoder and quantizer do."""
    audio_column: str = "audio"
    """Column of Parquet files that holds the audio."""
    streaming: bool = False
    """Decode recordings while training, without a cache on disk."""
    cache: str = ""
    """Folder for decoded audio, 173 MB an hour; cache/ in the output folder if left out."""
    steps: int = 100_000
    """Optimizer steps in all. 500 fine-tune the bundled codec; a new one needs about 10,000 without discriminators and
    tens of thousands with them."""
    batch_size: int = 16
    """Segments per step, over all processes."""
    segment_frames: int = 64
    """Length of a segment, in frames of the codec (at 75 a second, 64 are 0.85 s)."""
    discriminator_frames: int = 0
    """Frames of each segment that the discriminators see, at a random place; all of them if left out. They take most of
    a step, so the codec sees more audio in the same time if they see less of it."""
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
    """Weight of the level loss, the difference of levels in dB."""
    pulse_weight: float = 0.0
    """Weight of the pulse loss, the modulation of envelopes at the rates of a pitch."""
    quantizer_weight: float = 1.0
    """Weight of the quantizer's own loss; lattices have none."""
    adversarial_weight: float = 1.0
    """Weight of the adversarial loss."""
    feature_weight: float = 2.0
    """Weight of the feature loss, the distance of the discriminators' hidden features."""
    adversarial_start: int = 10_000
    """First step with discriminators; a number beyond the last step, such as 1000000, trains without them."""
    mel_n_ffts: list[int] = field(default_factory=lambda: [256, 512, 1024, 2048, 4096])
    """Window lengths of the mel loss, in samples."""
    mel_bands: list[int] = field(default_factory=lambda: [20, 40, 80, 160, 320])
    """Number of mel bands for each window length."""
    mel_floor: float = 1e-3
    """Smallest magnitude for the mel loss; lower ones count as this much."""
    discriminators: list[str] = field(default_factory=lambda: ["band", "period"])
    """Discriminators: band, period, resolution, multiband, projected. The paper has period, resolution, multiband."""
    discriminator_kwargs: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Arguments of discriminators by name, in JSON: {"period": {"sizes": [2, 3], "channels": [8, 16]}}."""
    validation_clips: int = 40
    """Recordings per validation, evenly spread."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.require_positive("batch_size", "segment_frames", "validation_clips")
        if len(self.mel_n_ffts) != len(self.mel_bands):
            raise ValueError(
                f"mel_bands must be one number for each of mel_n_ffts, {len(self.mel_n_ffts)}, got {self.mel_bands}"
            )
        if isinstance(self.discriminator_kwargs, str):  # as runs recorded it before
            self.discriminator_kwargs = json.loads(self.discriminator_kwargs)
        if not 0 <= self.discriminator_frames <= self.segment_frames:
            raise ValueError(
                f"discriminator_frames must be at most segment_frames={self.segment_frames}, or 0 for all of them, "
                f"got {self.discriminator_frames}"
            )
        if unknown := set(self.freeze) - {"encoder", "quantizer", "decoder"}:
            raise ValueError(f"freeze takes encoder, quantizer and decoder, got {sorted(unknown)}")
        if len(set(self.freeze)) == 3:
            raise ValueError("freeze names all parts, encoder, quantizer and decoder; leave one to train")
        if self.hold_out and (self.validation_data or self.streaming):
            raise ValueError("hold_out takes recordings from data: it excludes validation_data and streaming")
