"""Segmentation methods by name.

A method is a folder of ``vos_ros.segmentation.methods``. Importing it registers its name, its
options and a factory; the factory imports the segmenter, so that a configuration can be read
without loading torch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from vos_ros.config import SegmentationConfig, import_plugins, register_options

if TYPE_CHECKING:
    from vos_ros.segmentation.interface import VideoSegmenter

METHODS_PACKAGE = "vos_ros.segmentation.methods"
_FACTORIES: dict[str, Callable[[SegmentationConfig], VideoSegmenter]] = {}


def register(
    name: str,
    factory: Callable[[SegmentationConfig], VideoSegmenter],
    options: type | None = None,
) -> None:
    """Add a method; its last act on import.

    Args:
        name: value of ``segmentation.method`` that chooses the method.
        factory: makes a segmenter for one stream from the configuration.
        options: frozen dataclass of ``option``s. They become ``segmentation.NAME.*``, and the
            factory finds them in ``config.methods[NAME]``.

    Raises ValueError: the name is taken.
    """
    if name in _FACTORIES:
        raise ValueError(f"method {name!r} is registered twice")
    if options is not None:
        register_options(METHODS_PACKAGE, name, options)
    _FACTORIES[name] = factory


def names() -> tuple[str, ...]:
    """Return the name of every registered method, sorted."""
    import_plugins(METHODS_PACKAGE)
    return tuple(sorted(_FACTORIES))


def create(config: SegmentationConfig) -> VideoSegmenter:
    """Make a segmenter of ``config.method`` for one stream; clicks go to ``config.seed_with``.

    A method that doesn't use the image (null) makes masks of clicks itself: it stands in where
    there is no memory for a network.

    Raises ValueError: no method of that name. Raises ConfigError: options that cannot be used.
    """
    follower = _create(config.method, config)
    if config.seed_with in ("", config.method) or not follower.uses_image:
        return follower
    from vos_ros.segmentation.click_masks import ClickMasks

    return ClickMasks(follower, _create(config.seed_with, config))


def _create(name: str, config: SegmentationConfig) -> VideoSegmenter:
    known = names()
    if name not in known:
        raise ValueError(f"unknown segmentation method {name!r}: known are {', '.join(known)}")
    return _FACTORIES[name](config)
