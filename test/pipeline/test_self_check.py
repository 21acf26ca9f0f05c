"""SelfCheck: what contradicts map, poses and depth together is named; what is right is not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vos_ros.config import Config
from vos_ros.geometry import se3
from vos_ros.mapping.object_map import ObjectMap
from vos_ros.pipeline.map_view import predict_view
from vos_ros.pipeline.self_check import R_BODY_OPTICAL, SelfCheck
from vos_ros.types import Frame, Intrinsics, MapObject, MapUpdate, SelfCheckResult, Verdict

CAMERA = Intrinsics(120.0, 120.0, 79.5, 59.5, 160, 120)
PLACES = {1: (10, 20, 1.0), 2: (60, 15, 1.4), 3: (110, 25, 2.2), 4: (25, 70, 1.8), 5: (95, 75, 1.2)}
"""Left upper corner (px) and depth (m) of each object, 30 px wide and high; the wall is at 4 m."""
HOME = se3.perturb(np.eye(4), np.array([0.6, -0.4, 1.2, 0.3, -0.5, 0.9]))
Change = Callable[[Frame], Frame]


def depth_of(places: dict[int, tuple[int, int, float]] = PLACES) -> np.ndarray:
    depth = np.full((120, 160), 4.0, np.float32)
    for x, y, z in places.values():
        depth[y : y + 30, x : x + 30] = z
    noise = np.random.default_rng(0).normal(1, 0.002, depth.shape)
    return (depth * noise).astype(np.float32)


def objects(scale: float = 1.0, T: np.ndarray = HOME) -> tuple[MapObject, ...]:
    out = []
    for i, (x, y, z) in PLACES.items():
        u, v = np.meshgrid(np.arange(x, x + 30), np.arange(y, y + 30))
        rays = np.stack(
            [(u - CAMERA.cx) / CAMERA.fx, (v - CAMERA.cy) / CAMERA.fy, np.ones_like(u)], -1
        )
        points = (rays.reshape(-1, 3) * z) @ T[:3, :3].T + T[:3, 3]
        T_object = np.eye(4)
        T_object[:3, 3] = scale * points.mean(0)
        points = (scale * points).astype(np.float32)
        out.append(MapObject(i, 1, T_object, scale * np.full(3, 0.3), points, scale * 0.01))
    return tuple(out)


def frame(index: int) -> Frame:
    rgb = np.random.default_rng(index % 3).integers(0, 255, (120, 160, 3), np.uint8)
    return Frame(index, 10**9 + index * 10**8, rgb, depth_of(), CAMERA, HOME.copy())


def run(
    change: Change = lambda f: f,
    things: tuple[MapObject, ...] | None = None,
    frames: int = 20,
    check: SelfCheck | None = None,
    first: int = 0,
    **options: object,
) -> list[SelfCheckResult]:
    """The results of some frames at 10 Hz."""
    known, check = ObjectMap(), check or SelfCheck()
    things = objects() if things is None else things
    assert known.apply(MapUpdate(1, "map", 1, True, things)).reason == ""
    out = []
    for index in range(first, first + frames):
        f = change(frame(index))
        view, _ = predict_view(tuple(known), tuple(known), frozenset(), f, Config())
        out.append(check.check(f, view, known, **options).self_check)  # type: ignore[arg-type]
    return out


def says_nothing(r: SelfCheckResult) -> bool:
    return r.verdict == Verdict.UNDECIDED and not r.findings and r.believes_absence


def scaled_depth(factor: float) -> Change:
    return lambda f: replace(f, depth=f.depth * np.float32(factor))


def posed(make: Callable[[np.ndarray], np.ndarray]) -> Change:
    return lambda f: replace(f, T_map_camera=make(f.T_map_camera))


def test_what_is_right_passes_within_a_second() -> None:
    results = run()
    assert says_nothing(results[0]) and results[9].verdict == Verdict.PASSED
    assert all(not r.findings and r.believes_absence for r in results)


@pytest.mark.parametrize(
    ("factor", "unit"),
    [(10, "0.1 mm"), (1000, "32FC1"), (0.001, "16UC1"), (0.1, "in cm"), (3.3, "3.3 times")],
)
def test_depth_in_another_unit_is_named(factor: float, unit: str) -> None:
    results = run(scaled_depth(factor))
    assert set(results[-1].findings) == {"depth"} and unit in results[-1].findings["depth"]
    assert results[-1].verdict == Verdict.CONTRADICTED
    assert not any(r.believes_absence for r in results), "not before it is found either"
    assert results[11].findings, "after a second"


def test_depth_of_zeros_is_named() -> None:
    results = run(scaled_depth(0))
    assert "holds no measurement" in results[-1].findings["depth"]


def test_an_infrared_image_is_no_depth() -> None:
    def infrared(f: Frame) -> Frame:
        return replace(f, depth=(f.rgb.mean(2) / 50).astype(np.float32))

    assert "does not look like depth" in run(infrared)[-1].findings["depth"]


def test_smooth_infrared_has_the_edges_of_the_image() -> None:
    def infrared(f: Frame) -> Frame:
        y, x = np.mgrid[:120, :160]
        grey = 120 + 60 * np.sin(x / 9) * np.cos(y / 7)
        rgb = np.repeat(grey[..., None], 3, 2).astype(np.uint8)
        return replace(f, rgb=rgb, depth=(rgb[..., 0] / 40).astype(np.float32))

    assert "image of brightness" in run(infrared)[-1].findings["depth"]


def test_inverted_poses_are_named() -> None:
    results = run(posed(np.linalg.inv))
    assert "look inverted" in results[-1].findings["poses"]


def test_poses_of_the_body_are_named() -> None:
    results = run(posed(lambda T: T @ np.linalg.inv(R_BODY_OPTICAL)))
    assert "x forward, z up" in results[-1].findings["poses"]


def test_a_frame_that_tf_knows_is_named() -> None:
    mount = se3.perturb(np.eye(4), np.array([0.3, -0.2, 0.9, 0.4, 1.1, -0.3]))

    def of_the_gripper(f: Frame) -> Frame:
        pose = f.T_map_camera @ np.linalg.inv(mount)
        return replace(f, T_map_camera=pose, T_bodies_camera={"gripper_link": mount})

    results = run(of_the_gripper)
    assert "frame 'gripper_link'" in results[-1].findings["poses"]


def test_a_map_in_millimetres_is_named() -> None:
    results = run(things=objects(scale=1000.0))
    assert "look like millimetres" in results[-1].findings["map"]


def test_a_map_of_another_place_does_not_fit() -> None:
    other = tuple(
        replace(
            o,
            points=(o.points - HOME[:3, 3].astype(np.float32)) * np.float32(k)
            + HOME[:3, 3].astype(np.float32),
        )
        for o, k in zip(objects(), (1.6, 0.7, 1.3, 0.6, 1.9), strict=True)
    )
    results = run(things=other, frames=40)
    assert "another place" in results[-1].findings["map"]


def test_nothing_of_the_map_in_view_since_the_start_is_told() -> None:
    far = tuple(replace(o, points=o.points + np.float32(50)) for o in objects())
    assert "nothing of the map has been in view" in run(things=far)[-1].findings["view"]
    assert "view" in run(lambda f: replace(f, depth=None), far)[-1].findings


def test_looking_away_from_a_map_that_was_in_view_is_nothing_wrong() -> None:
    check = SelfCheck()
    run(check=check)
    away = run(
        posed(lambda T: T @ se3.perturb(np.eye(4), np.array([0, 0, 0, 0, 3.1, 0]))),
        check=check,
        first=20,
    )
    assert all(not r.findings and r.verdict == Verdict.PASSED for r in away)


def test_poses_that_jump_about_are_named() -> None:
    assert "jump about" in run(jumped=True)[-1].findings["poses"]


@pytest.mark.parametrize("gone", [{1, 2, 3, 4, 5}, {1, 2}])
def test_objects_that_go_after_it_has_passed_are_no_contradiction(gone: set[int]) -> None:
    left = {i: p for i, p in PLACES.items() if i not in gone}
    check = SelfCheck()
    run(check=check)
    results = run(lambda f: replace(f, depth=depth_of(left)), check=check, first=20, frames=40)
    assert all(r.verdict == Verdict.PASSED and r.believes_absence for r in results)


def test_two_objects_that_were_never_there_are_just_absent() -> None:
    results = run(lambda f: replace(f, depth=depth_of({})), things=objects()[:2], frames=40)
    assert all(not r.findings and r.believes_absence for r in results)


def test_a_hand_before_the_camera_is_no_contradiction() -> None:
    check = SelfCheck()
    run(check=check)
    hidden = run(
        lambda f: replace(f, depth=np.full((120, 160), 0.3, np.float32)), check=check, first=20
    )
    assert all(not r.findings for r in hidden)


@pytest.mark.parametrize("sigma", [(0.05, 2.0), (0.1, 5.0)])
def test_a_drifting_pose_with_its_covariance_is_no_contradiction(
    sigma: tuple[float, float],
) -> None:
    rng = np.random.default_rng(3)
    cov = np.diag([sigma[0] ** 2] * 3 + [np.deg2rad(sigma[1]) ** 2] * 3)

    def drift(f: Frame) -> Frame:
        T = se3.perturb(f.T_map_camera, rng.multivariate_normal(np.zeros(6), cov))
        return replace(f, T_map_camera=T, pose_cov=cov)

    assert all(not r.findings for r in run(drift, frames=40))


@pytest.mark.parametrize("missing", ["depth", "T_map_camera"])
def test_without_depth_or_pose_nothing_is_claimed(missing: str) -> None:
    results = run(lambda f: replace(f, **{missing: None}), frames=40)
    assert all(says_nothing(r) for r in results)


def test_a_finding_ends_when_the_input_is_right_again() -> None:
    check = SelfCheck()
    assert run(scaled_depth(10), check=check)[-1].findings
    results = run(check=check, first=20, frames=40)
    assert not results[-1].findings and results[-1].verdict == Verdict.PASSED
    assert not results[35].findings


def test_a_new_session_of_the_mapper_is_judged_anew() -> None:
    check = SelfCheck()
    assert run(check=check)[-1].verdict == Verdict.PASSED
    known = ObjectMap()
    assert known.apply(MapUpdate(1, "new", 1, True, objects())).reason == ""
    f = frame(30)
    view, _ = predict_view(tuple(known), tuple(known), frozenset(), f, Config())
    assert check.check(f, view, known).self_check.verdict == Verdict.UNDECIDED


def test_depth_in_another_frame_is_not_registered() -> None:
    results = run(lambda f: replace(f, depth_frame_id="depth_optical"))
    text = results[-1].findings["depth"]
    assert "'depth_optical'" in text and "'camera'" in text and "align" in text


@pytest.mark.parametrize("same", [True, False])
def test_depth_in_another_frame_at_the_same_place_is_registered(same: bool) -> None:
    place = np.eye(4)
    place[0, 3] = 0.0 if same else 0.025
    results = run(
        lambda f: replace(
            f, depth_frame_id="depth_optical", T_bodies_camera={"depth_optical": place}
        )
    )
    assert bool(results[-1].findings) != same


def test_after_it_has_passed_two_wrong_frames_put_it_in_doubt() -> None:
    """Until the contradiction is decided, nothing is absent on the word of the frames between."""
    check = SelfCheck()
    known = objects()
    assert run(check=check)[-1].verdict == Verdict.PASSED
    results = run(scaled_depth(10), known, check=check, first=20, frames=30)
    assert results[0].verdict == Verdict.PASSED and results[0].believes_absence
    assert all(not r.believes_absence and r.verdict != Verdict.PASSED for r in results[1:])
    assert results[-1].verdict == Verdict.CONTRADICTED
    assert run(things=known, check=check, first=50, frames=40)[-1].verdict == Verdict.PASSED


def test_one_wrong_frame_puts_nothing_in_doubt() -> None:
    check = SelfCheck()
    assert run(check=check)[-1].verdict == Verdict.PASSED
    assert run(scaled_depth(10), check=check, first=20, frames=1)[-1].verdict == Verdict.PASSED
    assert run(check=check, first=21, frames=1)[-1].verdict == Verdict.PASSED
    assert run(scaled_depth(10), check=check, first=22, frames=1)[-1].verdict == Verdict.PASSED
