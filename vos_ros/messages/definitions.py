"""Finds the message definitions: those of ROS 2 Jazzy and those of our ``msg/`` folder."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore


@lru_cache(maxsize=1)
def typestore() -> Typestore:
    """Give rosbags' store of the types of ROS 2 Jazzy and of our ``msg/``.

    Raises FileNotFoundError: our definitions are not installed.
    """
    store = get_typestore(Stores.ROS2_JAZZY)
    types = {}
    for path in sorted(message_folder().glob("*.msg")):
        types.update(get_types_from_msg(path.read_text(), f"vos_ros/msg/{path.stem}"))
    store.register(types)
    return store


def message_folder(module: Path | str = __file__) -> Path:
    """Find the folder of our .msg files: in the work tree, or ``share/vos_ros/msg`` of a prefix.

    The prefixes are the one that holds ``module`` (this file), Python's own, and those of
    AMENT_PREFIX_PATH. Raises FileNotFoundError, with the folders that were searched.
    """
    searched = list(_message_folders(Path(module)))
    for folder in searched:
        if (folder / "MapObjectArray.msg").is_file():
            return folder
    raise FileNotFoundError(
        "the message definitions of vos_ros (MapObjectArray.msg, ...) are not installed;"
        f" searched {', '.join(map(str, searched))}."
        " Install the package again (pip install . or colcon build)"
    )


def _message_folders(module: Path) -> Iterator[Path]:
    parents = module.resolve().parents
    yield parents[2] / "msg"
    # <prefix>/lib/python3.x/site-packages/vos_ros/messages/ and Debian's local/lib/...
    yield from (parent / "share/vos_ros/msg" for parent in parents[3:7])
    yield Path(sysconfig.get_path("data")) / "share/vos_ros/msg"
    yield from (
        Path(prefix) / "share/vos_ros/msg"
        for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
        if prefix
    )
