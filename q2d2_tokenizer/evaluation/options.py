"""Options of an evaluation; loads nothing heavy, because the help of commands is made of it."""

from dataclasses import dataclass, field
from pathlib import Path

SNR_DB = [20.0, 10.0, 5.0]


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured, next to what, and where the results go.

    Args:
        codec: Folder of a codec, its name on the Hub, or bundled.
        output: Folder for the results.
        cache: Folder for decoded audio.
        clips: Largest number of recordings, evenly spread; all if left out.
        title: What the data is, for the page of results.
        audio_column: Column of the audio in Parquet files.
        id_column: Column of the names of the clips in Parquet files; id, else file and row, if left out.
        text_column: Column of the text in Parquet files and metadata.
        metrics: Names among pesq_wb, pesq_nb, stoi, log_mel, si_sdr, f0, level_db, voice, signal, dnsmos, nisqa,
            distillmos and speaker, or all.
        peers: Measure Opus and Codec2 too, if their programs are installed.
        decoded: Folder with the output of another codec, one <name of the clip>.wav for each clip.
        transformers: Folder with weights of EnCodec, DAC or Mimi, such as models/mimi,num_quantizers=8.
        program: Rate and command of another program (see evaluation/programs.py).
        asr: Folder of a speech recognizer (see evaluation/asr.py); adds the word error rate.
        listen: Number of clips on the page with players.
        restart: Forget the rows of earlier runs.
    """

    codec: str = "bundled"
    output: Path = Path("runs/evaluation")
    cache: Path = Path("runs/cache")
    clips: int | None = None
    title: str = ""
    audio_column: str = "audio"
    id_column: str | None = None
    text_column: str = "text"
    metrics: list[str] = field(default_factory=lambda: ["pesq_wb", "pesq_nb", "stoi", "log_mel", "si_sdr"])
    peers: bool = True
    decoded: dict[str, str] = field(default_factory=dict)
    transformers: dict[str, str] = field(default_factory=dict)
    program: dict[str, str] = field(default_factory=dict)
    asr: str | None = None
    listen: int = 3
    restart: bool = False

    def __post_init__(self):
        if self.clips is not None and self.clips < 1:
            raise ValueError(f"clips must be a whole number from 1 on, got {self.clips}")

    @property
    def columns(self) -> dict[str, str | None]:
        """Names of columns, as `load_clips` takes them."""
        return {name: getattr(self, name) for name in ("audio_column", "id_column", "text_column")}
