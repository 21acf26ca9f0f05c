"""A map made of annotated masks: surfaces, ids and classes, and nothing that wasn't measured."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from vos_ros.geometry import se3
from vos_ros.reference_mapper.given_masks import map_from_masks
from vos_ros.types import Frame, Intrinsics

CAMERA = Intrinsics(200.0, 200.0, 79.5, 59.5, 160, 120)


def views(
    make_frame: Callable[..., Frame], count: int = 6, noise_m: float = 0.002
) -> Iterator[tuple[Frame, np.ndarray]]:
    """A wall 2 m away with object 4 left and 9 right; the camera moves along it."""
    for k in range(count):
        rng = np.random.default_rng(k)
        T = se3.from_rt(np.eye(3), np.array([1.0 + 0.05 * k, 2.0, 3.0]))
        depth = (2.0 + rng.normal(0, noise_m, (120, 160))).astype(np.float32)
        mask, columns = (
            np.zeros((120, 160), np.uint8),
            (np.arange(160) - CAMERA.cx) / 100.0 + 0.05 * k,
        )
        mask[30:90, (columns > -0.6) & (columns < -0.2)] = 4
        mask[30:90, (columns > 0.3) & (columns < 0.5)] = 9
        depth[mask == 9] = 0.0 if k else 2.0
        yield (
            make_frame(
                k, 120, 160, depth=depth, intrinsics=CAMERA, T_map_camera=T, stamp_ns=k * 10**8
            ),
            mask,
        )


def test_objects_lie_where_they_were_measured(make_frame: Callable[..., Frame]) -> None:
    objects = {o.id: o for o in map_from_masks(views(make_frame), {4: 2, 9: 3, 11: 5})}
    assert set(objects) == {4, 9} and objects[4].class_id == 2 and objects[9].class_id == 3, (
        "nothing was seen of 11"
    )
    points = objects[4].points
    assert np.abs(points[:, 2] - 5.0).max() < 0.02 and len(points) > 500
    assert np.allclose(points.min(0)[0], 0.4, atol=0.05) and np.allclose(
        points.max(0)[0], 0.8, atol=0.05
    )
    assert np.allclose(objects[4].size, points.max(0) - points.min(0)), (
        "the box is that of the points"
    )


def test_far_noise_is_averaged_in_larger_cubes(make_frame: Callable[..., Frame]) -> None:
    near, far = (map_from_masks(views(make_frame, noise_m=s), {4: 1})[0] for s in (0.001, 0.03))
    assert near.point_radius < far.point_radius
    assert np.std(far.points[:, 2]) < 0.03


def test_frames_without_depth_or_pose_add_nothing(make_frame: Callable[..., Frame]) -> None:
    import dataclasses

    blind = [
        (dataclasses.replace(f, **({"depth": None} if k % 2 else {"T_map_camera": None})), m)
        for k, (f, m) in enumerate(views(make_frame))
    ]
    assert map_from_masks(blind, {4: 1, 9: 1}) == ()
