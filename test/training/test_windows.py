"""Windows into images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vos_ros.training.windows import bend, box_of, number, place, resample, resample_labels, window


def ramp(h: int, w: int) -> np.ndarray:
    """Red is x, green is y."""
    return np.stack(
        [np.tile(np.arange(w), (h, 1)), np.tile(np.arange(h)[:, None], (1, w)), np.zeros((h, w))],
        -1,
    ).astype(np.uint8)


def test_box() -> None:
    mask = np.zeros((10, 20), bool)
    assert box_of(mask) is None
    mask[3:6, 4:14] = True
    assert box_of(mask) == (8.5, 4.0, 10.0, 3.0)


@given(
    st.floats(-50, 250), st.floats(-50, 250), st.floats(0.1, 8), st.sampled_from(["all", "major"])
)
def test_a_window_stays_inside(x: float, y: float, pixel: float, inside: str) -> None:
    size, image = (64, 32), (160, 100)
    cx, cy, p = place((x, y), pixel, size, image, inside)
    spans = [
        (cx - size[0] * p / 2 + 0.5, cx + size[0] * p / 2 - 0.5),
        (cy - size[1] * p / 2 + 0.5, cy + size[1] * p / 2 - 0.5),
    ]
    fits = [low > -0.51 and high < n - 0.49 for (low, high), n in zip(spans, image, strict=True)]
    assert all(fits) if inside == "all" else any(fits)
    assert p <= max(pixel, 0.25) + 1e-9
    if pixel * 64 < 160 and pixel * 32 < 100:
        assert p == pytest.approx(max(pixel, 0.25))


def test_the_middle_of_a_window_is_its_centre() -> None:
    for mirrored in (False, True):
        m = window((20.0, 10.0), 1.5, (9, 7), 0.7, mirrored)
        assert m @ (4, 3, 1) == pytest.approx((20, 10))
        assert abs(np.linalg.det(m[:, :2])) == pytest.approx(1.5**2)
        assert (np.linalg.det(m[:, :2]) < 0) == mirrored


@pytest.mark.parametrize("pixel", [0.5, 1.0, 1.15, 2.0, 3.0])
def test_resampling_doesnt_shift(pixel: float) -> None:
    """However much it is shrunk: a pixel of the frame shows what lies under its centre."""
    image, m = ramp(120, 200), window((90.0, 60.0), pixel, (31, 21))
    out = resample(image, m, (31, 21)).astype(float)
    at = np.einsum(
        "ij,jhw->ihw", m, np.stack([*np.meshgrid(np.arange(31), np.arange(21)), np.ones((21, 31))])
    )
    assert np.abs(out[..., 0] - at[0]).max() < 1.01 and np.abs(out[..., 1] - at[1]).max() < 1.01
    assert abs(np.mean(out[..., 0] - at[0])) < 0.3 and abs(np.mean(out[..., 1] - at[1])) < 0.3


def test_labels_are_never_mixed() -> None:
    labels = np.zeros((40, 60), np.uint8)
    labels[10:20, 10:30], labels[20:30, 30:50] = 1, 5
    out = resample_labels(labels, window((30, 20), 1.7, (50, 50), 0.4), (50, 50))
    assert set(np.unique(out)) == {0, 1, 5, 255}  # 255 outside the image
    assert out[25, 25] == labels[20, 30]


@pytest.mark.parametrize("dtype", [np.uint8, np.int32])
def test_numbering(dtype: type) -> None:
    ids = np.array([[0, 7, 3], [9, 200, 7]], dtype)
    ignore = 200
    assert number(ids, [7, 3], ignore).tolist() == [[0, 1, 2], [0, 255, 1]]


def test_a_spline_goes_through_its_points_and_bends_least() -> None:
    rng = np.random.default_rng(0)
    grid = np.stack(np.meshgrid(np.linspace(-1, 1, 4), np.linspace(-1, 1, 4)), -1).reshape(-1, 2)
    values = rng.normal(size=(16, 2))
    assert bend(grid, values) == pytest.approx(values, abs=1e-4)
    straight = grid @ np.array([[1.0, 2.0], [0.5, -1.0]]) + (3, 4)
    points = rng.uniform(-1.5, 1.5, (30, 2))
    assert bend(points, straight) == pytest.approx(
        points @ np.array([[1.0, 2.0], [0.5, -1.0]]) + (3, 4), abs=1e-3
    )
