"""A rendered world with everything known, small and short."""

from __future__ import annotations

import pytest

from vos_ros.synthetic.source import Capture, SyntheticSource, SyntheticSpec


@pytest.fixture(scope="session")
def captures() -> list[Capture]:
    """Sixteen frames at 10 Hz, 240x180 px, with their true poses."""
    pytest.importorskip("open3d")
    source = SyntheticSource(SyntheticSpec(seed=3, frames=16, width=240, height=180))
    return [source.capture(i) for i in range(len(source))]
