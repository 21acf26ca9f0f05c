"""InstanceMasks: which track owns each pixel."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.pipeline_values import H, W, instance_masks, rect, segmentation

from vos_ros.pipeline.instance_masks import InstanceMasks
from vos_ros.segmentation.fusion import PixelRows
from vos_ros.types import Segmentation


def test_the_most_probable_row_owns_a_pixel() -> None:
    a, b = rect(4, 6, 14, 16), rect(30, 20, 40, 24)
    masks = InstanceMasks.from_segmentation(segmentation({7: a, 3: b}, p=0.75))
    assert masks.track_ids == (7, 3) and masks.instance_index.dtype == np.uint8
    assert np.array_equal(masks.instance_index, a + 2 * b)
    assert np.allclose(masks.prob, np.where(a | b, 0.75, 1.0))
    assert masks.areas_px.tolist() == [H * W - 140, 100, 40]
    assert masks.scores == pytest.approx([1.0, 0.75, 0.75])
    assert masks.boxes == {1: (4, 6, 14, 16), 2: (30, 20, 40, 24)}


def test_a_mean_counts_the_row_s_own_pixels() -> None:
    """A box holds pixels of others too, of the background as well."""
    ring, core = rect(10, 10, 20, 20) & ~rect(10, 10, 12, 12), rect(13, 12, 17, 18)
    probs = np.stack([np.zeros((H, W)), np.where(ring & ~core, 0.6, 0), np.where(core, 0.9, 0)])
    probs[0] = 1 - probs.sum(0)
    s = Segmentation((1, 2), torch.from_numpy(probs.astype(np.float32)))
    masks = InstanceMasks.from_segmentation(s)
    assert masks.scores == pytest.approx([1.0, 0.6, 0.9])
    assert masks.areas_px.tolist()[1:] == [72, 24]


def test_a_decision_by_others_is_taken() -> None:
    s = segmentation({7: rect(0, 0, 9, 9)})
    row = torch.from_numpy(rect(20, 20, 22, 25).astype(np.uint8))
    masks = InstanceMasks.from_segmentation(s, PixelRows(row, torch.full((H, W), 0.5)))
    assert masks.areas_px.tolist() == [H * W - 10, 10] and masks.boxes == {1: (20, 20, 22, 25)}
    assert masks.scores == pytest.approx([0.5, 0.5]) and masks.prob.dtype == np.float32


def test_a_row_without_pixels_has_no_box() -> None:
    masks = instance_masks({7: rect(0, 0, 0, 0), 8: rect(0, 0, W, H)})
    assert masks.areas_px.tolist() == [0, 0, H * W] and list(masks.boxes) == [2]
    assert masks.scores.tolist()[:2] == [0.0, 0.0]


def test_without_tracks_all_is_background() -> None:
    masks = instance_masks({})
    assert masks.track_ids == () and masks.boxes == {} and masks.areas_px.tolist() == [H * W]
    assert masks.scores == pytest.approx([1.0])


def test_the_mask_of_a_track_is_its_own() -> None:
    a, b = rect(4, 6, 14, 16), rect(30, 20, 40, 24)
    masks = instance_masks({7: a, 3: b})
    assert np.array_equal(masks.mask(7), a) and np.array_equal(masks.mask(3), b)
    with pytest.raises(ValueError):
        masks.mask(4)
