"""Parts by name: a new encoder, quantizer, decoder or discriminator is one decorated class in one file."""

import inspect
from collections.abc import Callable
from types import NoneType, UnionType
from typing import Any, get_args

_KINDS = {int: (int,), float: (int, float), bool: (bool,), str: (str,), NoneType: (NoneType,)}


class Registry(dict):
    """Classes by name, built with keyword arguments that are checked against their constructor."""

    def __init__(self, kind: str):
        super().__init__()
        self.kind = kind

    def register(self, name: str) -> Callable[[type], type]:
        """Class decorator that enters the class under `name`."""

        def enter(cls: type) -> type:
            self[name] = cls
            return cls

        return enter

    def resolve(self, name: str, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Complete keyword arguments of the class called `name`: the given ones over the constructor's defaults.

        An option whose default is None is left out unless it is set, so codecs older than it keep their fingerprints.

        Raises:
            ValueError: If the name or one of the arguments is unknown; the message lists the known ones. If an argument
                is of another type than its annotation.
        """
        if name not in self:
            raise ValueError(f"{self.kind} must be one of {sorted(self)}, got {name!r}")
        parameters = list(inspect.signature(self[name].__init__).parameters.values())[2:]  # after self, config or size
        defaults = {p.name: p.default for p in parameters}
        unknown = sorted(set(kwargs) - set(defaults))
        if unknown:
            raise ValueError(f"{self.kind} {name!r} takes {sorted(defaults)}, got unknown {unknown}")
        for p in parameters:
            if p.name in kwargs and not _fits(kwargs[p.name], p.annotation):
                expected, value = inspect.formatannotation(p.annotation), kwargs[p.name]
                raise ValueError(f"{p.name} of {self.kind} {name!r} must be {expected}, got {value!r}")
        given = {**defaults, **kwargs}
        return {key: value for key, value in given.items() if value is not None or defaults[key] is not None}


def _fits(value: Any, annotation: Any) -> bool:
    """Whether a value is of an annotated type, as far as that is plain: whole numbers are floats, bools no numbers."""
    hints = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
    return any(
        hint not in _KINDS or (isinstance(value, _KINDS[hint]) and isinstance(value, bool) == (hint is bool))
        for hint in hints
    )
