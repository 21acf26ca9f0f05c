"""``7scenes``: Microsoft's 7-Scenes, one sequence per folder (Shotton et al., CVPR 2013).

``frame-NNNNNN.color.png``, ``.depth.png`` (mm, 65535 = none), ``.pose.txt`` (4x4); 30 Hz.
The files don't state the camera: the published default serves, or a ``camera.json`` next to them.
"""

from __future__ import annotations

from pathlib import Path

from vos_ros.datasets.cameras import read_camera
from vos_ros.datasets.interface import DataSet, FrameFiles, Selection, VideoSequence
from vos_ros.datasets.registry import register
from vos_ros.datasets.trajectories import read_pose_matrix
from vos_ros.messages.stamps import NS_PER_S
from vos_ros.types import Intrinsics

_CAMERA = Intrinsics(585.0, 585.0, 320.0, 240.0, 640, 480)
_DEPTH_SCALE = 1000.0
_RATE_HZ = 30


def matches(root: Path) -> bool:
    """Tell whether the folder has colour images of this name."""
    return any(root.glob("frame-*.color.png"))


def sequences(root: Path, selection: Selection) -> list[VideoSequence]:
    """Return the one sequence of the folder."""
    camera = root / "camera.json"
    intrinsics, scale = read_camera(camera) if camera.is_file() else (_CAMERA, _DEPTH_SCALE)
    frames = []
    for color in sorted(root.glob("frame-*.color.png")):
        name = color.name.removesuffix(".color.png")
        number = int(name.removeprefix("frame-"))
        depth, pose = root / f"{name}.depth.png", root / f"{name}.pose.txt"
        frames.append(
            FrameFiles(
                name=name,
                number=number,
                image=color,
                depth=depth if depth.is_file() else None,
                stamp_ns=number * NS_PER_S // _RATE_HZ,
                T_map_camera=read_pose_matrix(pose) if pose.is_file() else None,
            )
        )
    return [
        VideoSequence(
            name=root.resolve().name,
            dataset="7scenes",
            frames=tuple(frames),
            intrinsics=intrinsics,
            depth_scale=scale,
        )
    ]


register(
    DataSet(
        name="7scenes",
        title="7-Scenes",
        layout="frame-*.color.png",
        matches=matches,
        sequences=sequences,
        has_camera=True,
        has_masks=False,
    )
)
