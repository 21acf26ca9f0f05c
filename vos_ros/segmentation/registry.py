"""Segmenters by name. A method's file registers its class as its last act; the files load when a name is first asked for."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable

from vos_ros.config import SegmentationConfig
from vos_ros.segmentation.interface import VideoSegmenter

Factory = Callable[[SegmentationConfig], VideoSegmenter]
_METHODS: dict[str, Factory] = {}


def register(name: str, factory: Factory) -> None:
    """ValueError: the name is taken."""
    if name in _METHODS:
        raise ValueError(f"method {name!r} is registered twice")
    _METHODS[name] = factory


def names() -> tuple[str, ...]:
    """Every registered method, sorted."""
    package = importlib.import_module("vos_ros.segmentation.methods")
    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return tuple(sorted(_METHODS))


def create(config: SegmentationConfig) -> VideoSegmenter:
    """A fresh segmenter of ``config.method``. ValueError: unknown name, listing the known ones."""
    known = names()
    if config.method not in known:
        raise ValueError(
            f"unknown segmentation method {config.method!r}: known are {', '.join(known)}"
        )
    return _METHODS[config.method](config)
