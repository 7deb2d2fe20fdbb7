"""Registers the codec with the Auto classes of transformers, as soon as both are imported.

Importing the Auto classes takes seconds. So this package waits for somebody to do it, and then adds its own.
"""

import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

_AUTO = "transformers.models.auto."
# Module of transformers: its Auto classes, and the module and the class of this package that they shall find.
_CLASSES = {
    f"{_AUTO}configuration_auto": (["AutoConfig"], "configuration_q2d2", "Q2D2Config"),
    f"{_AUTO}modeling_auto": (["AutoModel", "AutoModelForAudioTokenization"], "modeling_q2d2", "Q2D2Model"),
    f"{_AUTO}feature_extraction_auto": (["AutoFeatureExtractor"], "feature_extraction_q2d2", "Q2D2FeatureExtractor"),
    f"{_AUTO}processing_auto": (["AutoProcessor"], "processing_q2d2", "Q2D2Processor"),
}


class _Watched(Loader):
    """The loader of a module, which says when the module begins and when it is there."""

    def __init__(self, loader: Any, registration: "_Registration"):
        self._loader, self._registration = loader, registration

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)  # what runpy and others ask for

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        assert module.__spec__
        module.__loader__ = module.__spec__.loader = self._loader
        self._registration.begun(module.__name__)
        try:
            self._loader.exec_module(module)
        finally:
            self._registration.ended(module.__name__)


class _Registration(MetaPathFinder):
    """Finds the modules of Auto classes and of a package as others do, and registers when they are there.

    It waits until no module of the package is half imported, since importing one may import the Auto classes.
    """

    def __init__(self, package: str, actions: dict[str, Callable[[], Any]]) -> None:
        self._prefix, self._actions = f"{package}.", actions
        self._looking: set[str] = set()  # names that the other finders are asked for
        self._half: set[str] = set()
        self._there = set(actions) & set(sys.modules)
        self._register()

    def find_spec(self, name: str, path: Any = None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name in self._looking or not (name in self._actions or name.startswith(self._prefix)):
            return None
        self._looking.add(name)
        try:
            spec = find_spec(name)
        finally:
            self._looking.discard(name)
        if spec and spec.loader:
            spec.loader = _Watched(spec.loader, self)
        return spec

    def begun(self, name: str) -> None:
        if name.startswith(self._prefix):
            self._half.add(name)

    def ended(self, name: str) -> None:
        self._half.discard(name)
        if name in self._actions and name in sys.modules:
            self._there.add(name)
        self._register()

    def _register(self) -> None:
        while self._there and not self._half:
            name = min(self._there)  # the configuration comes first
            self._actions[name]()
            self._there.discard(name)


def when_imported(package: str, actions: dict[str, Callable[[], Any]]) -> None:
    """Do something as soon as modules of transformers are there, and no module of a package is half imported.

    Args:
        package: Name of the package.
        actions: What to do, by the modules of transformers; maybe more than once.
    """
    sys.meta_path.insert(0, _Registration(package, actions))


def _register(name: str) -> None:
    auto_classes, module, own = _CLASSES[name]
    config = import_module(".configuration_q2d2", __package__).Q2D2Config
    found = getattr(import_module(f".{module}", __package__), own)
    for auto in auto_classes:
        key = "q2d2" if auto == "AutoConfig" else config
        getattr(sys.modules[name], auto).register(key, found, exist_ok=True)


def register() -> None:
    """Register the codec with the Auto classes that are imported already, and with the others when they are."""
    when_imported(str(__package__), {name: partial(_register, name) for name in _CLASSES})
