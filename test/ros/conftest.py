"""Start the perception node as people run it, with a robot that talks to it over DDS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from vos_ros.cli.processes import free_domain

if TYPE_CHECKING:
    from support.robot import Robot


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Robot]]:
    """Start a node: ``start("image:=/camera/image", **{"node.use_depth": False})``."""
    from support.robot import start_perception

    started: list[Robot] = []

    def start(*remappings: str, **parameters: Any) -> Robot:
        log = tmp_path / "node.log"
        started.append(start_perception(log, free_domain(), *remappings, **parameters))
        return started[-1]

    yield start
    for robot in started:
        robot.close()
