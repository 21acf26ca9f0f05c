"""The pinhole camera: derivatives against differences, covariance against Monte Carlo."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vos_ros.geometry import camera, se3
from vos_ros.types import Intrinsics

CAMERA = Intrinsics(520.0, 515.0, 318.0, 242.0, 640, 480)
PLUMB_BOB = (-0.28, 0.07, 0.0002, 0.0001, 0.0)
RATIONAL = (0.5, -2.5, 0.0006, -0.0003, 1.4, 0.4, -2.3, 1.36)
FISHEYE = (-0.01, 0.03, -0.03, 0.01)


@given(st.floats(-100, 800), st.floats(-100, 600), st.floats(0.1, 50.0))
def test_unproject_is_the_inverse_of_project(x, y, z):
    point = camera.unproject(np.array([[x, y]]), np.array([z]), CAMERA)
    np.testing.assert_allclose(camera.project(point, CAMERA), [[x, y]], atol=1e-9)
    assert point[0, 2] == z


def test_nothing_behind_the_camera_has_a_pixel():
    points = np.array([[0.0, 0.0, -1.0], [0.1, 0.1, 0.0], [np.nan, 0.0, 1.0], [0.0, 0.0, 1.0]])
    pixels = camera.project(points, CAMERA)
    assert np.isnan(pixels[:3]).any(axis=1).all()
    np.testing.assert_allclose(pixels[3], [CAMERA.cx, CAMERA.cy])
    assert np.isnan(camera.project_jacobian(points, CAMERA)[:2]).all()


def test_the_jacobian_is_the_derivative():
    rng = np.random.default_rng(0)
    points = rng.uniform([-1, -1, 0.5], [1, 1, 4], (20, 3))
    J = camera.project_jacobian(points, CAMERA)
    for axis in range(3):
        step = 1e-6 * np.eye(3)[axis]
        slope = (
            camera.project(points + step, CAMERA) - camera.project(points - step, CAMERA)
        ) / 2e-6
        np.testing.assert_allclose(J[:, :, axis], slope, rtol=1e-5, atol=1e-4)


def test_pixel_covariance_agrees_with_monte_carlo():
    rng = np.random.default_rng(0)
    T = se3.from_quaternion(np.array([10.0, -4.0, 1.0]), np.array([0.3, -0.5, 0.2, 0.7]))
    points = se3.transform(T, rng.uniform([-0.5, -0.4, 1.0], [0.5, 0.4, 3.0], (6, 3)))
    root = rng.normal(size=(6, 6)) * np.array([0.01] * 3 + [0.008] * 3)[:, None]
    cov = root @ root.T
    poses = se3.perturb(T, rng.multivariate_normal(np.zeros(6), cov, 20000))
    seen = [
        camera.project(np.einsum("ki,kij->kj", p - poses[:, :3, 3], poses[:, :3, :3]), CAMERA)
        for p in points
    ]
    got = camera.pixel_covariance(points, T, CAMERA, cov)
    for sample, predicted in zip(seen, got, strict=True):
        measured = np.cov(sample.T)
        assert np.abs(measured - predicted).max() < 0.05 * np.trace(measured)


def test_pixel_covariance_of_a_turn_in_place_is_the_focal_length_times_the_angle():
    cov = np.diag(
        [0.0, 0.0, 0.0, 0.0, 1e-4, 0.0]
    )  # about the camera's vertical axis, which is y here
    got = camera.pixel_covariance(
        np.array([[0.0, 0.0, 2.0], [0.0, 0.0, -2.0]]), np.eye(4), CAMERA, cov
    )
    np.testing.assert_allclose(got[0], [[CAMERA.fx**2 * 1e-4, 0.0], [0.0, 0.0]], atol=1e-9)
    assert np.isnan(got[1]).all()


def test_cropped_intrinsics_see_the_same_rays():
    crop = camera.crop_intrinsics(CAMERA, (100, 50, 300, 200))
    point = np.array([[0.3, -0.2, 1.7]])
    np.testing.assert_allclose(
        camera.project(point, CAMERA) - [100, 50], camera.project(point, crop)
    )
    assert (crop.width, crop.height) == (200, 150)


def test_calibration_of_a_binned_region():
    k = [500.0, 0.0, 320.0, 0.0, 500.0, 240.0, 0.0, 0.0, 1.0]
    got = camera.calibrated(
        k, 640, 480, "plumb_bob", [0.0] * 5, binning=(2, 2), roi=(100, 40, 400, 300)
    )
    assert (got.fx, got.width, got.height, got.distortion_model) == (250.0, 200, 150, "")
    assert got.cx == pytest.approx((320.0 - 100 + 0.5) / 2 - 0.5)
    assert (
        camera.calibrated(k, 640, 480, "plumb_bob", PLUMB_BOB, binning=(0, 0)).distortion
        == PLUMB_BOB
    )
    assert (
        camera.calibrated(k, 640, 480, "equidistant", [0.0] * 4).distortion_model == "equidistant"
    )


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (([0.0] * 9, 640, 480), "no calibration"),
        (([np.nan] * 9, 640, 480), "9 finite numbers"),
        (([500.0, 0, 320], 640, 480), "9 finite numbers"),
        (([500.0, 9.0, 320, 0, 500, 240, 0, 0, 1], 640, 480), "skew"),
        (([500.0, 0, 320, 0, 500, 240, 0, 0, 1], 0, 480), "image size"),
        (
            ([500.0, 0, 320, 0, 500, 240, 0, 0, 1], 640, 480, "kannala", [0.1]),
            "'kannala' is unknown: wanted one of plumb_bob, rat",
        ),
        (
            ([500.0, 0, 320, 0, 500, 240, 0, 0, 1], 640, 480, "plumb_bob", [0.1] * 3),
            "got 3 coefficients, wanted 4 or 5",
        ),
        (
            ([500.0, 0, 320, 0, 500, 240, 0, 0, 1], 640, 480, "plumb_bob", [np.nan] * 5),
            "not all finite",
        ),
    ],
)
def test_a_calibration_that_is_none_says_why(fields, message):
    with pytest.raises(ValueError, match=message):
        camera.calibrated(*fields)


def distort(intrinsics: Intrinsics, rays: np.ndarray) -> np.ndarray:
    """Pixels of rays (slopes) by the models' own equations, not by OpenCV."""
    x, y = rays[:, 0], rays[:, 1]
    r2 = x * x + y * y
    if intrinsics.distortion_model == "equidistant":
        theta = np.arctan(np.sqrt(r2))
        bent = theta * (
            1 + sum(k * theta ** (2 * i) for i, k in enumerate(intrinsics.distortion, start=1))
        )
        scale = bent / np.maximum(np.sqrt(r2), 1e-12)
        x, y = x * scale, y * scale
    else:
        k1, k2, p1, p2, k3, k4, k5, k6 = (*intrinsics.distortion, 0.0, 0.0, 0.0, 0.0)[:8]
        radial = (1 + k1 * r2 + k2 * r2**2 + k3 * r2**3) / (1 + k4 * r2 + k5 * r2**2 + k6 * r2**3)
        x, y = (
            x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
            y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
        )
    return np.stack([x * intrinsics.fx + intrinsics.cx, y * intrinsics.fy + intrinsics.cy], axis=1)


@pytest.mark.parametrize(
    ("model", "D"),
    [
        ("plumb_bob", PLUMB_BOB),
        ("plumb_bob", PLUMB_BOB[:4]),
        ("rational_polynomial", RATIONAL),
        ("equidistant", FISHEYE),
        ("equidistant", ()),
    ],
)
def test_rectified_images_obey_the_pinhole(model, D):
    source = Intrinsics(420.0, 425.0, 322.0, 236.0, 640, 480, model, D)
    rectifier = camera.Rectifier(source)
    new = rectifier.intrinsics
    assert (new.distortion_model, new.distortion, new.width, new.height) == ("", (), 640, 480)
    assert new.fx / new.fy == pytest.approx(source.fx / source.fy)
    # The colour of each pixel is its place: a rectified pixel must hold where its ray came from.
    y, x = np.mgrid[0:480, 0:640]
    image = np.stack([x // 4, y // 4, np.full_like(x, 200)], axis=2).astype(np.uint8)
    got = rectifier.image(image)
    assert got[..., 2].min() == 200, "every pixel has a source"
    at = np.stack(np.meshgrid(np.arange(5, 635, 37), np.arange(5, 475, 29)), axis=-1).reshape(-1, 2)
    rays = (at - [new.cx, new.cy]) / [new.fx, new.fy]
    came_from = distort(source, rays)
    np.testing.assert_allclose(got[at[:, 1], at[:, 0], :2], came_from / 4 - 0.375, atol=1.0)
    depth = (x + 1000.0 * y).astype(np.float32)
    values = rectifier.depth(depth)[at[:, 1], at[:, 0]]
    assert set(values.tolist()) <= set(depth.ravel().tolist()), (
        "no depth is made up between two pixels"
    )
    np.testing.assert_allclose(
        np.stack([values % 1000, values // 1000], axis=1), came_from, atol=0.6
    )


def test_an_undistorted_camera_copies_nothing():
    rectifier = camera.Rectifier(
        Intrinsics(500.0, 500.0, 320.0, 240.0, 640, 480, "plumb_bob", (0.0,) * 5)
    )
    image, depth = np.zeros((480, 640, 3), np.uint8), np.zeros((480, 640), np.float32)
    assert rectifier.image(image) is image and rectifier.depth(depth) is depth
    assert rectifier.intrinsics.distortion_model == ""


def test_the_rectifier_refuses_what_it_cannot_do():
    with pytest.raises(
        ValueError,
        match="'thin_prism' is unknown: wanted one of plumb_bob, rational_polynomial, equidistant",
    ):
        camera.Rectifier(Intrinsics(500.0, 500.0, 320.0, 240.0, 640, 480, "thin_prism", (0.1,)))
    with pytest.raises(ValueError, match="cannot be inverted"):
        camera.Rectifier(
            Intrinsics(
                400.0, 400.0, 320.0, 240.0, 640, 480, "plumb_bob", (-0.8, 0.0, 0.0, 0.0, 0.0)
            )
        )
    rectifier = camera.Rectifier(
        Intrinsics(420.0, 425.0, 322.0, 236.0, 640, 480, "plumb_bob", PLUMB_BOB)
    )
    with pytest.raises(ValueError, match="320x240 px, its camera_info is for 640x480"):
        rectifier.image(np.zeros((240, 320, 3), np.uint8))


def test_the_maps_are_made_once(monkeypatch):
    rectifier = camera.Rectifier(
        Intrinsics(420.0, 425.0, 322.0, 236.0, 640, 480, "plumb_bob", PLUMB_BOB)
    )
    monkeypatch.setattr(cv2, "initUndistortRectifyMap", None)
    image = np.random.default_rng(0).integers(0, 255, (480, 640, 3), np.uint8)
    np.testing.assert_array_equal(rectifier.image(image), rectifier.image(image))


def test_pixels_hit_are_those_of_points_on_the_image_in_front_of_the_near_plane():
    near_m, z = 0.5, 2.0
    x = np.array([-0.4, 319.4, 0.0, 640.0, 639.4, 100.0, 100.0])  # px: the last pixel is 639
    y = np.array([10.6, 479.4, 479.6, 100.0, 20.0, -0.6, 100.0])
    depth = np.array([z, z, z, z, z, z, near_m])
    points = camera.unproject(np.stack([x, y], 1), depth, CAMERA)
    rows, columns, lines = camera.pixels_hit(points, CAMERA, near_m)
    assert rows.tolist() == [0, 1, 4]
    assert columns.tolist() == [0, 319, 639] and lines.tolist() == [11, 479, 20]
    behind = -points[:2]
    assert all(len(a) == 0 for a in camera.pixels_hit(behind, CAMERA, near_m))


def test_pixel_coordinates_keep_single_precision():
    one = np.ones(1, np.float32)
    u, v = camera.pixel_coordinates(0.5 * one, one, CAMERA)
    assert u.dtype == v.dtype == np.float32
    assert (u[0], v[0]) == pytest.approx((0.5 * CAMERA.fx + CAMERA.cx, CAMERA.fy + CAMERA.cy))
