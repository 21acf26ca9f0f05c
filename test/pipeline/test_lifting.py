"""lift_instances: the tracks' pixels in the map frame."""

from __future__ import annotations

import numpy as np
import pytest
from support.pipeline_values import (
    CAMERA,
    H,
    W,
    frame,
    instance_masks,
    map_view,
    no_pose,
    pose,
    rect,
)

from vos_ros.config import MappingConfig
from vos_ros.pipeline.lifting import lift_instances
from vos_ros.types import Frame

A, B = rect(4, 4, 24, 24), rect(34, 20, 58, 44)
MASKS = instance_masks({7: A, 3: B}, p=0.75)
CONFIG = MappingConfig(edge_px=0)


def scene() -> Frame:
    return frame(depth=np.where(B, 1.5, np.where(A, 1.0, 2.0)).astype(np.float32))


def test_points_lie_where_the_pose_of_the_view_puts_them() -> None:
    T = pose(0.5, turned_deg=90.0)
    a, b = lift_instances(scene(), map_view(T_map_camera=T), MASKS, CONFIG)
    assert (a.track_id, b.track_id) == (7, 3) and a.score == pytest.approx(0.75)
    x, y = (33.5 + 12 - CAMERA.cx) / 100 * 1.5, (19.5 + 12 - CAMERA.cy) / 100 * 1.5
    assert b.centroid == pytest.approx([1.5 + 0.5, y, -x], abs=0.02)
    assert len(b.points) > 400 and b.cov.shape == (3, 3)


@pytest.mark.parametrize("missing", ["depth", "pose"])
def test_without_depth_or_pose_nothing_is_observed(missing: str) -> None:
    f = frame(depth=None) if missing == "depth" else scene()
    view = no_pose() if missing == "pose" else map_view()
    assert lift_instances(f, view, MASKS, CONFIG) == ()


def test_an_observation_takes_three_points() -> None:
    f, liftable = scene(), np.zeros((H, W), bool)
    liftable[10, 5:8], liftable[30, 40:42] = True, True
    (a,) = lift_instances(f, map_view(liftable=liftable), MASKS, CONFIG)
    assert a.track_id == 7 and len(a.points) == 3
