"""Room for images in Fast DDS's shared memory. Knows nothing of ROS."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import MutableMapping
from pathlib import Path

VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
_DECIDED = (VARIABLE, "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")
"""Whoever sets one of these has settled the transports already."""


def profile() -> Path | None:
    """config/fastdds.xml, in the work tree or where the package is installed; None where it is not."""
    here = Path(__file__).resolve()
    folders = [
        here.parents[3] / "config",
        *(p / "share/vos_ros/config" for p in here.parents[4:8]),
        Path(sysconfig.get_path("data")) / "share/vos_ros/config",
        *(
            Path(p) / "share/vos_ros/config"
            for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
            if p
        ),
    ]
    return next((f / "fastdds.xml" for f in folders if (f / "fastdds.xml").is_file()), None)


def prepare(environment: MutableMapping[str, str] = os.environ) -> None:
    """Lets this process (and those it starts) send images of any usual size through shared memory. Call it before ``rclpy.init``.

    Does nothing where the user has settled the transports. Other middlewares don't read the variable.
    """
    found = profile()
    if found is not None and not any(environment.get(name) for name in _DECIDED):
        environment[VARIABLE] = str(found)
