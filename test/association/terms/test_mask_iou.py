from __future__ import annotations

import numpy as np
import pytest
from support.association import candidate_pairs

from vos_ros.association.terms.mask_iou import MaskIou


def test_the_intersection_over_the_union() -> None:
    """The first: 100 px of the track, 60 of the projection, 40 in both."""
    pairs = candidate_pairs(2, track_px=[100, 50], mask_px=[60, 50], shared_mask_px=[40, 50])
    assert MaskIou().values(pairs) == pytest.approx([40 / 120, 1.0])


def test_free_space_in_place_of_the_object_counts_as_projection() -> None:
    """Of 80 px of free space the track has 30: they are in the union already, as its own pixels."""
    pairs = candidate_pairs(
        1, track_px=100, mask_px=60, shared_mask_px=40, free_px=80, shared_free_px=30
    )
    assert MaskIou().values(pairs) == pytest.approx([40 / (120 + 50)])


def test_masks_that_do_not_meet_have_none() -> None:
    pairs = candidate_pairs(2, track_px=100, masks_meet=np.zeros(2, bool))
    assert MaskIou().values(pairs).tolist() == [0.0, 0.0]
