"""Corners: the camera's motion between two images, and where an image belongs, from points that have depth (OpenCV).

An estimate of its own beside the dense one: it reaches farther, and fails in other ways (few corners, things that move).
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from vos_ros.geometry import se3
from vos_ros.rgbd_odometry.views import View

_CORNERS, _CORNER_GAP_PX = 400, 6
_DESCRIPTORS = 600
_WINDOW = (15, 15)
_LEVELS = 4
_RATIO = 0.8  # of the best to the second best match (Lowe 2004)
_FEWEST = 6


@dataclass(frozen=True, eq=False, slots=True)
class FeatureMotion:
    """``T_a_b`` maps coordinates of the second camera to the first; ``inliers`` corners of ``tried`` agree on it."""

    T_a_b: Float64[np.ndarray, "4 4"]
    inliers: int
    tried: int


@dataclass(frozen=True, eq=False, slots=True)
class Landmarks:
    """Corners of a view: px, points in its camera's frame (m; z 0 where unknown), ORB descriptors (Rublee 2011)."""

    xy: Float32[np.ndarray, "N 2"]
    points: Float64[np.ndarray, "N 3"]
    descriptors: UInt8[np.ndarray, "N 32"]


def motion(a: View, b: View) -> FeatureMotion | None:
    """The motion between two views by corners followed from a to b and back (Lucas-Kanade); None where too few can be."""
    corners = cv2.goodFeaturesToTrack(
        a.gray, _CORNERS, 0.005, _CORNER_GAP_PX, mask=(a.depth_mm > 0).astype(np.uint8)
    )
    if corners is None or len(corners) < _FEWEST:
        return None
    empty = np.empty_like(corners)
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        a.gray, b.gray, corners, empty.copy(), winSize=_WINDOW, maxLevel=_LEVELS
    )
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(
        b.gray, a.gray, there, empty, winSize=_WINDOW, maxLevel=_LEVELS
    )
    good = (
        (found[:, 0] > 0)
        & (found_back[:, 0] > 0)
        & (np.linalg.norm((corners - back)[:, 0], axis=1) < 1.0)
    )
    xy = corners[good, 0].astype(np.float32)
    return _pose(a.points(xy), there[good, 0], b)


def describe(view: View) -> Landmarks:
    """The view's corners with descriptors."""
    keypoints, descriptors = cv2.ORB.create(
        nfeatures=_DESCRIPTORS, fastThreshold=10
    ).detectAndCompute(view.gray, np.full_like(view.gray, 255))
    if descriptors is None or not keypoints:
        return Landmarks(
            np.zeros((0, 2), np.float32), np.zeros((0, 3)), np.zeros((0, 32), np.uint8)
        )
    xy = np.array([p.pt for p in keypoints], np.float32)
    return Landmarks(xy, view.points(xy), np.asarray(descriptors, np.uint8))


def place(a: Landmarks, b: Landmarks, view: View) -> FeatureMotion | None:
    """The motion from ``a`` to ``b``, the landmarks of ``view``, by matching descriptors; None where too few match."""
    if len(a.xy) < 2 or len(b.xy) < 2:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(a.descriptors, b.descriptors, k=2)
    kept = [
        p[0]
        for p in pairs
        if len(p) == 2 and p[0].distance < _RATIO * p[1].distance and a.points[p[0].queryIdx, 2] > 0
    ]
    if len(kept) < _FEWEST:
        return None
    return _pose(a.points[[m.queryIdx for m in kept]], b.xy[[m.trainIdx for m in kept]], view)


def _pose(
    points: Float64[np.ndarray, "N 3"], xy: Float32[np.ndarray, "N 2"], view: View
) -> FeatureMotion | None:
    """Where ``view``'s camera is, in the frame of the points: perspective-n-point with RANSAC, then least squares."""
    known = points[:, 2] > 0
    points, xy = points[known], np.ascontiguousarray(xy[known], np.float64)
    if len(points) < _FEWEST:
        return None
    K = view.intrinsics.matrix()
    cv2.setRNGSeed(0)  # the same images give the same pose
    ok, turn, shift, inliers = cv2.solvePnPRansac(
        points,
        xy,
        K,
        np.zeros(4),
        iterationsCount=200,
        reprojectionError=1.5,
        flags=cv2.SOLVEPNP_P3P,
    )
    if not ok or inliers is None or len(inliers) < _FEWEST:
        return None
    chosen = np.asarray(inliers)[:, 0]
    turn, shift = cv2.solvePnPRefineLM(points[chosen], xy[chosen], K, np.zeros(4), turn, shift)
    T_b_a = se3.from_rt(
        se3.so3_exp(np.asarray(turn, np.float64)[:, 0]), np.asarray(shift, np.float64)[:, 0]
    )
    return (
        FeatureMotion(se3.inverse(T_b_a), len(chosen), len(points))
        if np.isfinite(T_b_a).all()
        else None
    )
