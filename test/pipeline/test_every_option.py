"""Every method and every documented value of the options starts and answers."""

from __future__ import annotations

import numpy as np
import pytest
from support import squares

from vos_ros.config import Config, ConfigError, Param, from_flat, params
from vos_ros.pipeline import Pipeline
from vos_ros.segmentation import registry
from vos_ros.types import MapUpdate

METHODS = tuple(registry.names())
_NEEDS_A_FILE = {("segmentation.features.name", "mobilenet_v2")}
"""Values that need weights which don't come with the package."""
_TESTED = {("segmentation.lwl.compile", True)}
"""Values that take a minute here, and have a test of their own."""


def values(p: Param) -> tuple[object, ...]:
    """Every value that the documentation of a parameter lists."""
    return (False, True) if p.type is bool else p.choices


def cases() -> list[tuple[str, str, object]]:
    """Method, parameter, value: the methods' own options, and the shared ones with ``null``."""
    out = []
    for p in params(Config):
        section, *rest = p.key.split(".")
        own = section == "segmentation" and len(rest) == 2
        if p.key == "segmentation.method" or section in ("node", "bridges", "limits"):
            continue  # the method is in every case; the others are the node's
        methods = ("null",) if not own else (rest[0] if rest[0] in METHODS else "lwl",)
        out += [(m, p.key, v) for m in methods for v in values(p) if (p.key, v) not in _TESTED]
    return out


def matched_after(config: Config, frames: int) -> list[int]:
    pipeline = Pipeline(config)
    try:
        update = MapUpdate(squares.START, "map", 1, True, squares.map_objects())
        assert pipeline.update_map(update) == ""
        for index in range(frames):
            result = pipeline.step(squares.frame_at(squares.START + index * squares.STEP, index))
        labels = result.labels()
        assert labels.shape == (squares.H, squares.W) and labels.dtype == np.uint16
        return sorted(a.map_object_id for a in result.associations if a.track_id)
    finally:
        pipeline.close()


@pytest.mark.parametrize("method", METHODS)
def test_every_method_starts_and_answers(method: str) -> None:
    assert matched_after(from_flat({"segmentation.method": method}), 3) == [1, 2, 3]


@pytest.mark.slow
@pytest.mark.parametrize(("method", "key", "value"), cases())
def test_every_value_of_every_option_starts_and_answers(
    method: str, key: str, value: object
) -> None:
    config = from_flat({"segmentation.method": method, key: value})
    if (key, value) in _NEEDS_A_FILE:
        with pytest.raises(ConfigError, match="weights"):
            matched_after(from_flat({"segmentation.lwl.model": "plain"}, config), 1)
        return
    assert matched_after(config, 4) == [1, 2, 3]
