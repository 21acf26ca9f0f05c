"""Give Fast DDS room for images in its shared memory. Knows nothing of ROS."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import MutableMapping
from pathlib import Path

VARIABLE = "FASTRTPS_DEFAULT_PROFILES_FILE"
_USER_SETTINGS = (VARIABLE, "FASTDDS_DEFAULT_PROFILES_FILE", "FASTDDS_BUILTIN_TRANSPORTS")
"""Environment variables by which users choose the transports themselves."""


def profile() -> Path | None:
    """Find config/fastdds.xml in the work tree or where the package is installed; None: nowhere."""
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
    """Let this process, and those it starts, send images of usual sizes through shared memory.

    To be called before ``rclpy.init``. Does nothing where the user has chosen the transports. Other
    middlewares don't read the variable.
    """
    found = profile()
    if found is not None and not any(environment.get(name) for name in _USER_SETTINGS):
        environment[VARIABLE] = str(found)
