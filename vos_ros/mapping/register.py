"""The camera pose corrected by the image: projections are laid over what the segmenter follows.

Every followed object is a landmark. How far its projection must move to cover the segmenter's evidence for it is a measurement of 2
px, linear in the small motion of the camera (the Jacobian of ``geometry.camera.pixel_covariance``); a Kalman update with the pose's
covariance turns all of them into one motion. The segmenter learned where its objects are from projections under poses of the same quality,
so its evidence is off by what the mean of those n poses was: the measurements share an error of covariance H P H^T / n, which
keeps the first frames from being believed and lets independent errors of the poses average out.
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

_MIN_CELLS = 1.5  # area of a projection, in cells, below which it says nothing of its place
_REFINE = 2  # cells that one object may differ from the common shift


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
    """The corrected pose and its covariance; None where nothing can be measured.

    ``evidence`` holds, per map object that is followed, the log odds of the object against everything else in cells of ``cell_px`` px.
    ``n_poses`` >= 1 is how many independent poses the segmenter's idea of the objects' places rests on.
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
            landmarks.append(_middle(p, intrinsics, T_map_camera))
            fields.append((odds, share))
    if not landmarks:
        return None
    J = motion_jacobian(np.array(landmarks), T_map_camera, intrinsics)
    spread = (J @ pose_cov @ J.transpose(0, 2, 1)).mean(0) * (1 + 1 / n_poses) / cell_px**2
    reach = int(np.clip(np.ceil(3 * isotropic_sigma(spread)), 1, min(fields[0][0].shape) // 3))
    scores = np.stack([_correlate(odds, share, reach + _REFINE + 1) for odds, share in fields])
    shifts = np.arange(-reach - _REFINE - 1, reach + _REFINE + 2)
    dx, dy = np.meshgrid(shifts, shifts)
    offsets = np.stack([dx, dy], -1).astype(float)
    # shared by all: the most probable common shift, so that no object runs to its double on its own
    common = scores.sum(0) - 0.5 * np.einsum(
        "ijk,kl,ijl->ij", offsets, np.linalg.inv(spread), offsets
    )
    inner = slice(_REFINE + 1, -_REFINE - 1)
    row, column = np.unravel_index(common[inner, inner].argmax(), common[inner, inner].shape)
    row, column = int(row) + _REFINE + 1, int(column) + _REFINE + 1
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


def _middle(
    p: Projection, intrinsics: Intrinsics, T_map_camera: Float64[np.ndarray, "4 4"]
) -> Float64[np.ndarray, "3"]:
    """The map point at the median depth behind the middle of the visible pixels."""
    ys, xs = np.nonzero(p.mask_roi)
    pixel = np.array([xs.mean() + p.roi[0], ys.mean() + p.roi[1]])
    point = unproject(pixel, np.median(p.depth_roi[ys, xs]), intrinsics)
    return np.asarray(T_map_camera[:3, :3] @ point + T_map_camera[:3, 3])


def _correlate(
    odds: Float32[np.ndarray, "h w"], share: Float32[np.ndarray, "h w"], reach: int
) -> Float[np.ndarray, "s s"]:
    """Sum of the log odds under the projection moved by -reach..reach cells down and right; off the image nothing is known: 0."""
    padded = cv2.copyMakeBorder(odds, reach, reach, reach, reach, cv2.BORDER_CONSTANT, value=0)
    return np.asarray(cv2.matchTemplate(padded, share, cv2.TM_CCORR))


def _peak(
    score: Float[np.ndarray, "s s"], row: int, column: int
) -> tuple[Float64[np.ndarray, "2"], Float64[np.ndarray, "2 2"]]:
    """The object's own best shift (x, y; cells) relative to the common one, to a fraction of a cell, and the precision (1/cells^2) with
    which it is known: the curvature of the log likelihood, so that an outline that runs out of the image tells nothing along
    itself. At most what half a cell of error allows."""
    window = score[row - _REFINE : row + _REFINE + 1, column - _REFINE : column + _REFINE + 1]
    y, x = np.unravel_index(window.argmax(), window.shape)
    cy, cx = row - _REFINE + int(y), column - _REFINE + int(x)
    n = score[cy - 1 : cy + 2, cx - 1 : cx + 2].astype(np.float64)
    gradient = np.array([n[1, 2] - n[1, 0], n[2, 1] - n[0, 1]]) / 2
    xy = (n[2, 2] - n[2, 0] - n[0, 2] + n[0, 0]) / 4
    curvature = -np.array(
        [[n[1, 2] - 2 * n[1, 1] + n[1, 0], xy], [xy, n[2, 1] - 2 * n[1, 1] + n[0, 1]]]
    )
    values, vectors = np.linalg.eigh(curvature)
    step = vectors @ ((vectors.T @ gradient) / np.maximum(values, 1.0))
    precision = vectors @ np.diag(np.clip(values, 1e-3, 4.0)) @ vectors.T
    return np.array([x - _REFINE, y - _REFINE]) + np.clip(step, -0.5, 0.5), precision
