"""The map changes under the tracks: a loop closure, objects that merge, revisions in results."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from vos_ros.config import Config, from_flat
from vos_ros.geometry import se3
from vos_ros.pipeline import Pipeline
from vos_ros.types import AssociationStatus as S
from vos_ros.types import Frame, FrameResult, Intrinsics, MapObject, MapUpdate

W, H = 128, 96
CAMERA = Intrinsics(100.0, 100.0, 63.5, 47.5, W, H)
BOXES = {1: (12, 36, 36, 60), 2: (52, 36, 76, 60), 3: (92, 36, 116, 60)}
COLORS = {1: (220, 40, 40), 2: (40, 200, 60), 3: (50, 70, 230)}
CLOSURE = se3.perturb(np.eye(4), np.array([0.3, -0.1, 0.05, 0.02, -0.05, 0.35]))
"""What a loop closure does to the map, and to the camera in it."""


def moved(T: np.ndarray, *ids: int) -> tuple[MapObject, ...]:
    """The squares of 24 cm, 1 m before the camera's first place, in a map that was moved."""
    out = []
    for i in ids:
        x0, y0, x1, y1 = BOXES[i]
        u, v = np.meshgrid(np.arange(x0, x1, 0.8), np.arange(y0, y1, 0.8))
        points = np.stack(
            [(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones_like(u)], -1
        ).reshape(-1, 3)
        pose = np.eye(4)
        pose[:3, 3] = points.mean(0)
        out.append(
            MapObject(
                i,
                10 + i,
                T @ pose,
                np.array([0.24, 0.24, 0.02]),
                se3.transform(T, points).astype(np.float32),
                0.006,
            )
        )
    return tuple(out)


def seen(index: int, T_map_camera: np.ndarray) -> Frame:
    rgb = np.random.default_rng(index).integers(110, 130, (H, W, 3), np.uint8)
    depth = np.full((H, W), 2.0, np.float32)
    for i, (x0, y0, x1, y1) in BOXES.items():
        rgb[y0:y1, x0:x1] = COLORS[i]
        depth[y0:y1, x0:x1] = 1.0
    return Frame(index, index * 100_000_000, rgb, depth, CAMERA, T_map_camera)


def config(**changes: object) -> Config:
    return from_flat(
        {
            "segmentation.lwl.model": "plain",
            "segmentation.threads": 1,
            **{k.replace("__", "."): v for k, v in changes.items()},
        }
    )


def objects_of(result: FrameResult) -> dict[int, int]:
    return {a.track_id: a.map_object_id for a in result.associations if a.track_id}


def statuses(results: Sequence[FrameResult]) -> set[S]:
    return {a.status for r in results for a in r.associations}


@pytest.mark.parametrize("correction", ["auto", "off"])
@pytest.mark.parametrize("first", ["map", "pose", "both"])
def test_a_loop_closure_breaks_no_track_whichever_is_known_first(first, correction):
    pipeline = Pipeline(config(pose__correction=correction), session_id="test")
    assert pipeline.update_map(MapUpdate(0, "map", 1, True, moved(np.eye(4), 1, 2, 3))) == ""
    for index in range(8):
        before = pipeline.step(seen(index, np.eye(4)))
    held = objects_of(before)
    assert (
        set(held.values()) == {1, 2, 3}
        and statuses([before]) == {S.MATCHED}
        and before.map_revision == 1
    )

    results = []
    if first == "pose":
        results.append(pipeline.step(seen(8, CLOSURE)))
        assert results[-1].map_revision == 1
    assert pipeline.update_map(MapUpdate(1, "map", 2, False, moved(CLOSURE, 1, 2, 3))) == ""
    if first == "map":
        results.append(pipeline.step(seen(8, np.eye(4))))
    results += [pipeline.step(seen(index, CLOSURE)) for index in range(9, 17)]
    assert all(objects_of(r) == held for r in results), "every track stays with its object"
    assert not statuses(results) & {S.NEW, S.ABSENT, S.LOST, S.MERGE, S.SPLIT}
    assert statuses(results[-1:]) == {S.MATCHED} and results[-1].map_revision == 2
    (one,) = [o for o in results[-1].observations if held[o.track_id] == 2]
    np.testing.assert_allclose(one.centroid, moved(CLOSURE, 2)[0].T_map_object[:3, 3], atol=0.03)


def test_a_gap_leaves_the_map_and_its_tracks_as_they_are():
    pipeline = Pipeline(config(), session_id="test")
    pipeline.update_map(MapUpdate(0, "map", 1, True, moved(np.eye(4), 1, 2)))
    for index in range(6):
        held = objects_of(pipeline.step(seen(index, np.eye(4))))
    assert "revisions 2 to 3 are missing" in pipeline.update_map(
        MapUpdate(1, "map", 4, False, moved(CLOSURE, 1, 2))
    )
    assert pipeline.map.needs_snapshot
    result = pipeline.step(seen(6, np.eye(4)))
    assert (
        objects_of(result) == held
        and result.map_revision == 1
        and statuses([result]) == {S.MATCHED}
    )
    assert (
        pipeline.update_map(MapUpdate(2, "map", 5, True, moved(np.eye(4), 1, 2))) == ""
        and not pipeline.map.needs_snapshot
    )
    result = pipeline.step(seen(7, np.eye(4)))
    assert (
        objects_of(result) == held
        and result.map_revision == 5
        and statuses([result]) == {S.MATCHED}
    )


def test_objects_that_became_one_leave_the_older_track():
    pipeline = Pipeline(config(), session_id="test")
    pipeline.update_map(MapUpdate(0, "map", 1, True, moved(np.eye(4), 1, 2)))
    for index in range(6):
        held = {o: t for t, o in objects_of(pipeline.step(seen(index, np.eye(4)))).items()}
    whole = replace(
        moved(np.eye(4), 1)[0], points=np.concatenate([o.points for o in moved(np.eye(4), 1, 2)])
    )
    assert pipeline.update_map(MapUpdate(1, "map", 2, False, (whole,), merged=((2, 1),))) == ""
    result = pipeline.step(seen(6, np.eye(4)))
    assert objects_of(result) == {held[1]: 1} and result.map_revision == 2
