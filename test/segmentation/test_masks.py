"""Masks that were given, in a segmentation."""

from __future__ import annotations

import numpy as np
import torch

from vos_ros.segmentation.masks import overwrite_masks
from vos_ros.types import Segmentation


def test_objects_have_the_given_masks_and_the_last_one_has_the_pixel() -> None:
    probs = torch.full((3, 4, 5), 1 / 3)
    masks = {7: np.zeros((4, 5), bool), 3: np.zeros((4, 5), bool)}
    masks[7][:, :3] = True
    masks[3][:, 2:4] = True
    result = overwrite_masks(Segmentation((3, 7), probs), masks)
    assert (result.labels()[0]).tolist()[:4] == [7, 7, 3, 3]
    assert torch.allclose(result.probs.sum(0), torch.ones(4, 5))
    assert result.probs[1:, :, 4].abs().max() < 1e-6 and torch.equal(
        probs, torch.full((3, 4, 5), 1 / 3)
    )
