"""Appearance of tracks and map objects: descriptors pooled from the segmenter's own features."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Integer

_SAMPLE_PX = 4  # about: distance of the pixels of a mask that are sampled
_MEAN_RATE = 0.05  # weight of a new frame in the running mean of all features
_MIN_NORM = 1e-12  # keeps the direction of a zero vector finite
SAME_VIEW_SIMILARITY = 0.95
"""Similarity from which a descriptor adds nothing to one that is kept already."""

Descriptors = Mapping[int, Float32[np.ndarray, "C"]]
"""Track id -> mean of the features over the track's pixels."""


class AppearanceGallery:
    """Keep descriptors of each map object from different views, and compare tracks with them.

    Two descriptors are compared by the cosine between their differences from the running mean of
    all features: raw features of all objects in one room are alike. The similarity of a track and
    an object is that to the most similar view.
    """

    def __init__(self, max_views: int) -> None:
        """Keep at most ``max_views`` descriptors per object."""
        self._max_views = max_views
        self._mean: Float32[np.ndarray, "C"] | None = None
        self._views: dict[int, list[Float32[np.ndarray, "C"]]] = {}
        self._stacked: Float32[np.ndarray, "V C"] | None = None  # all views, until one changes

    def describe(
        self,
        features: Float[torch.Tensor, "C h w"] | None,
        instance_index: Integer[np.ndarray, "H W"],
        track_ids: Sequence[int],
    ) -> Descriptors:
        """Return a descriptor per track with pixels, and update the mean of all features.

        Features of another size than before start the gallery over.

        Args:
            features: features of the frame on the segmenter's device, None: there are none.
            instance_index: track of each pixel: 0 background, else 1 + its index in ``track_ids``.
            track_ids: ids of the tracks.
        """
        if features is None or not track_ids:
            return {}
        grid = int(features.shape[1]), int(features.shape[2])
        row, cell, share = cell_shares(instance_index, len(track_ids), grid)
        pool = pool_on_host if features.device.type == "cpu" else pool_on_device
        pooled, mean = pool(features, row, cell, share)
        if self._mean is None or self._mean.shape != mean.shape:
            self._mean, self._views, self._stacked = mean, {}, None
        else:
            self._mean = (1 - _MEAN_RATE) * self._mean + _MEAN_RATE * mean
        rows = np.unique(row).tolist()
        return {track_ids[r - 1]: own for r, own in zip(rows, pooled, strict=True)}

    def similarities(self, descriptors: Descriptors) -> Mapping[tuple[int, int], float]:
        """Return (track id, object id) -> similarity, -1..1, for every object with a view."""
        if not descriptors or not self._views:
            return {}
        if self._stacked is None:
            self._stacked = np.stack([v for views in self._views.values() for v in views])
        first = np.cumsum([0, *(len(views) for views in self._views.values())])[:-1]
        tracks = self._directions(np.stack(list(descriptors.values())))
        cosines = tracks @ self._directions(self._stacked).T
        rows, columns = ({i: k for k, i in enumerate(ids)} for ids in (descriptors, self._views))
        return _PairTable(rows, columns, np.maximum.reduceat(cosines, first, axis=1))

    def learn(self, object_id: int, descriptor: Float32[np.ndarray, "C"]) -> None:
        """Add a descriptor from a certain match, unless it is like one that is kept.

        Where there are too many, one of the two that are most alike is dropped.
        """
        views = self._views.setdefault(object_id, [])
        descriptor = descriptor.copy()  # it is a view into an array of all tracks
        if not views:
            views.append(descriptor)
            self._stacked = None
            return
        directions = self._directions(np.stack([*views, descriptor]))
        cosines = directions @ directions.T
        np.fill_diagonal(cosines, -1.0)
        if cosines[-1].max() >= SAME_VIEW_SIMILARITY:
            return
        views.append(descriptor)
        self._stacked = None
        if len(views) > self._max_views:
            del views[int(cosines.max(1).argmax())]

    def keep_only(self, object_ids: Collection[int]) -> None:
        """Forget objects that are no longer in the map."""
        if not self._views.keys() <= set(object_ids):
            self._views = {i: v for i, v in self._views.items() if i in object_ids}
            self._stacked = None

    def view_count(self, object_id: int) -> int:
        """Return how many descriptors of an object are kept."""
        return len(self._views.get(object_id, ()))

    def _directions(self, descriptors: Float32[np.ndarray, "n C"]) -> Float32[np.ndarray, "n C"]:
        """Return the unit vectors from the mean of all features to each descriptor."""
        away = np.asarray(descriptors - self._mean)
        away /= np.maximum(np.sqrt(np.einsum("ij,ij->i", away, away)), _MIN_NORM)[:, None]
        return away


@dataclass(frozen=True, eq=False, slots=True)
class _PairTable(Mapping[tuple[int, int], float]):
    """Read a matrix by the ids of its rows and columns; only few values are ever read."""

    rows: dict[int, int]
    columns: dict[int, int]
    matrix: Float32[np.ndarray, "R C"]

    def __getitem__(self, pair: tuple[int, int]) -> float:
        return float(self.matrix[self.rows[pair[0]], self.columns[pair[1]]])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return product(self.rows, self.columns)

    def __len__(self) -> int:
        return self.matrix.size


def pool_on_host(
    features: Float[torch.Tensor, "C h w"],
    row: Int[np.ndarray, "n"],
    cell: Int[np.ndarray, "n"],
    share: Float32[np.ndarray, "n"],
) -> tuple[Float32[np.ndarray, "R C"], Float32[np.ndarray, "C"]]:
    """Return the mean of the features over each instance, and over all cells.

    Args:
        features: features on the CPU.
        row: row of each entry, sorted; ``cell_shares`` gives the last three.
        cell: cell of each entry.
        share: weight of the cell in the row's mean.
    """
    cells = features.flatten(1).float().numpy().T
    # no matrix product: it would wait for other cores, which are busy
    pooled = np.add.reduceat(cells[cell] * share[:, None], np.flatnonzero(np.diff(row, prepend=0)))
    return pooled, cells.mean(0)


def pool_on_device(
    features: Float[torch.Tensor, "C h w"],
    row: Int[np.ndarray, "n"],
    cell: Int[np.ndarray, "n"],
    share: Float32[np.ndarray, "n"],
) -> tuple[Float32[np.ndarray, "R C"], Float32[np.ndarray, "C"]]:
    """Return the same as ``pool_on_host`` from features on any device.

    Only the means come to the host.

    Args:
        features: features on their device.
        row: row of each entry, sorted.
        cell: cell of each entry.
        share: weight of the cell in the row's mean.
    """
    cells = features.flatten(1).float()
    rows = np.unique(row)
    weights = np.zeros((len(rows) + 1, cells.shape[1]), np.float32)
    weights[np.searchsorted(rows, row), cell] = share
    weights[-1] = 1.0 / cells.shape[1]
    pooled = (torch.from_numpy(weights).to(cells.device) @ cells.T).cpu().numpy()
    return pooled[:-1], pooled[-1]


def cell_shares(
    instance_index: Integer[np.ndarray, "H W"], tracks: int, grid: tuple[int, int]
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"], Float32[np.ndarray, "n"]]:
    """Return how each instance's sampled pixels are distributed over the cells of a feature map.

    Args:
        instance_index: track of each pixel: 0 background, else 1 + its index.
        tracks: number of tracks.
        grid: height and width of the feature map, cells.

    Returns:
        Instance index, cell (row by row) and the share of the instance's samples in the cell, of
        every such pair that is not 0; sorted by instance, then cell.
    """
    pixel, cell = _lattice(instance_index.shape, grid)
    own = instance_index.ravel()[pixel]
    taken = np.flatnonzero(own)
    cells = grid[0] * grid[1]
    count = np.bincount(
        own[taken].astype(int) * cells + cell[taken], minlength=(tracks + 1) * cells
    )
    where = np.flatnonzero(count)
    row, count = where // cells, count[where]
    return row, where % cells, (count / np.bincount(row, count)[row]).astype(np.float32)


@lru_cache(maxsize=4)
def _lattice(
    size: tuple[int, int], grid: tuple[int, int]
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
    """Return the sampled pixels of an image, the same number in each cell, and their cells."""
    (height, width), (h, w) = size, grid
    m = max(1, round(height / h / _SAMPLE_PX))
    y = ((np.arange(h * m) + 0.5) * height / (h * m)).astype(int)
    x = ((np.arange(w * m) + 0.5) * width / (w * m)).astype(int)
    cell = (np.arange(h * m)[:, None] // m) * w + np.arange(w * m)[None] // m
    return (y[:, None] * width + x).ravel(), cell.ravel()
