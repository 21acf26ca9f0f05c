"""The camera pose corrected by the image: projections are shifted onto the segmented objects.

Every followed object is a landmark. The shift that moves its projection over the segmenter's
evidence is a measurement of 2 px, linear in the small motion of the camera (the Jacobian of
``geometry.camera.pixel_covariance``). A Kalman update with the pose's covariance turns all of them
into one motion.

The segmenter learned where its objects are from projections under n poses of the same quality, so
its evidence has the mean error of those poses: all measurements share an error of covariance
H P H^T / n. It keeps a correction from trusting the first frames, and lets independent errors of
the poses average out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np
from jaxtyping import Float, Float32, Float64

from vos_ros.geometry.camera import motion_jacobian, unproject
from vos_ros.geometry.se3 import perturb
from vos_ros.geometry.uncertainty import isotropic_sigma
from vos_ros.types import Intrinsics, MapObject, Projection

_MIN_CELLS = 1.5
"""Least area of a projection, in cells, from which its place can be measured."""
_MAX_OWN_SHIFT = 2
"""Largest difference, in cells, of one object's shift from that of all together."""
_SEARCH_SIGMAS = 3
"""Largest common shift that is tried, in standard deviations of the projections."""
_MIN_PRECISION, _MAX_PRECISION = 1e-3, 4.0
"""Bounds of the precision of a measurement, 1/cells^2. The largest is that of an error of half a
cell: no measurement is finer than the cells."""


def register(
    objects: Sequence[MapObject],
    projections: Mapping[int, Projection],
    evidence: Mapping[int, Float32[np.ndarray, "h w"]],
    cell_px: float,
    T_map_camera: Float64[np.ndarray, "4 4"],
    pose_cov: Float64[np.ndarray, "6 6"],
    intrinsics: Intrinsics,
    n_poses: int,
) -> tuple[Float64[np.ndarray, "4 4"], Float64[np.ndarray, "6 6"]] | None:
    """Correct the camera pose by what the segmenter follows.

    Returns the pose and its covariance; None where nothing can be measured.

    Args:
        objects: of the map.
        projections: of the objects at the given pose, by object id.
        evidence: by id of a followed object, the log odds of the object against everything else, in
            cells of the image.
        cell_px: side of a cell, px.
        T_map_camera: the pose before.
        pose_cov: its covariance (convention of ``Frame.pose_cov``).
        intrinsics: of the camera.
        n_poses: number, >= 1, of independent poses that the segmenter has learned the objects'
            places from.
    """
    landmarks, fields = [], []
    for o in objects:
        p, odds = projections.get(o.id), evidence.get(o.id)
        if p is None or odds is None:
            continue
        share = cv2.resize(
            p.mask.astype(np.float32), odds.shape[::-1], interpolation=cv2.INTER_AREA
        )
        if share.sum() >= _MIN_CELLS:
            landmarks.append(_centre(p, intrinsics, T_map_camera))
            fields.append((odds, share))
    if not landmarks:
        return None
    J = motion_jacobian(np.array(landmarks), T_map_camera, intrinsics)
    spread = (J @ pose_cov @ J.transpose(0, 2, 1)).mean(0) * (1 + 1 / n_poses) / cell_px**2
    reach = int(
        np.clip(np.ceil(_SEARCH_SIGMAS * isotropic_sigma(spread)), 1, min(fields[0][0].shape) // 3)
    )
    scores = np.stack(
        [_correlate(odds, share, reach + _MAX_OWN_SHIFT + 1) for odds, share in fields]
    )
    shifts = np.arange(-reach - _MAX_OWN_SHIFT - 1, reach + _MAX_OWN_SHIFT + 2)
    dx, dy = np.meshgrid(shifts, shifts)
    offsets = np.stack([dx, dy], -1).astype(float)
    # The most probable shift of all objects together: none moves to its double by itself.
    common = scores.sum(0) - 0.5 * np.einsum(
        "ijk,kl,ijl->ij", offsets, np.linalg.inv(spread), offsets
    )
    inner = slice(_MAX_OWN_SHIFT + 1, -_MAX_OWN_SHIFT - 1)
    row, column = np.unravel_index(common[inner, inner].argmax(), common[inner, inner].shape)
    row, column = int(row) + _MAX_OWN_SHIFT + 1, int(column) + _MAX_OWN_SHIFT + 1
    measured, information = zip(*(_peak(s, row, column) for s in scores), strict=True)
    z = (np.array(measured) + offsets[row, column]).reshape(-1) * cell_px
    H = J.reshape(-1, 6)
    R = np.zeros((len(z), len(z)))
    for i, precision in enumerate(information):
        R[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = np.linalg.inv(precision) * cell_px**2
    shared = H @ pose_cov @ H.T
    gain = np.linalg.solve(shared * (1 + 1 / n_poses) + R, H @ pose_cov).T
    posterior = pose_cov - gain @ H @ pose_cov
    return perturb(T_map_camera, gain @ z), 0.5 * (posterior + posterior.T)


def _centre(
    p: Projection, intrinsics: Intrinsics, T_map_camera: Float64[np.ndarray, "4 4"]
) -> Float64[np.ndarray, "3"]:
    """Return the map point (m) at the median depth behind the mean of the visible pixels."""
    ys, xs = np.nonzero(p.mask_roi)
    pixel = np.array([xs.mean() + p.roi[0], ys.mean() + p.roi[1]])
    point = unproject(pixel, np.median(p.depth_roi[ys, xs]), intrinsics)
    return np.asarray(T_map_camera[:3, :3] @ point + T_map_camera[:3, 3])


def _correlate(
    odds: Float32[np.ndarray, "h w"], share: Float32[np.ndarray, "h w"], reach: int
) -> Float[np.ndarray, "s s"]:
    """Sum the log odds under the projection, shifted by -reach..reach cells down and right.

    Off the image the odds are even: 0.
    """
    padded = cv2.copyMakeBorder(odds, reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(cv2.matchTemplate(padded, share, cv2.TM_CCORR))


def _peak(
    score: Float[np.ndarray, "s s"], row: int, column: int
) -> tuple[Float64[np.ndarray, "2"], Float64[np.ndarray, "2 2"]]:
    """Find one object's own best shift (x, y; cells) relative to the common one, and its precision.

    The shift is refined to a fraction of a cell. The precision (1/cells^2) is the curvature of the
    log likelihood: an outline that leaves the image measures nothing along itself.
    """
    window = score[
        row - _MAX_OWN_SHIFT : row + _MAX_OWN_SHIFT + 1,
        column - _MAX_OWN_SHIFT : column + _MAX_OWN_SHIFT + 1,
    ]
    y, x = np.unravel_index(window.argmax(), window.shape)
    cy, cx = row - _MAX_OWN_SHIFT + int(y), column - _MAX_OWN_SHIFT + int(x)
    n = score[cy - 1 : cy + 2, cx - 1 : cx + 2].astype(np.float64)
    gradient = np.array([n[1, 2] - n[1, 0], n[2, 1] - n[0, 1]]) / 2
    xy = (n[2, 2] - n[2, 0] - n[0, 2] + n[0, 0]) / 4
    curvature = -np.array(
        [[n[1, 2] - 2 * n[1, 1] + n[1, 0], xy], [xy, n[2, 1] - 2 * n[1, 1] + n[0, 1]]]
    )
    values, vectors = np.linalg.eigh(curvature)
    step = vectors @ ((vectors.T @ gradient) / np.maximum(values, 1.0))
    precision = vectors @ np.diag(np.clip(values, _MIN_PRECISION, _MAX_PRECISION)) @ vectors.T
    return np.array([x - _MAX_OWN_SHIFT, y - _MAX_OWN_SHIFT]) + np.clip(step, -0.5, 0.5), precision
