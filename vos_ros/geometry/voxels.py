"""Cubes of space: which cube a point falls into, and one integer for each cube.

A cube is named by the integers (i, j, k) of its lowest corner in units of its side. A key packs the
three into one int64, so that sets of cubes are sorted arrays. The order of keys is that of (i, j,
k), and a step from a cube to a neighbour adds the same number to every key.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int64

_BITS = 21
MAX_INDEX = 1 << (_BITS - 1)
"""Cubes along each axis, each way from the origin, that have a key: 10 km with cubes of 1 cm."""


def voxel_indices(points: Float[np.ndarray, "P 3"], size_m: float) -> Int64[np.ndarray, "P 3"]:
    """Compute the cubes of side ``size_m`` that points (m) fall into.

    >>> voxel_indices(np.array([[0.03, -0.01, 0.0]]), 0.02).tolist()
    [[1, -1, 0]]
    """
    return np.floor(points / size_m).astype(np.int64)


def voxel_keys(indices: Int64[np.ndarray, "*S 3"]) -> Int64[np.ndarray, "*S"]:
    """Pack cubes into keys >= 0. All indices must be smaller than ``MAX_INDEX`` in magnitude.

    >>> a, b, c = voxel_keys(np.array([[-1, 5, 5], [0, 0, -1], [0, 0, 0]])).tolist()
    >>> 0 <= a < b < c, c - b
    (True, 1)
    """
    shifted = indices + MAX_INDEX
    return np.asarray(shifted[..., 0] << 2 * _BITS | shifted[..., 1] << _BITS | shifted[..., 2])


def indices_of_keys(keys: Int64[np.ndarray, "V"]) -> Int64[np.ndarray, "V 3"]:
    """Unpack keys; the inverse of ``voxel_keys``.

    >>> indices_of_keys(voxel_keys(np.array([[-1, 5, 7]]))).tolist()
    [[-1, 5, 7]]
    """
    low = (1 << _BITS) - 1
    return np.stack([keys >> 2 * _BITS, keys >> _BITS & low, keys & low], 1) - MAX_INDEX


def with_neighbours(keys: Int64[np.ndarray, "V"]) -> Int64[np.ndarray, "W"]:
    """Return the cubes with the 26 around each of them, sorted, each once.

    >>> len(with_neighbours(voxel_keys(np.array([[0, 0, 0]]))))
    27
    >>> len(with_neighbours(voxel_keys(np.array([[0, 0, 0], [0, 0, 1]]))))
    36
    """
    return np.unique((keys[:, None] + _NEIGHBOUR_STEPS).ravel())


_NEIGHBOUR_STEPS = voxel_keys(
    np.stack(np.meshgrid(*[np.arange(-1, 2)] * 3), -1).reshape(-1, 3)
) - voxel_keys(np.zeros(3, np.int64))


def share_among(keys: Int64[np.ndarray, "V"], others: Int64[np.ndarray, "W"]) -> float:
    """Compute which share of the keys is among others, which are sorted; 0 where there are none.

    >>> share_among(np.array([1, 2, 3, 9]), np.array([2, 3, 4]))
    0.5
    """
    if not len(keys) or not len(others):
        return 0.0
    at = np.minimum(np.searchsorted(others, keys), len(others) - 1)
    return float(np.count_nonzero(others[at] == keys) / len(keys))


def first_in_each_voxel(
    points: Float[np.ndarray, "P 3"], size_m: float
) -> tuple[Int64[np.ndarray, "V 3"], Int64[np.ndarray, "V"]]:
    """Find the first point in each cube of side ``size_m``.

    Returns the cubes, sorted, and the rows of the points.

    >>> cubes, rows = first_in_each_voxel(np.array([[0.5, 0, 0], [1.5, 0, 0], [0.6, 0, 0]]), 1.0)
    >>> cubes.tolist(), rows.tolist()
    ([[0, 0, 0], [1, 0, 0]], [0, 1])
    """
    cubes, rows = np.unique(voxel_indices(points, size_m), axis=0, return_index=True)
    return cubes, rows
