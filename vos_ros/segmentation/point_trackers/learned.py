"""The learned tracker: needs no training for a sequence (``networks.point_tracker``).

Every point is searched around where it was last, and around the place of the whole image that is
most similar to it on the first frame; the surer of the two is taken. One pass over the image serves
all points.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from vos_ros.config import option
from vos_ros.segmentation.checkpoints import POINT_TRACKER_FORMAT, read_network
from vos_ros.segmentation.network_input import scaled_size, upload
from vos_ros.segmentation.networks.batch_norm import fold
from vos_ros.segmentation.networks.decoder import resize
from vos_ros.segmentation.networks.point_tracker import (
    GLOBAL_STRIDE,
    Found,
    PointTrackerNet,
    PointTrackerSpec,
    Templates,
)
from vos_ros.segmentation.point_trackers.interface import (
    Pixels,
    Rgb,
    Track,
    Tracked,
    check_points,
    check_size,
)

Maps = dict[int, torch.Tensor]


@dataclass(frozen=True)
class LearnedOptions:
    """Options of the learned tracker."""

    model: str = option(
        "point_tracker-mnv2",
        "network: the name of weights that come with the package, or a .safetensors file",
        names_file=True,
    )
    sha256: str = option("", "expected sha256 of the weights file; empty = not checked")
    long_side: int = option(321, "longer side of the network's input", unit="px", low=64, high=2048)
    min_confidence: float = option(
        0.75, "a point is visible where the confidence is above this", low=0.0, high=1.0
    )
    lead: float = option(
        0.1,
        "confidence by which a place far from the last one must be surer than one near it",
        low=0.0,
        high=1.0,
    )


class Learned:
    """The tracker; tracks of one image share its features."""

    def __init__(self, options: LearnedOptions, device: torch.device) -> None:
        self.options, self.device = options, device
        self.net = read_network(
            "point_trackers.learned.model",
            options.model,
            options.sha256,
            POINT_TRACKER_FORMAT,
            lambda text: PointTrackerNet(PointTrackerSpec.from_json(text)),
        ).to(device)
        fold(self.net.feature_extractor)
        self._last: tuple[Rgb, Maps] | None = None

    def start(self, rgb: Rgb, points: Pixels) -> Track:
        """Begin with points on an image."""
        return _Searched(self, rgb, check_points(rgb, points))

    @torch.inference_mode()
    def features(self, rgb: Rgb) -> Maps:
        """Return the features of an image, computed once for the tracks that ask for it.

        An image is known by its identity: its pixels must not be changed in place.
        """
        if self._last is None or self._last[0] is not rgb:
            image = upload(rgb, self.device)
            self._last = rgb, self.net.features(resize(image, self.size(rgb.shape[:2]), True))
        return self._last[1]

    def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
        """Return the (h, w), px, of the network's input for an image of (H, W) ``shape``."""
        return self.net.fits(*scaled_size((shape[0], shape[1]), self.options.long_side))


class _Searched:
    @torch.inference_mode()
    def __init__(self, tracker: Learned, rgb: Rgb, points: Pixels) -> None:
        self._tracker, self._shape = tracker, (rgb.shape[0], rgb.shape[1])
        h, w = tracker.size(self._shape)
        self._scale = np.array([(w - 1) / (rgb.shape[1] - 1), (h - 1) / (rgb.shape[0] - 1)])
        self._at = torch.tensor(points * self._scale, dtype=torch.float32, device=tracker.device)
        self._first: Templates = tracker.net.describe(tracker.features(rgb), self._at[None])
        self._previous: Templates = self._first

    @torch.inference_mode()
    def step(self, rgb: Rgb) -> Tracked:
        check_size(rgb, self._shape)
        if not len(self._at):
            return Tracked(np.zeros((0, 2)), np.zeros(0, bool), np.zeros(0))
        net, maps = self._tracker.net, self._tracker.features(rgb)
        near = net.search(maps, self._first, self._previous, self._at[None])
        planes = net.everywhere(maps, self._first)
        best, width = planes.flatten(1).argmax(1), planes.shape[2]
        elsewhere = torch.stack([best % width, best // width], 1).float() * GLOBAL_STRIDE
        far = net.search(maps, self._first, self._first, elsewhere[None])
        moved = _sureness(far) > _sureness(near) + self._tracker.options.lead
        found = torch.where(moved[:, None], far.points, near.points)
        sure = torch.where(moved, _sureness(far), _sureness(near))
        seen = sure > self._tracker.options.min_confidence
        here = net.describe(maps, found[None])
        self._previous = {
            s: torch.where(seen[:, None, None, None], x, self._previous[s]) for s, x in here.items()
        }
        last = found.new_tensor([maps[2].shape[-1] - 1, maps[2].shape[-2] - 1]) * 2
        self._at = torch.minimum(found.clamp_min(0), last)
        return Tracked(
            self._at.cpu().numpy().astype(np.float64) / self._scale,
            seen.cpu().numpy(),
            sure.cpu().numpy().astype(np.float64),
        )


def _sureness(found: Found) -> torch.Tensor:
    """Return the probability that a point is visible where it was found."""
    return torch.sigmoid(found.visible) * torch.sigmoid(found.near)
