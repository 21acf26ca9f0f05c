from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support.association import candidate_pairs

from vos_ros.association.terms.mask_iou import MaskIou
from vos_ros.association.terms.tolerant_iou import TolerantIou

PIXELS: dict[str, Any] = {
    "track_px": 100,
    "mask_px": 60,
    "core_px": 45,
    "shared_mask_px": 40,
    "shared_near_px": 70,
    "shared_core_px": 35,
}
UNION = 100 + 60 - 40


def test_only_pixels_far_outside_and_missed_ones_deep_inside_are_wrong() -> None:
    """30 px of the track lie beyond the dilated projection, 10 px of the eroded one are missed."""
    (value,) = TolerantIou().values(candidate_pairs(1, **PIXELS))
    assert value == pytest.approx(1 - (30 + 10) / UNION)


def test_free_space_in_place_of_the_object_is_missed_whatever_the_pose() -> None:
    pairs = candidate_pairs(1, **PIXELS, free_px=30, shared_free_px=10)
    assert TolerantIou().values(pairs) == pytest.approx([1 - (30 + 10 + 20) / (UNION + 20)])


def test_with_a_certain_pose_it_is_the_plain_iou() -> None:
    certain = {**PIXELS, "core_px": 60, "shared_near_px": 40, "shared_core_px": 40}
    pairs = candidate_pairs(1, **certain)
    assert TolerantIou().values(pairs) == pytest.approx(MaskIou().values(pairs))


def test_it_is_never_negative() -> None:
    nothing_right = {**PIXELS, "shared_near_px": 0, "shared_core_px": 0, "free_px": 50}
    assert TolerantIou().values(candidate_pairs(1, **nothing_right)).tolist() == [0.0]


def test_masks_that_do_not_meet_have_none() -> None:
    pairs = candidate_pairs(1, track_px=100, mask_px=900, masks_meet=np.zeros(1, bool))
    assert TolerantIou().values(pairs).tolist() == [0.0]
