"""``camera.json``: the pinhole camera of a recorded folder."""

from __future__ import annotations

import json
from pathlib import Path

from vos_ros.types import Intrinsics


def read_camera(path: Path) -> tuple[Intrinsics, float]:
    """Read intrinsics (px) and the units of depth images per metre (default: 1000).

    Raises ValueError: names the missing keys.
    """
    values = json.loads(path.read_text())
    missing = [k for k in ("fx", "fy", "cx", "cy", "width", "height") if k not in values]
    if missing:
        raise ValueError(
            f"{path}: no {', '.join(missing)}; wanted fx fy cx cy (px), width, height and"
            " depth_scale (units per metre)"
        )
    return (
        Intrinsics(
            float(values["fx"]),
            float(values["fy"]),
            float(values["cx"]),
            float(values["cy"]),
            int(values["width"]),
            int(values["height"]),
        ),
        float(values.get("depth_scale", 1000.0)),
    )
