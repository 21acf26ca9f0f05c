from __future__ import annotations

import numpy as np
import pytest
from support.association import candidate_pairs, frame_evidence

from vos_ros.association.terms.similarity import Similarity


def test_it_is_read_by_track_and_object_and_unknown_otherwise() -> None:
    frame = frame_evidence({}, similarities={(1, 11): 0.7, (1, 12): 0.9})
    values = Similarity().values(candidate_pairs(2, frame))
    assert values == pytest.approx([0.7, np.nan], nan_ok=True)


def test_an_opposite_appearance_is_no_better_evidence_than_an_unrelated_one() -> None:
    frame = frame_evidence({}, similarities={(1, 11): -0.6, (2, 12): 0.0})
    assert Similarity().values(candidate_pairs(2, frame)).tolist() == [0.0, 0.0]
