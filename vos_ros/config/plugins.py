"""Options that plugins bring: a segmentation method and a term of evidence own theirs.

A plugin is a module (or a folder) of a package such as ``vos_ros.segmentation.methods``. When it is
imported it registers its options, a frozen dataclass of ``option``s, under its name. The config
tree has an ``OptionGroup`` for the package, and so finds the options of every plugin that is there.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

Options = TypeVar("Options")

_REGISTERED: dict[str, dict[str, type]] = {}
_IMPORTED: set[str] = set()


def register_options(package: str, name: str, options: type) -> None:
    """Add the options of a plugin to the config tree.

    Args:
        package: dotted name of the package that the plugin lies in.
        name: name of the plugin, the section of its options.
        options: frozen dataclass of ``option``s, each with a default.

    Raises ValueError: the name is taken.
    """
    known = _REGISTERED.setdefault(package, {})
    if name in known:
        raise ValueError(f"options of {name!r} are registered twice in {package}")
    known[name] = options


def forget(package: str, name: str | None = None) -> None:
    """Remove the options of one plugin of a package from the config tree, or of all of them."""
    if name is not None:
        del _REGISTERED[package][name]
        return
    _REGISTERED.pop(package, None)
    _IMPORTED.discard(package)


def import_plugins(package: str) -> None:
    """Import every module of a package once, so that its plugins register themselves."""
    if package in _IMPORTED:
        return
    _IMPORTED.add(package)
    parent = importlib.import_module(package)
    for module in pkgutil.iter_modules(parent.__path__):
        importlib.import_module(f"{package}.{module.name}")


def registered_options(package: str) -> MappingProxyType[str, type]:
    """Return the options class of every plugin of a package by name, sorted by name."""
    import_plugins(package)
    return MappingProxyType(dict(sorted(_REGISTERED.get(package, {}).items())))


@dataclass(frozen=True, eq=False)
class OptionGroup:
    """The options of all plugins of one package."""

    package: str
    """Dotted name of the package."""
    values: tuple[tuple[str, Any], ...] = ()
    """Name and options of each plugin. A plugin that is not named here has its defaults."""

    def __getitem__(self, name: str) -> Any:
        """Return the options of a plugin. Raises KeyError: no plugin of that name has options."""
        for known, options in self.values:
            if known == name:
                return options
        return registered_options(self.package)[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(registered_options(self.package))

    def __eq__(self, other: object) -> bool:
        """Compare the options of every plugin, those with their defaults included."""
        if not isinstance(other, OptionGroup) or self.package != other.package:
            return False
        return all(self[name] == other[name] for name in self)

    def __hash__(self) -> int:
        return hash(self.package)

    def of(self, cls: type[Options]) -> Options:
        """Return the options of the plugin that registered ``cls``. Raises KeyError: none did."""
        for name, registered in registered_options(self.package).items():
            if registered is cls:
                options: Options = self[name]
                return options
        raise KeyError(f"{cls.__name__} is not registered in {self.package}")


def option_group(package: str, *, inline: bool = False) -> Any:
    """Declare the field of a config class that holds the options of a package's plugins.

    Args:
        package: dotted name of the package.
        inline: whether the key of an option leaves out the name of the field: ``section.PLUGIN.x``
            in place of ``section.FIELD.PLUGIN.x``.
    """
    return field(default=OptionGroup(package), metadata={"package": package, "inline": inline})
