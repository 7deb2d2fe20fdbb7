"""Options of an evaluation; loads nothing heavy, because the help of commands is made of it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

SNR_DB = [20.0, 10.0, 5.0]


@dataclass(frozen=True)
class EvaluationOptions:
    """What is measured, next to what, and where the results go.

    Args:
        codec: Folder of a codec, its name on the Hub, or bundled.
        output: Folder for the results.
        cache: Folder for decoded audio, 173 MB an hour.
        clips: Largest number of clips, taken evenly from the recordings; all if left out.
        title: Title of the data, for the page of results.
        audio_column: Column of Parquet files that holds the audio.
        id_column: Column of Parquet files that holds the names of the clips; id, or else file and row, if left out.
        text_column: Column of Parquet files and metadata that holds the text.
        metrics: What to measure: pesq_wb, pesq_nb, stoi, log_mel, si_sdr, f0, level_db, voice, signal, dnsmos, nisqa,
            distillmos and speaker, or all.
        peers: Measure Opus and Codec2 too, if their programs are installed.
        decoded: Name and folder of another codec's output, one <name of the clip>.wav for each clip: Mimi=decoded/mimi.
        transformers: Name and folder of weights of EnCodec, DAC or Mimi: Mimi=models/mimi,num_quantizers=8.
        program: Name, rate in Hz and command of a program that makes out.wav of in.wav in the folder where it is run:
            'Lyra=16000 sh /opt/lyra.sh'. It may leave the coded file as bits (see evaluation/programs.py).
        asr: Folder of a speech recognizer (see evaluation/asr.py); adds word error rates.
        listen: Number of clips on the page with players.
        restart: Measure all again, also what an earlier run has measured.
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
    def columns(self) -> dict[str, Any]:
        """Names of columns, as `load_clips` takes them."""
        return {name: getattr(self, name) for name in ("audio_column", "id_column", "text_column")}
