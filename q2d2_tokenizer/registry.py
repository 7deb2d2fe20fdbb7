"""Parts by name: a new encoder, quantizer, decoder or discriminator is one decorated class in one file."""

import inspect
from collections.abc import Callable
from typing import Any


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
            ValueError: If the name or one of the arguments is unknown; the message lists the known ones.
        """
        if name not in self:
            raise ValueError(f"{self.kind} must be one of {sorted(self)}, got {name!r}")
        parameters = list(inspect.signature(self[name].__init__).parameters.values())[2:]  # after self, config or size
        defaults = {p.name: p.default for p in parameters}
        unknown = sorted(set(kwargs) - set(defaults))
        if unknown:
            raise ValueError(f"{self.kind} {name!r} takes {sorted(defaults)}, got unknown {unknown}")
        given = {**defaults, **kwargs}
        return {key: value for key, value in given.items() if value is not None or defaults[key] is not None}
