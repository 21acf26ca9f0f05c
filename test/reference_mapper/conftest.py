"""Fixtures of the mapper's tests."""

from __future__ import annotations

import pytest
from support.mapper_run import MapperRun

from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.reference_mapper.object_mapper import ObjectMapper


@pytest.fixture
def run() -> MapperRun:
    """A run of an empty map with default parameters."""
    return MapperRun(ObjectMapper(MapperConfig()))
