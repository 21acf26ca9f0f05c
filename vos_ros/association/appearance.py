"""What objects look like: one descriptor per object and frame, pooled from the segmenter's own features, and several views kept of each."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np
import torch
from jaxtyping import Float, Float32, Int, Integer

_LATTICE = 4  # px between the samples of masks that a coarse feature map is pooled with, about
_MEMORY = 0.05  # weight of a new frame in the mean of all features
SAME_VIEW_SIMILARITY = 0.95
"""A view as similar as this to one that is kept shows nothing new."""
_EPS = 1e-12

Descriptors = Mapping[int, Float32[np.ndarray, "C"]]


class AppearanceGallery:
    """Views of map objects, ``views`` of each at most.

    A descriptor is the mean of the features in a mask. Two are compared by the cosine between their differences from the mean of all that
    was seen so far (of raw features, everything in a kitchen looks alike). An object is as similar as its most similar view.
    """

    def __init__(self, views: int) -> None:
        self._most = views
        self._mean: Float32[np.ndarray, "C"] | None = None
        self._views: dict[int, list[Float32[np.ndarray, "C"]]] = {}
        self._stacked: Float32[np.ndarray, "V C"] | None = (
            None  # all views, while they stay the same
        )

    def describe(
        self,
        features: Float[torch.Tensor, "C h w"] | None,
        owner: Integer[np.ndarray, "H W"],
        track_ids: Sequence[int],
    ) -> Descriptors:
        """A descriptor per track that has pixels; none without features. ``owner`` holds 0 or 1 + the index into ``track_ids``. The one
        wait for the device is for all of them."""
        if features is None or not track_ids:
            return {}
        row, cell, share = _shares(
            owner, len(track_ids), (int(features.shape[1]), int(features.shape[2]))
        )
        pooled, mean = (_pooled if features.device.type == "cpu" else _pooled_there)(
            features, row, cell, share
        )
        if self._mean is None or self._mean.shape != mean.shape:
            self._mean, self._views, self._stacked = mean, {}, None
        else:
            self._mean = (1 - _MEMORY) * self._mean + _MEMORY * mean
        return {
            track_ids[r - 1]: own for r, own in zip(np.unique(row).tolist(), pooled, strict=True)
        }

    def similarities(self, descriptors: Descriptors) -> Mapping[tuple[int, int], float]:
        """(track, object) -> -1..1, of every object that has a view."""
        if not descriptors or not self._views:
            return {}
        if self._stacked is None:
            self._stacked = np.stack([v for views in self._views.values() for v in views])
        first = np.cumsum([0, *(len(views) for views in self._views.values())])[:-1]
        cosines = (
            self._towards(np.stack(list(descriptors.values()))) @ self._towards(self._stacked).T
        )
        rows, columns = ({i: k for k, i in enumerate(ids)} for ids in (descriptors, self._views))
        return _Table(rows, columns, np.maximum.reduceat(cosines, first, axis=1))

    def learn(self, object_id: int, descriptor: Float32[np.ndarray, "C"]) -> None:
        """A sure view of an object. Where there are as many as may be, it takes the place of the one that is most like another."""
        views = self._views.setdefault(object_id, [])
        descriptor = descriptor.copy()  # it lies in an array of all tracks
        if not views:
            views.append(descriptor)
            self._stacked = None
            return
        towards = self._towards(np.stack([*views, descriptor]))
        cosines = towards @ towards.T
        np.fill_diagonal(cosines, -1.0)
        if cosines[-1].max() >= SAME_VIEW_SIMILARITY:
            return
        views.append(descriptor)
        self._stacked = None
        if len(views) > self._most:
            del views[int(cosines.max(1).argmax())]

    def keep_only(self, object_ids: Collection[int]) -> None:
        """Forgets objects that are no more."""
        if not self._views.keys() <= set(object_ids):
            self._views, self._stacked = (
                {i: v for i, v in self._views.items() if i in object_ids},
                None,
            )

    def _towards(self, descriptors: Float32[np.ndarray, "n C"]) -> Float32[np.ndarray, "n C"]:
        away = np.asarray(descriptors - self._mean)
        away /= np.maximum(np.sqrt(np.einsum("ij,ij->i", away, away)), _EPS)[:, None]
        return away


@dataclass(frozen=True, eq=False, slots=True)
class _Table(Mapping[tuple[int, int], float]):
    """A matrix by the ids of its rows and columns: few of its values are asked for."""

    rows: dict[int, int]
    columns: dict[int, int]
    matrix: Float32[np.ndarray, "R C"]

    def __getitem__(self, pair: tuple[int, int]) -> float:
        return float(self.matrix[self.rows[pair[0]], self.columns[pair[1]]])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return product(self.rows, self.columns)

    def __len__(self) -> int:
        return self.matrix.size


def _pooled(
    features: Float[torch.Tensor, "C h w"],
    row: Int[np.ndarray, "n"],
    cell: Int[np.ndarray, "n"],
    share: Float32[np.ndarray, "n"],
) -> tuple[Float32[np.ndarray, "R C"], Float32[np.ndarray, "C"]]:
    """The features' mean over each row that occurs (as of ``_shares``), and over all cells."""
    cells = features.flatten(1).float().numpy().T
    # no product of matrices: it would wait for the other cores, which are busy
    return np.add.reduceat(
        cells[cell] * share[:, None], np.flatnonzero(np.diff(row, prepend=0))
    ), cells.mean(0)


def _pooled_there(
    features: Float[torch.Tensor, "C h w"],
    row: Int[np.ndarray, "n"],
    cell: Int[np.ndarray, "n"],
    share: Float32[np.ndarray, "n"],
) -> tuple[Float32[np.ndarray, "R C"], Float32[np.ndarray, "C"]]:
    """The same on the features' device: only the means come to the host."""
    cells = features.flatten(1).float()
    rows = np.unique(row)
    weights = np.zeros((len(rows) + 1, cells.shape[1]), np.float32)
    weights[np.searchsorted(rows, row), cell] = share
    weights[-1] = 1.0 / cells.shape[1]
    pooled = (torch.from_numpy(weights).to(cells.device) @ cells.T).cpu().numpy()
    return pooled[:-1], pooled[-1]


def _shares(
    owner: Integer[np.ndarray, "H W"], tracks: int, grid: tuple[int, int]
) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"], Float32[np.ndarray, "n"]]:
    """Row (1 + index of a track), cell of the grid, and the share of the row's pixels that lies in the cell, row after row."""
    pixel, cell = _lattice(owner.shape, grid)
    own = owner.ravel()[pixel]
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
    """The pixels of an image that are looked at, the same number in each cell of a grid that covers it; and their cells."""
    (height, width), (h, w) = size, grid
    m = max(1, round(height / h / _LATTICE))
    y = ((np.arange(h * m) + 0.5) * height / (h * m)).astype(int)
    x = ((np.arange(w * m) + 0.5) * width / (w * m)).astype(int)
    cell = (np.arange(h * m)[:, None] // m) * w + np.arange(w * m)[None] // m
    return (y[:, None] * width + x).ravel(), cell.ravel()
