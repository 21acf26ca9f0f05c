"""What objects look like: one descriptor per object and frame, pooled from the segmenter's own features, and several views kept of each."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float, Float32, Int32

_LATTICE = 4  # px between the samples of masks that a coarse feature map is pooled with, about
_MEMORY = 0.05  # weight of a new frame in the mean of all features
_KNOWN = 0.95  # a view as similar as this to one that is kept shows nothing new
_EPS = 1e-12

Descriptors = Mapping[int, Float32[np.ndarray, "C"]]


class AppearanceBook:
    """Views of map objects, ``views`` of each at most.

    A descriptor is the mean of the features in a mask. Two are compared by the cosine between their differences from the mean of all that
    was seen so far (of raw features, everything in a kitchen looks alike). An object is as similar as its most similar view.
    """

    def __init__(self, views: int) -> None:
        self._most = views
        self._mean: Float32[np.ndarray, "C"] | None = None
        self._views: dict[int, list[Float32[np.ndarray, "C"]]] = {}

    def describe(self, features: Float[torch.Tensor, "C h w"] | None, owner: Int32[np.ndarray, "H W"], track_ids: Sequence[int]
                 ) -> Descriptors:
        """A descriptor per track that has pixels; none without features. ``owner`` holds 0 or 1 + the index into ``track_ids``. The one
        wait for the device is for all of them."""
        if features is None or not track_ids:
            return {}
        share = _shares(owner, len(track_ids), (int(features.shape[1]), int(features.shape[2])))
        cells = features.flatten(1).float()
        weights = torch.from_numpy(np.concatenate([np.full((1, share.shape[1]), 1 / share.shape[1], np.float32), share]))
        pooled = (weights.to(cells.device) @ cells.T).cpu().numpy()
        if self._mean is None or self._mean.shape != pooled[0].shape:
            self._mean, self._views = pooled[0], {}
        else:
            self._mean = (1 - _MEMORY) * self._mean + _MEMORY * pooled[0]
        seen = np.asarray(share.any(1))
        return {t: pooled[row] for row, t in enumerate(track_ids, start=1) if seen[row - 1]}

    def similarities(self, descriptors: Descriptors) -> dict[tuple[int, int], float]:
        """(track, object) -> -1..1, of every object that has a view."""
        if not descriptors or not self._views:
            return {}
        owners = [i for i, views in self._views.items() for _ in views]
        first = np.flatnonzero(np.diff([-1, *owners]))
        cosines = self._towards(list(descriptors.values())) @ self._towards([v for views in self._views.values() for v in views]).T
        best = np.maximum.reduceat(cosines, first, axis=1)
        return {(t, o): float(best[row, column]) for row, t in enumerate(descriptors) for column, o in enumerate(self._views)}

    def learn(self, object_id: int, descriptor: Float32[np.ndarray, "C"]) -> None:
        """A sure view of an object. Where there are as many as may be, it takes the place of the one that is most like another."""
        views = self._views.setdefault(object_id, [])
        if not views:
            views.append(descriptor)
            return
        towards = self._towards([*views, descriptor])
        cosines = towards @ towards.T
        np.fill_diagonal(cosines, -1.0)
        if cosines[-1].max() >= _KNOWN:
            return
        views.append(descriptor)
        if len(views) > self._most:
            del views[int(cosines.max(1).argmax())]

    def keep_only(self, object_ids: Collection[int]) -> None:
        """Forgets objects that are no more."""
        self._views = {i: v for i, v in self._views.items() if i in object_ids}

    def _towards(self, descriptors: Sequence[Float32[np.ndarray, "C"]]) -> Float32[np.ndarray, "n C"]:
        away = np.stack(descriptors) - self._mean
        return np.asarray(away / np.maximum(np.linalg.norm(away, axis=1, keepdims=True), _EPS))


def _shares(owner: Int32[np.ndarray, "H W"], tracks: int, grid: tuple[int, int]) -> Float32[np.ndarray, "N hw"]:
    """Per track, the weight of each cell of the grid: its share of the track's pixels. Zeros for a track without any."""
    (height, width), (h, w) = owner.shape, grid
    m = max(1, round(height / h / _LATTICE))
    y = ((np.arange(h * m) + 0.5) * height / (h * m)).astype(int)
    x = ((np.arange(w * m) + 0.5) * width / (w * m)).astype(int)
    cell = (np.arange(h * m)[:, None] // m) * w + np.arange(w * m)[None] // m
    count = np.bincount((owner[y[:, None], x[None]] * (h * w) + cell).ravel(), minlength=(tracks + 1) * h * w)
    out = count.reshape(tracks + 1, h * w)[1:].astype(np.float32)
    return np.asarray(out / np.maximum(out.sum(1, keepdims=True), 1))
