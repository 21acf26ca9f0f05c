"""PoseRefiner: the pose by what the segmenter follows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.pipeline_values import (
    H,
    W,
    config,
    covariance,
    frame,
    map_object,
    pose,
    rect,
    segmentation,
    track_manager,
)

from vos_ros.pipeline.map_view import MapView, predict_view, render_view
from vos_ros.pipeline.pose_refiner import PoseRefiner
from vos_ros.types import Frame, Segmentation

MASKS = {1: rect(6, 10, 26, 30), 2: rect(36, 16, 56, 36)}
OBJECTS = [map_object(i, mask) for i, mask in MASKS.items()]
TRACKS = track_manager({1: 1, 2: 2})
COV = covariance(0.04, 0.001)
FRAME = frame(pose_cov=COV, depth=np.ones((H, W), np.float32))  # a picture wall at 1 m


def refiner(correction: str = "image", *, uses_image: bool = True, min_px: float = 1.0):
    settings = config(pose__correction=correction, pose__image_correction_min_sigma_px=min_px)
    return PoseRefiner(settings.pose, settings.mapping, uses_image=uses_image)


def predicted(f: Frame, **fields: object) -> MapView:
    view, _ = predict_view(OBJECTS, OBJECTS, frozenset({7}), f, config(pose__correction="off"))
    return replace(view, **fields)  # type: ignore[arg-type]


def in_image(dx: int) -> Segmentation:
    """The objects ``dx`` px to the right of where the map predicts them from the origin."""
    return segmentation({i: np.roll(m, dx, 1) for i, m in MASKS.items()}, boundary_px=1.0)


def refined(r: PoseRefiner, view: MapView, dx: int = 4, tracks=TRACKS) -> MapView:
    return r.refine(FRAME, view, in_image(dx), tracks, OBJECTS, OBJECTS)


@pytest.mark.parametrize("dx", [4, -4])
def test_the_camera_moves_towards_what_the_image_shows(dx: int) -> None:
    """4 px are 4 cm at 1 m; a camera farther left sees the objects farther right."""
    before = predicted(FRAME)
    after = refined(refiner(), before, dx)
    assert after.T_map_camera is not None and after.pose_cov is not None
    assert -0.04 < after.T_map_camera[0, 3] * np.sign(dx) < -0.01
    assert abs(after.T_map_camera[1, 3]) < 0.01
    assert after.pose_cov[0, 0] < COV[0, 0]
    x0 = [v.projections[1].roi[0] for v in (before, after)]
    assert (x0[1] - x0[0]) * np.sign(dx) >= 1, "the view is rendered anew"


def test_what_needs_no_pose_stays() -> None:
    before = predicted(FRAME)
    after = refined(refiner(), before)
    assert after.absent == {7} and after.measured is before.measured is not None
    assert after.liftable is before.liftable and after.lattice is before.lattice
    assert after.priors[1].sigma_px == pytest.approx(after.sigma_px[1])


@pytest.mark.parametrize(
    ("correction", "aligned", "changes"),
    [
        ("image", True, True),
        ("auto", False, True),
        ("auto", True, False),
        ("depth", False, False),
        ("off", False, False),
    ],
)
def test_the_image_corrects_where_it_may(correction: str, aligned: bool, changes: bool) -> None:
    view = predicted(FRAME, aligned=aligned)
    assert (refined(refiner(correction), view) is not view) == changes


def test_a_segmenter_that_does_not_use_the_image_corrects_nothing() -> None:
    view = predicted(FRAME)
    assert refined(refiner(uses_image=False), view) is view


def test_a_pose_that_is_certain_enough_stays() -> None:
    view = predicted(FRAME)
    sigma = max(view.sigma_px.values())
    assert refined(refiner(min_px=sigma), view) is view
    assert refined(refiner(min_px=0.99 * sigma), view) is not view


def test_without_a_pose_there_is_nothing_to_refine() -> None:
    f = frame(T_map_camera=None)
    view = predicted(f)
    assert refiner().refine(f, view, in_image(4), TRACKS, OBJECTS, OBJECTS) is view


def test_tracks_without_a_predicted_object_say_nothing() -> None:
    view = predicted(FRAME)
    assert refined(refiner(), view, tracks=track_manager({1: 0, 2: 9})) is view
    swapped = refined(refiner(), view, tracks=track_manager({1: 1, 2: 9}))
    assert swapped is not view, "one is enough"


def test_half_of_the_followed_objects_must_be_reliable() -> None:
    view = predicted(FRAME)
    limit = {i: 0.5 * p.area_px**0.5 for i, p in view.projections.items()}
    half = replace(view, sigma_px={1: limit[1], 2: 1.01 * limit[2]})
    assert refined(refiner(), half) is not half
    nothing = replace(view, sigma_px={1: 1.01 * limit[1], 2: 1.01 * limit[2]})
    assert refined(refiner(), nothing) is nothing
    three = [*OBJECTS, map_object(3, rect(26, 38, 36, 46))]
    more, _ = predict_view(three, three, frozenset(), FRAME, config(pose__correction="off"))
    followed = segmentation({**MASKS, 3: rect(26, 38, 36, 46)}, boundary_px=1.0)
    tracks = track_manager({1: 1, 2: 2, 3: 3})
    for reliable, changes in ((1, False), (2, True)):
        sigma = {i: 2.0 if i <= reliable else 20.0 for i in (1, 2, 3)}
        view = replace(more, sigma_px=sigma)
        after = refiner().refine(FRAME, view, followed, tracks, three, three)
        assert (after is not view) == changes, f"{reliable} of three"


def test_one_frame_moves_the_camera_less_than_several() -> None:
    """The segmenter was seeded under a pose as uncertain. It counts more, the more poses its places
    rest on, up to where chained errors outweigh them."""
    view, r = predicted(FRAME), refiner()
    moved = []
    for _ in range(4):
        after = refined(r, view)
        assert after.T_map_camera is not None
        moved.append(-after.T_map_camera[0, 3])
    assert moved[0] < moved[1] < moved[2] < moved[3]
    coarse = replace(in_image(4), boundary_px=20.0)  # 4 px / (20 px / 8): no more than two poses
    r, moved = refiner(), []
    for _ in range(4):
        after = r.refine(FRAME, view, coarse, TRACKS, OBJECTS, OBJECTS)
        assert after.T_map_camera is not None
        moved.append(-after.T_map_camera[0, 3])
    assert moved[0] < moved[1] == moved[2] == moved[3]


def test_completed_objects_are_rendered() -> None:
    view = predicted(FRAME)
    completed = [OBJECTS[0], map_object(2, rect(36, 16, 56, 46))]
    after = refiner().refine(FRAME, view, in_image(4), TRACKS, OBJECTS, completed)
    assert after.projections[2].area_px > 1.3 * after.projections[1].area_px


def test_the_view_of_a_pose_is_that_of_render_view() -> None:
    view, f = predicted(FRAME), FRAME
    after = refined(refiner(), view)
    assert after.T_map_camera is not None and after.pose_cov is not None
    again = render_view(OBJECTS, f, after.T_map_camera, after.pose_cov, config().mapping)
    assert np.array_equal(again.projections[1].mask, after.projections[1].mask)
    assert not np.array_equal(after.T_map_camera, pose())


def test_exact_outlines_correct_the_pose() -> None:
    """The ground-truth twin of segmenters has boundary_px 0: its outlines count as one pixel."""
    view = predicted(FRAME)
    results = []
    for boundary_px in (0.0, 1.0):
        s = replace(in_image(4), boundary_px=boundary_px)
        after = refiner().refine(FRAME, view, s, TRACKS, OBJECTS, OBJECTS)
        assert after.T_map_camera is not None and after.T_map_camera[0, 3] < -0.01
        results.append(after.T_map_camera)
    assert np.array_equal(*results)
