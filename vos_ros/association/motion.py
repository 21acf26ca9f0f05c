"""How well each track keeps its place in the map frame."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from jaxtyping import Float64

from vos_ros.association.surfaces import Samples

_MEAN_SIGMA_M = 0.05  # m, how far the mean of a resting object's points moves as its mask changes


class MotionModel:
    """Compare where each track is with where it was last measured."""

    def __init__(self) -> None:
        self._last: dict[int, Float64[np.ndarray, "3"]] = {}

    def consistency(self, samples: Samples, sigma_m: Float64[np.ndarray, "T"]) -> dict[int, float]:
        """Return exp(-d^2 / 2 s^2), 0..1, by track id; 1 for a track measured for the first time.

        d is how far the mean of the track's points moved since it was last measured, s the spread
        of its points plus ``sigma_m``, what the pose's uncertainty explains (m). A mask that went
        over to a look-alike makes a large step; objects that stand still make small ones.
        """
        now = dict(zip(samples.track_ids, samples.mean, strict=True))
        last = np.array([self._last.get(t, mean) for t, mean in now.items()]).reshape(-1, 3)
        step = samples.mean - last
        self._last.update(now)
        scale = samples.spread + _MEAN_SIGMA_M + sigma_m
        consistency = np.exp(-0.5 * (step**2).sum(1) / scale**2)
        return dict(zip(samples.track_ids, consistency.tolist(), strict=True))

    def keep_only(self, track_ids: Iterable[int]) -> None:
        """Forget tracks that have ended."""
        live = set(track_ids)
        self._last = {t: mean for t, mean in self._last.items() if t in live}
