"""align(): recovers the pose where geometry tells it, else keeps the prior; its certainty."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vos_ros.evaluation.davis_metrics import region_similarity
from vos_ros.geometry import se3
from vos_ros.mapping.align import align
from vos_ros.mapping.render import render
from vos_ros.types import Intrinsics


def prior(sigma_m, sigma_deg):
    return np.diag([sigma_m**2] * 3 + [np.deg2rad(sigma_deg) ** 2] * 3)


def error(T, truth):
    delta = se3.difference(T, truth)
    return np.linalg.norm(delta[:3]), np.rad2deg(np.linalg.norm(delta[3:]))


@pytest.mark.parametrize(("sigma_m", "sigma_deg"), [(0.005, 0.2), (0.03, 1.2), (0.06, 2.9)])
def test_a_wrong_pose_comes_back(camera, table_top, sigma_m, sigma_deg):
    cov = prior(sigma_m, sigma_deg)
    rng = np.random.default_rng(0)
    errors, chi2 = [], []
    for seed in range(12):
        wrong = se3.perturb(table_top.T_map_camera, rng.multivariate_normal(np.zeros(6), cov))
        a = align(table_top.objects, wrong, cov, table_top.depth(seed=seed), camera)
        assert a.accepted, a.reason
        assert a.residual_after_m < a.residual_before_m + 1e-3 and a.inliers > 0.75
        errors.append(error(a.T_map_camera, table_top.T_map_camera))
        delta = se3.difference(a.T_map_camera, table_top.T_map_camera)
        chi2.append(delta @ np.linalg.solve(a.pose_cov, delta))
    moved, turned = np.array(errors).T
    assert np.median(moved) < 0.008 and moved.max() < 0.02
    assert np.median(turned) < 0.3 and turned.max() < 0.8
    assert np.mean(chi2) < 12.0, (
        "the covariance covers the errors (6 were expected of the pose's 6 dimensions)"
    )


def test_what_a_bare_plane_cannot_tell_stays_with_the_prior(camera, make_box, cut_boxes):
    floor = ([-3.0, -3.0, 1.5], [3.0, 3.0, 1.5])  # faces the camera
    cov = prior(0.03, 1.0)
    wrong = se3.perturb(np.eye(4), np.array([0.02, -0.02, 0.03, 0.01, -0.01, 0.01]))
    a = align(
        [make_box(1, *floor, 0.02)], wrong, cov, cut_boxes([floor], np.eye(4), camera), camera
    )
    assert a.accepted, a.reason
    delta = se3.difference(a.T_map_camera, np.eye(4))
    assert abs(delta[2]) < 0.003 and np.abs(delta[3:5]).max() < 0.003, "height and tilt are seen"
    np.testing.assert_allclose(delta[[0, 1, 5]], [0.02, -0.02, 0.01], atol=0.006)
    sigma = np.sqrt(np.diag(a.pose_cov))
    assert sigma[2] < 0.01 and sigma[3:5].max() < 0.006
    np.testing.assert_allclose(sigma[[0, 1, 5]], [0.03, 0.03, np.deg2rad(1.0)], rtol=0.1)


def test_the_covariance_never_exceeds_the_prior_by_much_nor_vanishes(camera, table_top):
    cov = prior(0.02, 1.0)
    a = align(table_top.objects, table_top.T_map_camera, cov, table_top.depth(), camera)
    values = np.linalg.eigvalsh(a.pose_cov)
    assert values[0] > 1e-9 and (np.diag(a.pose_cov) < 1.2 * np.diag(cov)).all()
    np.testing.assert_allclose(a.pose_cov, a.pose_cov.T)


def test_the_same_input_gives_the_same_pose(camera, table_top):
    cov = prior(0.06, 2.9)
    wrong = se3.perturb(table_top.T_map_camera, np.array([0.05, -0.06, 0.03, 0.03, -0.02, 0.04]))
    a, b = (align(table_top.objects, wrong, cov, table_top.depth(), camera) for _ in range(2))
    np.testing.assert_array_equal(a.T_map_camera, b.T_map_camera)
    np.testing.assert_array_equal(a.pose_cov, b.pose_cov)


def test_holes_noise_and_a_stranger_in_front_do_not_break_it(camera, table_top):
    rng = np.random.default_rng(0)
    depth = table_top.depth()
    depth[rng.random(depth.shape) < 0.3] = np.nan
    depth[60:180, 200:260] = 0.5  # somebody stands there
    cov = prior(0.03, 1.2)
    wrong = se3.perturb(table_top.T_map_camera, np.array([0.03, -0.03, 0.02, 0.015, -0.02, 0.02]))
    a = align(table_top.objects, wrong, cov, depth, camera)
    assert a.accepted, a.reason
    moved, turned = error(a.T_map_camera, table_top.T_map_camera)
    assert moved < 0.02 and turned < 0.8


def test_where_there_is_nothing_to_align_with_the_pose_is_the_one_given(
    camera, table_top, make_box
):
    T, cov = table_top.T_map_camera, prior(0.03, 1.0)
    for objects, depth, why in (
        ((), table_top.depth(), "0 map points in view"),
        ((make_box(1, [0, 0, 50], [1, 1, 51], 0.1),), table_top.depth(), "map points in view"),
        (table_top.objects, np.zeros((240, 320), np.float32), "fall on measured depth"),
        (table_top.objects, np.full((240, 320), np.nan, np.float32), "fall on measured depth"),
    ):
        a = align(objects, T, cov, depth, camera)
        assert not a.accepted and why in a.reason
        assert a.T_map_camera is T and a.pose_cov is cov


def test_a_map_of_another_place_changes_nothing_much(camera, table_top):
    """Depth that fits no pose within the prior must not drag the camera away."""
    depth = np.random.default_rng(0).uniform(0.5, 4.0, (240, 320)).astype(np.float32)
    cov = prior(0.03, 1.0)
    a = align(table_top.objects, table_top.T_map_camera, cov, depth, camera)
    if a.accepted:
        delta = se3.difference(a.T_map_camera, table_top.T_map_camera)
        assert np.sqrt(delta @ np.linalg.solve(cov, delta)) < 5.0
    else:
        assert a.T_map_camera is table_top.T_map_camera and a.reason


def test_a_pose_that_is_exact_stays(camera, table_top):
    for cov in (np.zeros((6, 6)), prior(1e-5, 1e-4)):
        a = align(table_top.objects, table_top.T_map_camera, cov, table_top.depth(), camera)
        moved, turned = error(a.T_map_camera, table_top.T_map_camera)
        assert moved < 0.001 and turned < 0.05


def test_nan_points_and_tiny_images_are_no_error(camera, table_top, make_box):
    dirty = [
        replace(o, points=np.concatenate([o.points, np.full((9, 3), np.nan, np.float32)]))
        for o in table_top.objects
    ]
    wrong = se3.perturb(table_top.T_map_camera, np.array([0.01, 0.02, -0.01, 0.01, -0.01, 0.01]))
    a = align(dirty, wrong, prior(0.02, 1.0), table_top.depth(), camera)
    assert a.accepted and np.isfinite(a.T_map_camera).all()
    tiny = replace(camera, fx=2.0, fy=2.0, cx=1.0, cy=1.0, width=3, height=2)
    assert not align(
        table_top.objects,
        table_top.T_map_camera,
        prior(0.02, 1.0),
        np.ones((2, 3), np.float32),
        tiny,
    ).accepted


def test_input_that_makes_no_sense_is_refused(camera, table_top):
    T, depth = table_top.T_map_camera, table_top.depth()
    with pytest.raises(ValueError, match="depth is 160x120, the intrinsics are of 320x240"):
        align(table_top.objects, T, prior(0.1, 1.0), depth[::2, ::2], camera)
    for cov in (np.eye(3), np.full((6, 6), np.nan), -np.eye(6)):
        with pytest.raises(ValueError, match="pose covariance"):
            align(table_top.objects, T, cov, depth, camera)


def test_a_correction_of_more_than_five_standard_deviations_is_refused(camera, table_top):
    wrong = se3.perturb(table_top.T_map_camera, np.array([0.0, 0.0, 0.03, 0.0, 0.0, 0.0]))
    surer, less_sure = prior(0.002, 0.1), prior(0.01, 0.5)
    refused = align(table_top.objects, wrong, surer, table_top.depth(), camera)
    assert not refused.accepted and "standard deviations" in refused.reason
    assert refused.T_map_camera is wrong and refused.pose_cov is surer
    assert refused.residual_after_m < refused.residual_before_m and refused.inliers > 0.82
    assert align(table_top.objects, wrong, less_sure, table_top.depth(), camera).accepted


def seen_through(table_top, share):
    """The table's depth, with the left ``share`` of the image far behind the map."""
    depth = table_top.depth()
    depth[:, : round(share * depth.shape[1])] = 6.0
    return depth


def test_a_pose_in_doubt_has_a_part_of_the_prior_in_its_covariance(camera, table_top):
    cov = prior(0.03, 1.0)
    T = table_top.T_map_camera
    sure = align(table_top.objects, T, cov, table_top.depth(), camera)
    assert sure.inliers > 0.82
    assert (np.diag(sure.pose_cov) < 0.12 * np.diag(cov)).all()
    for share in (0.27, 0.32):
        a = align(table_top.objects, T, cov, seen_through(table_top, share), camera)
        assert a.accepted and 0.6 < a.inliers < 0.8, a.reason
        doubt = 0.5 * (0.82 - a.inliers) / (0.82 - 0.6)
        of_prior = np.diag(a.pose_cov) / np.diag(cov)
        assert (of_prior > doubt).all() and (of_prior < doubt + 0.15).all()


def test_a_pose_that_most_of_the_depth_contradicts_is_refused(camera, table_top):
    cov, T = prior(0.01, 0.3), table_top.T_map_camera
    a = align(table_top.objects, T, cov, seen_through(table_top, 0.55), camera)
    assert not a.accepted and "of the map points agree with the depth, wanted 60%" in a.reason
    assert a.T_map_camera is T and a.pose_cov is cov and 0.3 < a.inliers < 0.6


def test_what_stands_in_front_counts_half_in_the_inliers(camera, table_top):
    depth = table_top.depth()
    share = 0.4
    known = depth > 0
    front = np.zeros(depth.shape, bool)
    front[:, : round(share * depth.shape[1])] = True
    hidden = (known & front).sum() / known.sum()
    depth[front & known] = 0.3
    a = align(table_top.objects, table_top.T_map_camera, prior(0.01, 0.3), depth, camera)
    assert a.accepted, a.reason
    assert a.inliers == pytest.approx((1 - hidden) / (1 - 0.5 * hidden), abs=0.05)


def test_residuals_are_clipped_so_that_a_hole_does_not_decide(camera, table_top):
    depth = seen_through(table_top, 0.25)
    a = align(table_top.objects, table_top.T_map_camera, prior(0.005, 0.2), depth, camera)
    behind = (depth == 6.0)[table_top.depth() > 0].mean()
    assert a.residual_before_m == pytest.approx(0.2 * behind, abs=0.02)


def test_map_points_that_the_map_itself_hides_are_not_compared(camera, make_box, cut_boxes):
    near, far = ([-0.6, -0.5, 1.0], [0.6, 0.5, 1.0]), ([-0.6, -0.5, 2.0], [0.6, 0.5, 2.0])
    objects = [make_box(1, *near, 0.008), make_box(2, *far, 0.012)]
    depth = cut_boxes([near, far], np.eye(4), camera)
    a = align(objects, np.eye(4), prior(0.005, 0.2), depth, camera)
    assert a.accepted and a.inliers > 0.97


@pytest.mark.parametrize("axis", range(6))
@pytest.mark.parametrize("sigmas", [1.5, -2.5])
def test_every_direction_of_a_pose_is_corrected(camera, table_top, axis, sigmas):
    cov = prior(0.02, 1.0)
    delta = np.zeros(6)
    delta[axis] = sigmas * np.sqrt(cov[axis, axis])
    wrong = se3.perturb(table_top.T_map_camera, delta)
    a = align(table_top.objects, wrong, cov, table_top.depth(), camera)
    assert a.accepted, a.reason
    rest = se3.difference(a.T_map_camera, table_top.T_map_camera)
    assert np.abs(rest[:3]).max() < 0.01 and np.abs(rest[3:]).max() < 0.008


def test_a_map_far_from_its_origin_is_aligned_as_well(camera, table_top):
    shift = np.array([4096.0, -2048.0, 128.0])
    objects = [replace(o, points=o.points + shift.astype(np.float32)) for o in table_top.objects]
    truth = se3.from_rt(table_top.T_map_camera[:3, :3], table_top.T_map_camera[:3, 3] + shift)
    wrong = se3.perturb(truth, np.array([0.02, -0.01, 0.02, 0.01, -0.01, 0.01]))
    a = align(objects, wrong, prior(0.02, 1.0), table_top.depth(), camera)
    moved, turned = error(a.T_map_camera, truth)
    assert a.accepted and moved < 0.01 and turned < 0.4


def test_a_camera_with_different_focal_lengths_is_aligned(table_top, cut_boxes):
    odd = Intrinsics(260.0, 340.0, 150.0, 130.0, 320, 240)
    depth = cut_boxes(table_top.boxes, table_top.T_map_camera, odd)
    wrong = se3.perturb(table_top.T_map_camera, np.array([0.02, -0.01, 0.02, 0.01, -0.01, 0.01]))
    a = align(table_top.objects, wrong, prior(0.02, 1.0), depth, odd)
    moved, turned = error(a.T_map_camera, table_top.T_map_camera)
    assert a.accepted and moved < 0.015 and turned < 0.5


def test_an_object_of_many_points_leaves_room_for_the_others(camera, make_box, cut_boxes):
    """Only the box shows where the camera is along the wall, which has many more points."""
    wall = ([-1.0, -0.8, 1.6], [1.0, 0.8, 1.6])
    box = ([0.3, 0.25, 1.0], [0.55, 0.45, 1.6])
    objects = [make_box(1, *wall, 0.004), make_box(2, *box, 0.012)]
    assert len(objects[0].points) > 20 * len(objects[1].points)
    depth = cut_boxes([wall, box], np.eye(4), camera)
    wrong = se3.perturb(np.eye(4), np.array([0.015, -0.015, 0.0, 0.0, 0.0, 0.0]))
    a = align(objects, wrong, prior(0.02, 0.2), depth, camera)
    assert a.accepted
    assert np.abs(se3.difference(a.T_map_camera, np.eye(4))[:2]).max() < 0.0085
    assert np.sqrt(np.diag(a.pose_cov))[:2].max() < 0.009


def test_the_real_kitchen_withstands_ten_centimetres_and_five_degrees(kitchen):
    rng = np.random.default_rng(3)
    cov = prior(0.1 / np.sqrt(3), 5.0 / np.sqrt(3))
    before, after, errors = [], [], []
    for i in range(0, len(kitchen.rows), 37):
        depth = kitchen.depth(i)
        wrong = se3.perturb(kitchen.poses[i], rng.multivariate_normal(np.zeros(6), cov))
        a = align(kitchen.objects, wrong, cov, depth, kitchen.camera)
        errors.append(error(a.T_map_camera, kitchen.poses[i]))
        for pose, scores in ((wrong, before), (a.T_map_camera, after)):
            seen = {
                p.object_id: p.mask
                for p in render(kitchen.objects, pose, kitchen.camera, depth=depth)
            }
            scores += [
                region_similarity(seen.get(k, np.zeros_like(m)), m, void=~counted)
                for k, m, counted in kitchen.truth(i)
            ]
    moved, turned = np.median(errors, axis=0)
    assert moved < 0.02 and turned < 1.0
    assert np.mean(before) < 0.4 and np.mean(after) > 0.8
