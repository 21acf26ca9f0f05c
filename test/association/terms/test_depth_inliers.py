from __future__ import annotations

import numpy as np
import pytest
from support.association import candidate_pairs

from vos_ros.association.terms.depth_inliers import DepthInliers


def test_the_share_of_the_tracks_measured_pixels_that_agrees() -> None:
    """Pixels of the track without depth do not count, nor does the surface beyond the track."""
    pairs = candidate_pairs(1, track_px=100, track_depth_px=80, shared_surface_px=20, surface_px=50)
    assert DepthInliers().values(pairs) == pytest.approx([20 / 80])


def test_without_depth_it_is_unknown() -> None:
    pairs = candidate_pairs(2, track_px=100, track_depth_px=[0, 10], shared_surface_px=0)
    assert DepthInliers().values(pairs) == pytest.approx([np.nan, 0.0], nan_ok=True)


def test_masks_that_do_not_meet_have_none() -> None:
    pairs = candidate_pairs(1, track_px=100, masks_meet=np.zeros(1, bool))
    assert DepthInliers().values(pairs).tolist() == [0.0]
