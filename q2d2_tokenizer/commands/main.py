"""The command `q2d2`: audio files to token files and back.

    q2d2 encode recordings/ --output tokens/
    q2d2 decode tokens/ --output decoded/
    q2d2 reconstruct in.flac --output out.wav
    q2d2 info

Exit code: 0 if all went well, 1 if single files failed (the rest is done), 2 if nothing could be started.
"""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import torch
from huggingface_hub.errors import StrictDataclassError
from tqdm import tqdm
from transformers.utils import logging as transformers_logging

from ..audio.reading import AUDIO_SUFFIXES
from ..audio.recordings import decode_to_file, encode_file
from ..audio.token_file import TOKEN_SUFFIX, TokenFile, load_tokens, save_tokens
from ..bundled import default_checkpoint
from ..configuration_q2d2 import Q2D2Config
from ..modeling_q2d2 import Q2D2Model

_SUFFIXES = {
    "encode": (AUDIO_SUFFIXES, TOKEN_SUFFIX),
    "decode": ({TOKEN_SUFFIX}, ".wav"),
    "reconstruct": (AUDIO_SUFFIXES, ".wav"),
}
_PARTS = ("encoder", "quantizer", "decoder")
_FAILURES = (ValueError, OSError, RuntimeError, MemoryError, StrictDataclassError)


class UsageError(Exception):
    """The command cannot be carried out at all."""


@dataclass(frozen=True)
class Job:
    """One file to convert."""

    source: Path
    target: Path


def plan_jobs(inputs: list[str], output: str, input_suffixes: set[str], output_suffix: str) -> list[Job]:
    """Which file becomes which; folders are searched for files of `input_suffixes` and keep their structure.

    Args:
        inputs: Files and folders.
        output: Folder to write to; or the file to write, if there is one input file and `output` has `output_suffix`.
        input_suffixes: Of the files to take from folders, in lower case.
        output_suffix: Of the files to write.

    Raises:
        UsageError: If there is nothing to do, or two inputs would become the same file, or one would be overwritten.
    """
    root = Path(output)
    if len(inputs) == 1 and not Path(inputs[0]).is_dir() and root.suffix.lower() == output_suffix and not root.is_dir():
        jobs = [Job(Path(inputs[0]), root)]
    else:
        found = [pair for name in inputs for pair in _files_of(Path(name), root, input_suffixes)]
        jobs = [Job(source, root / relative.with_suffix(output_suffix)) for source, relative in found]
    if not jobs:
        raise UsageError(f"no {', '.join(sorted(input_suffixes))} files in {', '.join(inputs)}")
    _check_targets(jobs)
    return jobs


def _files_of(path: Path, output: Path, suffixes: set[str]) -> Iterator[tuple[Path, Path]]:
    """Files of an input, each with its path relative to that input."""
    if not path.is_dir():
        yield path, Path(path.name)
        return
    inside = path.resolve() in output.resolve().parents  # then results of an earlier run are no input
    for file in sorted(path.rglob("*")):
        if file.suffix.lower() in suffixes and file.is_file():
            if not (inside and output.resolve() in file.resolve().parents):
                yield file, file.relative_to(path)


def _check_targets(jobs: list[Job]) -> None:
    sources = {job.source.resolve() for job in jobs}
    identities = {_identity(source) for source in sources if source.exists()}
    taken: dict[Path, Path] = {}
    for job in jobs:
        target = job.target.resolve()
        if target in sources or (target.exists() and _identity(target) in identities):
            raise UsageError(f"{job.source} would overwrite the input {job.target}; choose another --output")
        if target in taken and taken[target] != job.source.resolve():
            raise UsageError(f"{taken[target]} and {job.source} would both become {job.target}; convert one at a time")
        taken[target] = job.source.resolve()


def _identity(path: Path) -> tuple[int, int]:
    """The same for all names of a file."""
    status = path.stat()
    return status.st_dev, status.st_ino


def _check_writable(jobs: list[Job]) -> None:
    for folder in sorted({job.target.parent for job in jobs}):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            reason = "it is a file" if folder.is_file() else error.strerror
            raise UsageError(f"cannot write to {folder}: {reason}") from error
        if not os.access(folder, os.W_OK):
            raise UsageError(f"cannot write to {folder}: permission denied")


def _run(jobs: list[Job], convert: Callable[[Path, Path], None]) -> int:
    """Convert all files, tell those that fail, and return the exit code."""
    failed = 0
    for job in tqdm(jobs, unit="file", disable=None if len(jobs) > 1 else True):
        try:
            convert(job.source, job.target)
        except _FAILURES as error:
            failed += 1
            tqdm.write(f"q2d2: {job.source}: {error}", file=sys.stderr)
    if failed:
        print(f"q2d2: {failed} of {len(jobs)} files failed", file=sys.stderr)
    if failed < len(jobs):
        print(f"wrote {jobs[0].target if len(jobs) == 1 else f'{len(jobs) - failed} files'}")
    return 1 if failed else 0


class Codec:
    """A codec that converts files.

    Args:
        checkpoint: Folder or name on the Hub.
        device: Where it runs.
    """

    def __init__(self, checkpoint: str, device: str):
        self.checkpoint = checkpoint
        try:
            self.model = load_model(checkpoint).to(device)
        except (AssertionError, RuntimeError) as error:  # what torch raises for a device that is not there
            raise UsageError(f"cannot use the device {device!r}: {error}") from error
        self.fingerprint = self.model.fingerprint()

    def encode(self, source: Path, target: Path) -> None:
        """Audio file to token file."""
        codes, num_samples = encode_file(self.model, source)
        save_tokens(target, TokenFile(codes, self.model.config.sampling_rate, num_samples, self.fingerprint))

    def decode(self, source: Path, target: Path) -> None:
        """Token file to wav file.

        Raises:
            ValueError: If the tokens are of another codec.
        """
        tokens = load_tokens(source)
        if tokens.codec_fingerprint != self.fingerprint:
            raise ValueError(
                f"the tokens are of codec {tokens.codec_fingerprint}, but {self.checkpoint} is codec "
                f"{self.fingerprint}; pass the --checkpoint that made them"
            )
        decode_to_file(self.model, tokens.audio_codes, tokens.num_samples, target)

    def reconstruct(self, source: Path, target: Path) -> None:
        """Audio file through tokens to wav file."""
        decode_to_file(self.model, *encode_file(self.model, source), target)


def load_model(checkpoint: str) -> Q2D2Model:
    """The codec of a checkpoint.

    Raises:
        UsageError: If it cannot be loaded.
    """
    if checkpoint == default_checkpoint() and not Path(checkpoint).is_dir():
        raise UsageError("no codec comes with this installation; pass --checkpoint")
    try:
        return Q2D2Model.from_pretrained(checkpoint).eval()
    except _FAILURES as error:
        raise UsageError(f"cannot load the codec {checkpoint}: {error}") from error


def load_model_without_weights(config_file: str) -> Q2D2Model:
    """The model of a configuration in JSON; its tensors have shapes, but no values.

    Raises:
        UsageError: If the file is no valid configuration.
    """
    try:
        config = Q2D2Config.from_json_file(config_file)
        with torch.device("meta"):
            return Q2D2Model(config)
    except (*_FAILURES, TypeError) as error:
        raise UsageError(f"cannot use {config_file} as a Q2D2 configuration: {error}") from error


def describe(model: Q2D2Model, fingerprint: str) -> dict[str, str]:
    """What `q2d2 info` tells about a codec, in order."""
    config = model.config
    parts = {name: sum(p.numel() for p in getattr(model, name).parameters()) for name in _PARTS}
    return {
        "parameters": f"{sum(parts.values()):,}",
        **{f"  {name}": f"{count:,} ({getattr(config, name)})" for name, count in parts.items()},
        "sampling rate": f"{config.sampling_rate:,} Hz",
        "hop length": f"{config.hop_length} samples",
        "tokens": f"{config.frame_rate:.2f} /s",
        "lattice": f"{config.lattice}, channels in groups of {config.group_size}",
        "levels": ", ".join(map(str, config.levels)),
        "points per group": " * ".join(map(str, config.points_per_group)),
        "codebook size": f"{config.codebook_size:,}",
        "information": f"{config.bits_per_code:.3f} bits/token",
        "bitrate": f"{config.bitrate:.0f} bit/s",
        **_describe_context(model),
        "fingerprint": fingerprint,
    }


def _describe_context(model: Q2D2Model) -> dict[str, str]:
    hop, rate = model.config.hop_length, model.config.sampling_rate
    contexts = {"encoder": model.encoder.context_frames, "decoder": model.decoder.context_frames}
    lines = {
        f"{name} context": "the whole recording"
        if frames is None
        else f"{frames} frames = {1000 * frames * hop / rate:.1f} ms on each side of a frame"
        for name, frames in contexts.items()
    }
    if None in contexts.values():
        return {**lines, "latency": "the whole recording"}
    latency = 1000 * (1 + sum(contexts.values())) * hop / rate
    return {**lines, "latency": f"{latency:.1f} ms, a frame and the contexts of encoder and decoder"}


def _info(arguments: argparse.Namespace) -> int:
    if arguments.config is not None:
        fields = describe(load_model_without_weights(arguments.config), "none without weights")
    else:
        model = load_model(arguments.checkpoint)
        fields = describe(model, model.fingerprint())
    try:
        for name, value in fields.items():
            print(f"{name:<18} {value}")
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # `head`, for example, has enough
    return 0


def _convert(arguments: argparse.Namespace) -> int:
    jobs = plan_jobs(arguments.inputs, arguments.output, *_SUFFIXES[arguments.command])
    _check_writable(jobs)
    codec = Codec(arguments.checkpoint, arguments.device)
    return _run(jobs, getattr(codec, arguments.command))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="q2d2", description="Speech to flat integer tokens, and back.")
    parser.add_argument("--version", action="version", version=f"q2d2 {version('q2d2-tokenizer')}")
    commands = parser.add_subparsers(dest="command", required=True)
    helps = {
        "encode": "audio files (wav, flac, ogg, opus, mp3; any rate) to token files",
        "decode": "token files to wav files",
        "reconstruct": "audio files to wav files, through tokens",
    }
    for name, text in helps.items():
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("inputs", nargs="+", metavar="INPUT", help="file, or folder to search")
        command.add_argument("--output", required=True, help="folder, or for a single file the file to write")
        command.add_argument("--device", default="cpu", help="where the codec runs (default: %(default)s)")
        _add_checkpoint(command)
    info = commands.add_parser("info", help="what a codec is", description="What a codec is.")
    source = info.add_mutually_exclusive_group()
    _add_checkpoint(source)
    source.add_argument("--config", help="configuration in JSON, instead of a checkpoint")
    return parser


def _add_checkpoint(command: argparse._ActionsContainer) -> None:
    command.add_argument(
        "--checkpoint",
        default=default_checkpoint(),
        help="folder of a codec, or its name on the Hub (default: the one that comes with the package)",
    )


def main(argv: list[str] | None = None) -> int:
    """Run the command line `argv`, that of the process if left out; returns the exit code."""
    arguments = _parser().parse_args(argv)
    transformers_logging.disable_progress_bar()
    try:
        return _info(arguments) if arguments.command == "info" else _convert(arguments)
    except UsageError as error:
        print(f"q2d2: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
