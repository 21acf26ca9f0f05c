"""What a map is worth beside annotated objects."""

from __future__ import annotations

import math

import numpy as np
import pytest

from vos_ros.evaluation.map_score import box_of, score_map
from vos_ros.types import MapObject


def box(
    i: int, low: tuple[float, float, float], size: tuple[float, float, float] = (0.2, 0.2, 0.2)
) -> MapObject:
    """An object with points on a grid through a box, 2 cm apart."""
    axes = [np.arange(0.0, s + 1e-9, 0.02) + a for s, a in zip(size, low, strict=True)]
    points = np.stack(np.meshgrid(*axes), -1).reshape(-1, 3).astype(np.float32)
    T = np.eye(4)
    T[:3, 3] = np.add(low, np.divide(size, 2))
    return MapObject(i, 1, T, np.array(size), points, 0.01)


TRUTH = (box(1, (0, 0, 0)), box(2, (1, 0, 0)), box(3, (2, 0, 0)))


def test_a_right_map_is_right_whatever_its_ids():
    score = score_map([box(7, (1, 0, 0)), box(9, (0, 0, 0)), box(5, (2.02, 0, 0))], TRUTH)
    assert score.found == {1: 9, 2: 7, 3: 5}
    figures = score.figures()
    assert figures["found_once"] == 3 and figures["duplicates"] == figures["others"] == 0
    assert figures["mean_iou"] == pytest.approx((2 + 0.9 / 1.1) / 3, abs=1e-5)


def test_duplicates_by_box_and_by_surface_and_what_nobody_annotated():
    whole, again, piece, elsewhere = (
        box(1, (0, 0, 0)),
        box(2, (0.04, 0, 0)),
        box(3, (0, 0, 0), (0.06, 0.06, 0.2)),
        box(4, (5, 0, 0)),
    )
    score = score_map([again, piece, whole, elsewhere], TRUTH)
    assert score.found == {1: 1} and set(score.rivals(1)) == {2, 3}
    assert score.figures() | {"mean_iou": 0} == {
        "objects": 4,
        "annotated": 3,
        "found": 1,
        "found_once": 0,
        "duplicates": 2,
        "duplicates_by_box": 1,
        "others": 1,
        "mean_iou": 0,
    }


def test_two_pieces_of_what_is_not_found_are_one_duplicate():
    corner = (0.06, 0.06, 0.06)
    score = score_map([box(1, (0, 0, 0), corner), box(2, (0.14, 0.14, 0.14), corner)], TRUTH)
    assert not score.found and score.best[1] < 0.3
    assert score.figures()["duplicates"] == 1 and math.isnan(score.figures()["mean_iou"])


def test_one_box_over_two_objects_finds_one_of_them():
    truth = (box(1, (0, 0, 0)), box(2, (0.2, 0, 0)))
    score = score_map([box(1, (0, 0, 0), (0.4, 0.2, 0.2))], truth)
    assert len(score.found) == 1 and score.figures()["duplicates"] == 0


def test_what_lies_on_something_is_not_a_piece_of_it():
    table, sheet = box(1, (0, 0, 0), (1.0, 1.0, 0.0)), box(2, (0.2, 0.2, 0.01), (0.3, 0.2, 0.0))
    score = score_map([box(1, (0.2, 0.2, 0.01), (0.3, 0.2, 0.0))], (table, sheet))
    assert score.found == {2: 1} and not score.rivals(1)


def test_an_empty_map_and_an_empty_truth():
    figures = score_map([], TRUTH).figures()
    assert figures["found"] == figures["objects"] == 0 and figures["annotated"] == 3
    with pytest.raises(ValueError, match="no annotated objects"):
        score_map([box(1, (0, 0, 0))], [])


def test_the_box_of_an_object_without_points_is_the_one_it_states():
    T = np.eye(4)
    T[:2, :2] = [[0, -1], [1, 0]]
    T[:3, 3] = 1.0
    o = MapObject(1, 0, T, np.array([0.4, 0.2, 0.1]), np.zeros((0, 3), np.float32), 0.01)
    np.testing.assert_allclose(box_of(o), [[0.9, 0.8, 0.95], [1.1, 1.2, 1.05]], atol=1e-12)
