from __future__ import annotations

import math

import numpy as np
import pytest
from support.association import pair_evidence

from vos_ros.association.interface import Evidence, PairEvidence

PAIRS = pair_evidence(
    (1, 7, {"mask_iou": 0.5, "surface_px": 40, "surface_covered": 0.25}),
    (2, 8, {"mask_iou": 0.75, "overlap_3d": 0.5}),
)


def test_a_pair_has_the_values_of_its_row() -> None:
    e = PAIRS.pair(1, 0.9)
    assert (e.track_id, e.map_object_id, e.score) == (2, 8, 0.9)
    assert (e.value("mask_iou"), e.value("overlap_3d")) == (0.75, 0.5)
    assert math.isnan(PAIRS.pair(0, 0.0).value("overlap_3d"))
    assert list(e.terms) == list(PAIRS.terms)


def test_a_term_without_values_is_unknown() -> None:
    assert math.isnan(Evidence(1, 7, 1.0).value("mask_iou"))
    assert PAIRS.values("mask_iou").tolist() == [0.5, 0.75]
    assert np.isnan(PAIRS.values("no_such_term")).tolist() == [True, True]


@pytest.mark.parametrize("rows", [np.array([1]), np.array([False, True])])
def test_selected_pairs_keep_all_their_values(rows: np.ndarray) -> None:
    some = PAIRS.select(rows)
    assert len(some) == 1 and some.track_ids.tolist() == [2] and some.object_ids.tolist() == [8]
    assert some.values("mask_iou").tolist() == [0.75] and some.surface_px.tolist() == [0.0]
    assert np.isnan(some.surface_covered).all()
    first = PAIRS.select(np.array([0]))
    assert first.surface_px.tolist() == [40.0] and first.surface_covered.tolist() == [0.25]


def test_the_evidence_of_no_pair_is_empty() -> None:
    none = PairEvidence.none()
    assert len(none) == 0 and none.values("mask_iou").tolist() == []
