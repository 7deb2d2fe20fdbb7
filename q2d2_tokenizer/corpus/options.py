"""Options of a corpus; loads nothing heavy, because the help of commands is made of it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CorpusOptions:
    """What the result depends on, besides the corpus and the codec.

    Args:
        max_hours: Longest recording, in hours; longer ones are rejected, most of them before they are decoded.
        silent: What to do with recordings whose peak is below -60 dB of full scale: `reject` or `keep`.
        rows_per_shard: Rows of the corpus in a shard; a killed process has to do at most that many again.

    Raises:
        ValueError: If a value is out of range.
    """

    max_hours: float = 4.0
    silent: str = "reject"
    rows_per_shard: int = 1000

    def __post_init__(self):
        if self.max_hours <= 0 or self.rows_per_shard < 1:
            raise ValueError(
                f"max_hours and rows_per_shard must be positive, got {self.max_hours:g} and {self.rows_per_shard}"
            )
        if self.silent not in ("reject", "keep"):
            raise ValueError(f"silent must be 'reject' or 'keep', got {self.silent!r}")
