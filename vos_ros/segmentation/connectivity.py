"""Tell an object from its look-alikes by where it was."""

from __future__ import annotations

import cv2
import numpy as np
import torch
from jaxtyping import Float

_MAX_GAP = 1.0
"""Object sizes: largest gap between a part that reappears from behind an occluder and the mask."""


def connectivity_gate(
    logits: Float[torch.Tensor, "N h w"], prior: Float[torch.Tensor, "N h w"]
) -> Float[torch.Tensor, "N h w"]:
    """Return 1 where a cell may be the object, 0 where its connected component is too far off.

    A component of the present mask may be the object where it comes closer to the previous mask
    than the object's size: a look-alike far off is not the object. 1 everywhere where there is no
    previous mask, or no component is close. Waits for the device.
    """
    found, before = (t.cpu().numpy().astype(np.uint8) for t in (logits > 0, prior > 0.5))
    gates = np.ones(found.shape, np.float32)
    for gate, now, then in zip(gates, found, before, strict=True):
        side = 2 * round(_MAX_GAP * float(then.sum()) ** 0.5) + 3
        labels = cv2.connectedComponents(now, connectivity=8)[1]
        touched = np.unique(labels[(cv2.dilate(then, np.ones((side, side), np.uint8)) & now) > 0])
        if len(touched):
            kept = np.isin(labels, touched).astype(np.uint8)
            gate[:] = cv2.dilate(kept, np.ones((3, 3), np.uint8))
    return torch.from_numpy(gates).to(logits.device)
