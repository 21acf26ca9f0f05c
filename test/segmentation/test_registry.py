from __future__ import annotations

from pathlib import Path

import pytest

import vos_ros.segmentation.methods
from vos_ros.config import FeaturesConfig, SegmentationConfig
from vos_ros.segmentation import registry


def test_every_file_of_methods_registers_something() -> None:
    files = {
        p.stem for p in Path(next(iter(vos_ros.segmentation.methods.__path__))).glob("*.py")
    } - {"__init__"}
    assert set(registry.names()) >= files == {"lwl", "null"} | files
    assert list(registry.names()) == sorted(registry.names())


def test_each_stream_has_its_own_segmenter() -> None:
    config = SegmentationConfig(device="cpu", features=FeaturesConfig(long_side=64))
    assert registry.create(config) is not registry.create(config)


def test_an_unknown_name_is_told_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'lvl'.*lwl, meta, null"):
        registry.create(SegmentationConfig(method="lvl"))


def test_a_name_is_registered_once() -> None:
    registry.names()
    with pytest.raises(ValueError, match="lwl"):
        registry.register("lwl", lambda config: None)  # type: ignore[arg-type, return-value]
