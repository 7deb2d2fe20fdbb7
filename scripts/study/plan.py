"""The runs of the study: arms of equal bits (arms.yaml), made with the sizes and the budget of a second file."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from q2d2_tokenizer import Q2D2Config

HERE = Path(__file__).parent
ARMS, SMALL = HERE / "arms.yaml", HERE / "small.yaml"
REFERENCE = "fsq"  # what arms are compared with, unless they say otherwise
LARGEST_DIFFERENCE = 0.01  # of the bit rates of two arms, as a share of the lower one
_NAME = re.compile(r"[a-z0-9-]+")


@dataclass(frozen=True)
class Run:
    """One training of one arm.

    Args:
        arm: Name of the arm.
        rate: Name of its bit rate.
        seed: Of weights and batches; runs of one seed see the same segments in the same order.
        settings: Everything else that its result depends on, as JSON knows it.
    """

    arm: str
    rate: str
    seed: int
    settings: dict[str, Any]

    @property
    def name(self) -> str:
        """Name of the run, and of its files."""
        return f"{self.arm}_{self.rate}_{self.seed}"

    @property
    def codec(self) -> Q2D2Config:
        """Configuration of its codec."""
        return Q2D2Config(**self.settings["codec"])


@dataclass(frozen=True)
class Plan:
    """All runs in the order in which they are made, and what tables and plots say of the arms.

    Args:
        runs: The most useful ones first.
        arms: The entries of arms.yaml by name.
        middle: Name of the rate with several seeds and language models.
        inherited: What was taken over from where, in words.
    """

    runs: list[Run]
    arms: dict[str, dict[str, Any]]
    middle: str
    inherited: str

    def against(self, arm: str) -> str:
        """The arm that an arm is compared with."""
        return self.arms[arm].get("against", REFERENCE)

    def compared(self, comparison: str) -> list[str]:
        """Names of the arms of a comparison."""
        return [name for name, arm in self.arms.items() if comparison in arm["comparisons"]]


def read_yaml(path: Path, *needed: str) -> Any:
    """Content of a YAML file.

    Args:
        path: The file.
        needed: Keys of the mapping that it must be, if any.

    Raises:
        ValueError: If it cannot be read, is no such mapping, or lacks a key.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    if needed and not isinstance(content, dict):
        raise ValueError(f"{path} must be a mapping in YAML, got {type(content).__name__}")
    if missing := [key for key in needed if key not in content]:
        raise ValueError(f"{path} lacks {', '.join(missing)}")
    return content


def load_plan(arms: Path = ARMS, size: Path = SMALL) -> Plan:
    """The runs of two files.

    Args:
        arms: File with arms, rates and seeds.
        size: File with sizes of networks, steps and metrics.

    Raises:
        ValueError: If a file cannot be used, a name is not a name or occurs twice, a codec is none, or bit rates differ
            by more than 1 %.
    """
    content = read_yaml(arms, "arms", "seeds", "middle")
    common = read_yaml(size, "codec", "training", "evaluation", "language_model", "inherited")
    names = [arm["name"] for arm in content["arms"]]
    wrong = [name for name in names if not _NAME.fullmatch(name) or names.count(name) > 1]
    if wrong:
        raise ValueError(f"names of arms must differ, of letters, digits and -, got {wrong} in {arms}")
    runs = [run for arm in content["arms"] for run in _runs_of(arm, content["seeds"], common)]
    check_equal_bits(runs)
    order = {name: number for number, name in enumerate(names)}
    main = {arm["name"] for arm in content["arms"] if "main" in arm["comparisons"]}
    middle = content["middle"]
    runs.sort(key=lambda run: (run.arm not in main, run.rate != middle, run.seed, order[run.arm]))
    return Plan(runs, {arm["name"]: arm for arm in content["arms"]}, middle, common["inherited"])


def _runs_of(arm: dict[str, Any], seeds: dict[str, int], common: dict[str, Any]) -> list[Run]:
    """Runs of one arm at all of its rates."""
    runs = []
    for rate, own in arm["rates"].items():
        if rate not in seeds:
            raise ValueError(f"arm {arm['name']} has a rate {rate!r}; there are {sorted(seeds)}")
        has_models = rate in common["language_model"]["rates"] and arm.get("language_model", True)
        settings = {
            "codec": common["codec"] | arm.get("codec", {}) | own,
            "training": common["training"] | arm.get("training", {}),
            "evaluation": common["evaluation"],
            "language_model": common["language_model"] if has_models else None,
        }
        runs += [Run(arm["name"], rate, seed, settings) for seed in range(seeds[rate])]
    return runs


def check_equal_bits(runs: list[Run]) -> None:
    """Refuse arms that are compared at one rate and differ in it.

    Raises:
        ValueError: If the bit rates of two arms at one rate differ by more than 1 %; names the two.
    """
    for rate in dict.fromkeys(run.rate for run in runs):
        found = sorted({(run.codec.bitrate, run.arm) for run in runs if run.rate == rate})
        (lowest, low_arm), (highest, high_arm) = found[0], found[-1]
        if highest > (1 + LARGEST_DIFFERENCE) * lowest:
            raise ValueError(
                f"arms at rate {rate!r} must have bit rates within {LARGEST_DIFFERENCE:.0%} of each other, got "
                f"{low_arm} with {lowest:.1f} bit/s and {high_arm} with {highest:.1f} bit/s, which is "
                f"{highest / lowest - 1:.2%} more; choose other levels or codebook sizes"
            )
