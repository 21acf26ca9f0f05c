"""Points that are followed from one image to the next."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vos_ros.segmentation.point_trackers.motion import flow, grey_image, most_similar

H, W = 120, 160


def texture(dx: int = 0, dy: int = 0) -> np.ndarray:
    """A smooth random image, moved by whole pixels."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (H // 8 + 4, W // 8 + 4, 3), np.uint8)
    rgb = np.kron(coarse, np.ones((8, 8, 1), np.uint8))
    return rgb[16 - dy : 16 - dy + H, 16 - dx : 16 - dx + W].copy()


@pytest.mark.parametrize("shift", [(0, 0), (5, -3), (-9, 7)])
def test_points_move_with_the_image(shift: tuple[int, int]) -> None:
    points = np.array([[40.0, 40], [80, 60], [120, 90]])
    found, held = flow(grey_image(texture()), grey_image(texture(*shift)), points)
    assert held.all()
    np.testing.assert_allclose(found, points + shift, atol=0.3)


def test_a_point_that_leaves_the_image_or_is_hidden_is_not_held() -> None:
    before, now = texture(), texture(-12, 0)
    now[40:100, 60:110] = 128  # something in front
    found, held = flow(
        grey_image(before), grey_image(now), np.array([[4.0, 60], [95, 70], [140, 20]])
    )
    assert held.tolist() == [False, False, True] and found.shape == (3, 2)


def test_no_points_are_no_error() -> None:
    found, held = flow(grey_image(texture()), grey_image(texture()), np.zeros((0, 2)))
    assert found.shape == (0, 2) and held.shape == (0,)


def test_the_most_similar_cell_is_found_where_it_is_allowed() -> None:
    embedding = torch.zeros(3, 4, 6)
    embedding[:, 1, 4] = torch.tensor([1.0, 0, 0])
    embedding[:, 3, 0] = torch.tensor([0.9, 0, 0])
    keys = torch.tensor([[1.0, 0, 0], [1.0, 0, 0], [1.0, 0, 0]])
    allowed = torch.ones(3, 4, 6, dtype=torch.bool)
    allowed[1, 1, 4] = False
    allowed[2] = False
    cells, distance = most_similar(embedding, keys, allowed)
    assert cells[0].tolist() == [4, 1] and cells[1].tolist() == [0, 3]
    np.testing.assert_allclose(distance[:2], [0, 0.1], atol=1e-6)
    assert np.isinf(distance[2])
