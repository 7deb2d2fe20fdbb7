"""The options of a command, made from the signature and the docstring of its function."""

import dataclasses
import inspect
import json
import math
import re
from argparse import ArgumentError
from collections.abc import Callable, Collection
from difflib import get_close_matches
from pathlib import Path
from types import NoneType
from typing import Any, get_args, get_origin, get_type_hints

import yaml
from jsonargparse import (
    ActionConfigFile,
    ActionYesNo,
    ArgumentParser,
    DefaultHelpFormatter,
    get_loader,
    set_loader,
    set_parsing_settings,
)

_SECTIONS = ("Args:", "Returns:", "Raises:")
_CONFIG_HELP = "YAML or JSON file with some of these settings; the last of several wins, options win over files"
_PRINT_CONFIG = "--print_config"  # of jsonargparse
_PRINT_CONFIG_HELP = "Print all settings, as they are with the other options, as a file for --config, and stop"
_KINDS = {"int": "a whole number", "float": "a number", "dict": "a mapping in JSON", "bool": "true or false"}
_load_yaml = get_loader("yaml")


def _load(text: str) -> Any:
    """A value in JSON, which a run writes with numbers such as Infinity, or else in YAML."""
    try:
        return json.loads(text)
    except ValueError:
        return _load_yaml(text)


set_parsing_settings(docstring_parse_attribute_docstrings=True)
set_loader("yaml", _load, exceptions=(yaml.YAMLError,))


class _HelpFormatter(DefaultHelpFormatter):
    """Help with defaults where there is one to tell; keeps the lines of a description."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        return text

    def _format_action_invocation(self, action: Any) -> str:
        if _PRINT_CONFIG in action.option_strings:
            return _PRINT_CONFIG
        if isinstance(action, ActionYesNo) and not action.default:
            return str(action.option_strings[0])  # nobody needs to say no
        return super()._format_action_invocation(action)

    def _get_help_string(self, action: Any) -> str:
        if _PRINT_CONFIG in action.option_strings:
            return _PRINT_CONFIG_HELP
        text = (action.help or "").rstrip(".").replace("`", "")
        if action.required and action.option_strings:
            return f"{text} (required)"
        default = action.default
        if isinstance(action, ActionYesNo) or default in (None, "", "==SUPPRESS==") or default == [] or default == {}:
            return f"{text} (default: yes)" if default is True else text
        shown = " ".join(map(str, default)) if isinstance(default, list) else default
        shown = "no limit" if default == math.inf else shown
        return f"{text} (default: {shown})"


class _Parser(ArgumentParser):
    """Takes lists as words after an option, and flags without a value.

    Args:
        positional: Names of the parameters that are given without an option.
        **options: For the parser of jsonargparse.
    """

    def __init__(self, positional: Collection[str], **options: Any):
        self._positional = positional
        self.mappings: set[str] = set()  # names of options that take NAME=VALUE
        super().__init__(**options)

    def add_argument(self, *names: str, **options: Any) -> Any:
        """Add an option as `ArgumentParser` does, in the forms of this command."""
        names = tuple(name for name in names if not name.endswith("+"))
        name = names[0].lstrip("-")
        kind = options.get("type") or getattr(options.get("action"), "_typehint", None)
        kinds = [one for one in get_args(kind) if one is not NoneType]
        kind = kinds[0] if len(kinds) == 1 and NoneType in get_args(kind) else kind
        if kind is bool:
            del options["type"]
            options["action"] = ActionYesNo(yes_prefix="", no_prefix="no_")
        elif get_origin(kind) is list or get_args(kind) == (str, str):
            options.pop("action", None)
            options |= {
                "type": get_args(kind)[0],
                "nargs": "*" if "default" in options and not options["default"] else "+",
            }
            if get_origin(kind) is dict:
                self.mappings.add(name)
                options["metavar"] = "NAME=VALUE"
        if name in self._positional:
            if names[0].startswith("-"):
                options["nargs"] = "?"
            options.pop("required", None)
            names = (name,)
        elif kind in (int, float):
            options["metavar"] = kind.__name__.upper()
        return super().add_argument(*names, **options)

    def option_names(self) -> dict[str, str]:
        """Options by the names of their values; --steps by steps."""
        return {action.dest: action.option_strings[0] for action in self._actions if action.option_strings}


def _plain(problem: str, options: dict[str, str]) -> str:
    """What is wrong with a command line, without words of the parser.

    Args:
        problem: What the parser says.
        options: See `_Parser.option_names`.
    """
    problem = " ".join(problem.split())
    if match := re.match(r"Parser key \"(\w+)\".*?: Expected an? <class '(\w+)'>. Got value: (.*)", problem):
        name, kind, value = match.groups()
        return f"{options.get(name, name)} must be {_KINDS.get(kind, kind)}, got {value!r}"
    if match := re.match(r"(.* are required: )(.*)", problem):
        return match[1] + ", ".join(options.get(name, name) for name in match[2].split(", "))
    if match := re.match(r"unrecognized arguments: (--\w+)", problem):
        close = get_close_matches(match[1], options.values(), 1)
        return f"{problem}{f'; did you mean {close[0]}?' if close else ''}"
    problem = re.sub(r"argument (--\w+)\S*: ignored explicit argument (.*)", r"\1 takes no value, got \2", problem)
    problem = re.sub(r"argument (--\w+)\S*: expected (one|at least one) argument", r"\1 needs a value", problem)
    problem = re.sub(r"Parser key \"config\": File does not exist: (.*)", r"--config: there is no file \1", problem)
    return re.sub(r"Option '(\w+)' is not accepted", r"the file of --config has \1, which is no setting", problem)


def parse(name: str, function: Callable[..., Any], argv: list[str], settings: Path | None = None) -> dict[str, Any]:
    """Arguments of a function from a command line.

    Parameters before the `*` of the signature are given without an option, all others as options. The fields of a
    dataclass among the parameters are options themselves, and --config takes files with some of them.

    Args:
        name: Words that call the command.
        function: Its signature gives the options, its docstring their help.
        argv: The command line after the name.
        settings: File with other defaults for the fields of the dataclasses.

    Raises:
        ArgumentError: If the command line does not fit.
        SystemExit: After --help.
    """
    parameters, hints = inspect.signature(function).parameters.values(), get_type_hints(function)
    classes = {p.name: hints[p.name] for p in parameters if dataclasses.is_dataclass(hints.get(p.name))}
    parser = _Parser(
        positional={p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD},
        prog=name,
        description=_description(function),
        formatter_class=_HelpFormatter,
        exit_on_error=False,
        allow_abbrev=False,
    )
    parser.add_function_arguments(function, as_group=False, as_positional=True, skip=set(classes))
    for key, cls in classes.items():
        parser.add_class_arguments(cls, as_group=False)
        default = inspect.signature(function).parameters[key].default
        if default is not inspect.Parameter.empty:
            parser.set_defaults({f.name: getattr(default, f.name) for f in dataclasses.fields(default) if f.init})
    if settings:
        parser.set_defaults(_load(settings.read_text()))
    if classes:
        parser.add_argument("--config", action=ActionConfigFile, help=_CONFIG_HELP)
    files, others = _split_files(argv)
    for file in files if classes else []:
        _check_file(file)
    try:
        found = vars(parser.parse_args([*(f"--config={file}" for file in files), *others]))
    except ArgumentError as error:
        raise ArgumentError(None, _plain(str(error), parser.option_names())) from error
    found.pop("config", None)
    for name in parser.mappings:
        if wrong := [item for item in found[name] or [] if not re.match("[^=]+=.", item)]:
            raise ArgumentError(None, f"--{name} takes NAME=VALUE, got {' '.join(wrong)!r}")
        found[name] = dict(item.partition("=")[::2] for item in found[name] or [])
    for key, cls in classes.items():
        found[key] = cls(**{field.name: found.pop(field.name) for field in dataclasses.fields(cls) if field.init})
    return found


def _check_file(path: str) -> None:
    """Refuse a file of --config that holds no settings; the parser would not name it.

    Raises:
        ArgumentError: Names the file.
    """
    if not path:
        raise ArgumentError(None, "--config needs a value")
    if not Path(path).exists():  # the parser says so; it takes settings instead of a file, too
        return
    if Path(path).is_dir():
        raise ArgumentError(None, f"--config: {path} is a folder; name a YAML or JSON file in it")
    try:
        content = _load(Path(path).read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ArgumentError(None, f"--config: {path} is no YAML or JSON in UTF-8: {error}") from error
    if not isinstance(content, dict):
        found = "nothing" if content is None else type(content).__name__
        raise ArgumentError(None, f"--config: {path} must hold lines such as 'steps: 100', got {found}")


def _split_files(argv: list[str]) -> tuple[list[str], list[str]]:
    """The files of --config and the other words of a command line, which come behind them and so win over them."""
    files: list[str] = []
    others: list[str] = []
    words = iter(argv)
    for word in words:
        if word == "--config":
            files.append(next(words, ""))
        elif word.startswith("--config="):
            files.append(word.removeprefix("--config="))
        else:
            others.append(word)
    return files, others


def _description(function: Callable[..., Any]) -> str:
    """The docstring down to its first section."""
    lines = (inspect.getdoc(function) or "").splitlines()
    end = next((number for number, line in enumerate(lines) if line in _SECTIONS), len(lines))
    return "\n".join(lines[:end]).rstrip()
