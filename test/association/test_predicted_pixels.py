from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from support.association import H, W, projection, rect

from vos_ros.association.predicted_pixels import (
    AGREES,
    CORE,
    FREE,
    MASK,
    NEAR,
    PredictedPixels,
    predict_pixels,
)

TOLERANCE_M = 0.05
PLACE = rect(20, 15, 50, 40)


def bit(p: PredictedPixels, which: int) -> np.ndarray:
    """The pixels of the whole image that have a bit."""
    out = np.zeros((H, W), bool)
    x0, y0, x1, y1 = p.roi
    out[y0:y1, x0:x1] = p.codes & which > 0
    return out


def flat(depth_m: float) -> np.ndarray:
    return np.full((H, W), depth_m, np.float32)


def test_with_a_certain_pose_all_outlines_are_the_projection() -> None:
    p = predict_pixels(projection(7, PLACE), 0.4, None, TOLERANCE_M)
    assert p.object_id == 7 and p.roi == (20, 15, 50, 40)
    for which in (MASK, NEAR, CORE):
        assert (bit(p, which) == PLACE).all()
    assert (p.mask_px, p.core_px) == (30 * 25, 30 * 25)
    assert not bit(p, AGREES).any() and not bit(p, FREE).any()
    assert (p.agrees_px, p.free_px) == (0, 0)


@pytest.mark.parametrize(("sigma", "reach"), [(0.6, 1), (3.0, 3), (3.4, 3), (8.0, 8)])
def test_an_uncertain_pose_dilates_and_erodes_the_projection(sigma: float, reach: int) -> None:
    p = predict_pixels(projection(7, PLACE), sigma, None, TOLERANCE_M)
    kernel = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
    assert p.roi == (20 - reach, 15 - reach, 50 + reach, 40 + reach)
    assert (bit(p, MASK) == PLACE).all()
    assert (bit(p, NEAR) == (cv2.dilate(PLACE.astype(np.uint8), kernel) > 0)).all()
    eroded = cv2.erode(PLACE.astype(np.uint8), kernel) > 0
    assert (bit(p, CORE) == eroded).all() and p.core_px == eroded.sum() < p.mask_px == PLACE.sum()


@pytest.mark.parametrize(
    ("place", "roi", "core"),
    [
        (rect(0, 20, 30, 40), (0, 16, 34, 44), rect(0, 24, 26, 36)),
        (rect(20, 0, 50, 30), (16, 0, 54, 34), rect(24, 0, 46, 26)),
        (rect(60, 40, W, H), (56, 36, W, H), rect(64, 44, W, H)),
    ],
)
def test_an_object_may_go_on_beyond_the_image(
    place: np.ndarray, roi: tuple[int, int, int, int], core: np.ndarray
) -> None:
    """So the image's border does not erode it."""
    p = predict_pixels(projection(7, place), 4.0, None, TOLERANCE_M)
    assert p.roi == roi
    assert (bit(p, CORE)[core]).all() and p.core_px <= core.sum() + 20


@pytest.mark.parametrize(
    ("measured", "agrees"), [(1.94, False), (1.96, True), (2.04, True), (2.06, False), (0.0, False)]
)
def test_depth_agrees_within_the_tolerance(measured: float, agrees: bool) -> None:
    p = predict_pixels(projection(7, PLACE, 2.0), 0.0, flat(measured), TOLERANCE_M)
    assert (bit(p, AGREES) == (PLACE & agrees)).all()
    assert p.agrees_px == (PLACE.sum() if agrees else 0)


def test_depth_agrees_with_any_depth_that_the_object_shows_within_sigma() -> None:
    """The left half is at 2 m, the right one at 3 m; 2.5 m and 2 m can be seen near the step."""
    step = np.where(np.arange(W) < 35, 2.0, 3.0).astype(np.float32)[None].repeat(H, 0)
    for measured in (2.5, 3.0):
        p = predict_pixels(projection(7, PLACE, step), 3.0, flat(measured), TOLERANCE_M)
        row = bit(p, AGREES)[25]
        assert row[32:36].all() and not row[20:32].any()
        assert row[39:45].all() == (measured == 3.0)
    p = predict_pixels(projection(7, PLACE, step), 0.0, flat(2.5), TOLERANCE_M)
    assert p.agrees_px == 0


def test_depth_agrees_beyond_the_projection_within_sigma() -> None:
    p = predict_pixels(projection(7, PLACE, 2.0), 3.0, flat(2.0), TOLERANCE_M)
    assert (bit(p, AGREES) == rect(17, 12, 53, 43)).all() and p.agrees_px == 36 * 31


def gone(part: np.ndarray) -> np.ndarray:
    """Depth 2 m, and 4 m where the camera sees through."""
    return np.where(part, np.float32(4.0), np.float32(2.0))


def test_where_the_camera_sees_through_the_silhouette_is_free() -> None:
    """The right half is seen through; it is no part of the visible projection then."""
    free = rect(35, 15, 50, 40)
    whole = projection(7, PLACE, 2.0)
    seen = replace(whole, mask_roi=(PLACE & ~free)[15:40, 20:50])
    p = predict_pixels(seen, 0.0, gone(free), TOLERANCE_M)
    assert (bit(p, FREE) == free).all() and p.free_px == 15 * 25
    assert (bit(p, MASK) == (PLACE & ~free)).all() and p.mask_px == 15 * 25
    p = predict_pixels(seen, 3.0, gone(free), TOLERANCE_M)
    assert (bit(p, FREE) == free).all()
    assert not (bit(p, NEAR) & free).any(), "the outline is not dilated into free space"
    assert bit(p, NEAR)[25, 17:35].all()


def test_free_is_behind_the_object_not_before_it_and_not_unknown() -> None:
    hidden = replace(projection(7, PLACE, 2.0), mask_roi=np.zeros((25, 30), bool))
    for measured, free in ((4.0, True), (2.06, True), (2.04, False), (1.0, False), (0.0, False)):
        p = predict_pixels(hidden, 0.0, flat(measured), TOLERANCE_M)
        assert p.free_px == (PLACE.sum() if free else 0)
        assert p.mask_px == 0


def test_what_the_depth_test_left_visible_is_not_free() -> None:
    """The projection allows for more than the tolerance under an uncertain pose."""
    p = predict_pixels(projection(7, PLACE, 2.0), 0.0, flat(2.2), TOLERANCE_M)
    assert p.free_px == 0 and p.agrees_px == 0
