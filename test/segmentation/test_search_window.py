from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from vos_ros.segmentation.search_window import (
    contains_mask,
    crop,
    full_image_windows,
    grid_ranges,
    paste,
    update_windows,
    window_masks,
)

CPU = torch.device("cpu")
H, W = 65, 97


def blob(
    cy: float, cx: float, ry: float, rx: float, size: tuple[int, int] = (H, W)
) -> torch.Tensor:
    """1 in an ellipse, given in the coordinates in which the image spans -1..1."""
    y, x = torch.meshgrid(
        torch.linspace(-1, 1, size[0]), torch.linspace(-1, 1, size[1]), indexing="ij"
    )
    return (((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2 <= 1).float()


def window(cx: float, cy: float, zoom: float) -> torch.Tensor:
    return torch.tensor([[cx, cy, zoom]])


@pytest.mark.parametrize("aligned", [False, True])
def test_the_whole_view_is_the_image_scaled(aligned: bool) -> None:
    image = torch.rand(1, 3, H, W)
    scaled = F.interpolate(image, (33, 49), mode="bilinear", align_corners=aligned)
    assert torch.allclose(crop(image, None, (33, 49), aligned), scaled)
    assert torch.allclose(
        crop(image, full_image_windows(1, CPU), (33, 49), aligned), scaled, atol=1e-5
    )
    assert crop(image, None, (H, W), aligned) is image


@pytest.mark.parametrize("aligned", [False, True])
def test_what_is_cut_out_and_laid_back_is_where_it_was(aligned: bool) -> None:
    truth = F.avg_pool2d(blob(0.2, -0.3, 0.2, 0.15)[None], 5, 1, 2)
    windows = window(-0.25, 0.15, 0.5)
    cut = crop(truth[None], windows, (129, 193), aligned)[:, 0]
    assert float(cut.mean()) > 2 * float(truth.mean())
    back = paste(cut, windows, (H, W), aligned)
    assert float((back - truth).abs().max()) < 0.08
    assert torch.equal(
        paste(torch.ones_like(cut), windows, (H, W), True)[0] > 0, window_masks(windows, (H, W))[0]
    )


def test_each_window_sees_its_own_plane() -> None:
    planes = torch.stack([blob(-0.5, -0.5, 0.2, 0.2), blob(0.5, 0.5, 0.2, 0.2)])[:, None]
    windows = torch.tensor([[-0.5, -0.5, 0.3], [0.5, 0.5, 0.3]])
    cut = crop(planes, windows, (33, 33), True)
    assert (
        cut.shape == (2, 1, 33, 33)
        and bool((cut[:, 0, 16, 16] == 1).all())
        and not cut[:, 0, 0, 0].any()
    )


def test_a_window_is_put_where_the_object_is_with_five_times_its_sides() -> None:
    cx, cy, zoom = update_windows(
        full_image_windows(1, CPU), blob(0.25, -0.4, 0.08, 0.12)[None], 5.0, limit_change=False
    )[0].tolist()
    assert zoom == pytest.approx(5 * np.sqrt(0.08 * 0.12), rel=0.12)
    assert (cx, cy) == pytest.approx((-0.4, 0.25), abs=0.02)


def test_windows_stay_inside_the_image() -> None:
    found = update_windows(
        full_image_windows(1, CPU), blob(-0.95, 0.95, 0.1, 0.1)[None], 5.0, limit_change=False
    )
    cx, cy, zoom = found[0].tolist()
    assert abs(cx) + zoom <= 1 + 1e-6 and abs(cy) + zoom <= 1 + 1e-6
    assert update_windows(full_image_windows(1, CPU), blob(0, 0, 0.6, 0.6)[None], 5.0)[
        0
    ].tolist() == pytest.approx([0, 0, 1], abs=1e-6)


def test_a_window_changes_by_little_while_its_object_is_seen() -> None:
    before = window(0.0, 0.0, 0.5)
    for radius, zoom in ((0.05, 0.45), (0.5, 0.6)):
        assert float(
            update_windows(before, blob(0, 0, radius, radius)[None], 5.0)[0, 2]
        ) == pytest.approx(zoom)


def test_an_object_not_found_is_searched_everywhere_and_then_closed_in_on() -> None:
    lost = update_windows(window(0.3, 0.3, 0.3), torch.zeros(1, H, W), 5.0)
    assert lost[0].tolist() == [0.0, 0.0, 1.0]
    doubtful = update_windows(
        window(0.3, 0.3, 0.3), torch.full((1, H, W), 0.4), 5.0
    )  # nowhere more probable than not
    assert doubtful[0].tolist() == [0.0, 0.0, 1.0]
    assert float(update_windows(lost, blob(0.5, 0.5, 0.05, 0.05)[None], 5.0)[0, 2]) < 0.4


def test_a_window_holds_a_mask_or_it_does_not() -> None:
    mask = blob(0.2, -0.3, 0.1, 0.1).numpy() > 0
    assert contains_mask(window(-0.3, 0.2, 0.2)[0], mask) and not contains_mask(
        window(0.3, 0.2, 0.2)[0], mask
    )
    assert not contains_mask(window(-0.3, 0.2, 0.05)[0], mask) and contains_mask(
        window(0.9, 0.9, 0.1)[0], np.zeros((H, W), bool)
    )


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ((0.0, 0.0, 1.0), ((0, 12), (0, 20))),
        ((0.0, 0.0, 0.5), ((3, 9), (5, 15))),
        ((-0.9, -0.9, 0.1), ((0, 4), (0, 4))),
        ((0.9, 0.9, 0.1), ((8, 12), (16, 20))),
    ],
)
def test_spans_are_rounded_outwards_and_never_too_small(
    at: tuple[float, float, float], expected: object
) -> None:
    assert grid_ranges(window(*at), (12, 20), 4) == [expected]
