from __future__ import annotations

import numpy as np
import pytest
from support.association import candidate_pairs, frame_evidence

from vos_ros.association.terms.overlap_3d import Overlap3d


def test_it_is_read_by_track_and_object() -> None:
    """Pairs are (1, 11), (2, 12), (3, 13)."""
    frame = frame_evidence({}, overlaps_3d={(2, 12): 0.4, (1, 12): 0.9, (3, 11): 0.9})
    pairs = candidate_pairs(3, frame, track_depth_px=5)
    assert Overlap3d().values(pairs).tolist() == [0.0, 0.4, 0.0]


def test_a_track_without_depth_has_an_unknown_one_unless_it_is_listed() -> None:
    frame = frame_evidence({}, overlaps_3d={(2, 12): 0.4})
    pairs = candidate_pairs(3, frame, track_depth_px=[0, 0, 1])
    assert Overlap3d().values(pairs) == pytest.approx([np.nan, 0.4, 0.0], nan_ok=True)
