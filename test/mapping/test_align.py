"""align(): recovers the pose where geometry tells it, keeps the prior where it doesn't, and says how sure it is."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vos_ros.evaluation.davis_metrics import region_similarity
from vos_ros.geometry import se3
from vos_ros.mapping.align import align
from vos_ros.mapping.render import render


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
