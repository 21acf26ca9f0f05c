"""Methods register themselves, with their options, and load their segmenter when it is made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.segmenters import segmentation_config

import vos_ros.segmentation.methods
from vos_ros.config import Config, SegmentationConfig, params
from vos_ros.segmentation import registry


def test_every_folder_of_methods_registers_its_name() -> None:
    folder = Path(vos_ros.segmentation.methods.__path__[0])
    assert set(registry.names()) == {p.parent.name for p in folder.glob("*/__init__.py")}
    assert list(registry.names()) == sorted(registry.names())


def test_options_of_a_method_are_parameters() -> None:
    keys = {p.key for p in params(Config)}
    assert {
        "segmentation.lwl.memory_size",
        "segmentation.meta.optimizer",
        "segmentation.features.name",
    } <= keys


def test_a_method_from_elsewhere_is_made_with_its_options() -> None:
    """In a process of its own: what is registered stays registered."""
    code = """
from dataclasses import dataclass
from vos_ros.config import from_flat, option
from vos_ros.segmentation import registry

@dataclass(frozen=True)
class Options:
    size: int = option(3, "a size", low=1, high=9)

registry.register("mine", lambda config: config.methods["mine"].size, Options)
values = {"segmentation.method": "mine", "segmentation.mine.size": 5}
print(registry.create(from_flat(values).segmentation))
try:
    registry.register("mine", lambda config: 0)
except ValueError as e:
    print(e)
"""
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert out.stdout.splitlines() == ["5", "method 'mine' is registered twice"]


def test_each_stream_has_its_own_segmenter() -> None:
    config = segmentation_config(lwl={"long_side": 64})
    assert registry.create(config) is not registry.create(config)


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"'lvl'.*lwl, meta, null"):
        registry.create(SegmentationConfig(method="lvl"))


def test_options_load_neither_a_segmenter_nor_torch() -> None:
    code = (
        "import sys; from vos_ros.config import SegmentationConfig, params;"
        "n = len(list(params(SegmentationConfig)));"
        "loaded = [m for m in sys.modules if m == 'torch' or m.endswith('segmenter')];"
        "print(n > 30, *loaded)"
    )
    out = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert out.stdout.split() == ["True"]
