"""Motion of the camera from corners that have depth, by OpenCV.

This estimate is independent of the dense one. It reaches farther, and it fails in other cases:
where there are few corners, or where they move.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, Float64, UInt8

from vos_ros.geometry import se3
from vos_ros.rgbd_odometry.scaled_frames import ScaledFrame

_MAX_CORNERS = 400
_MIN_CORNER_DISTANCE_PX = 6
_MIN_CORNER_QUALITY = 0.005
"""Of the best corner's (Shi and Tomasi 1994)."""
_MAX_DESCRIPTORS = 600
_FLOW_WINDOW = (15, 15)
_FLOW_LEVELS = 4
_MAX_RETURN_ERROR_PX = 1.0
"""A corner that is followed to the other image and back must end this near to where it began."""
_MAX_MATCH_RATIO = 0.8
"""Distance of the best match over that of the second best (Lowe 2004)."""
_MIN_POINTS = 6
"""Number of points from which a pose is estimated."""
_REPROJECTION_ERROR_PX = 1.5
_RANSAC_ITERATIONS = 200


@dataclass(frozen=True, eq=False, slots=True)
class FeatureMotion:
    """Motion between two images."""

    T_a_b: Float64[np.ndarray, "4 4"]
    """Maps coordinates of the second camera to the first."""
    inliers: int
    """Number of corners that agree on it."""
    tried: int
    """Number of corners that could have agreed."""


@dataclass(frozen=True, eq=False, slots=True)
class Landmarks:
    """Corners of an image."""

    xy: Float32[np.ndarray, "N 2"]
    """Positions, px."""
    points: Float64[np.ndarray, "N 3"]
    """Points in the camera's frame, m; z is 0 where the depth is unknown."""
    descriptors: UInt8[np.ndarray, "N 32"]
    """ORB descriptors (Rublee et al. 2011)."""


def follow_corners(a: ScaledFrame, b: ScaledFrame) -> FeatureMotion | None:
    """Estimate the motion from a to b by corners followed there and back (Lucas and Kanade 1981).

    Returns None where too few can be followed.
    """
    corners = cv2.goodFeaturesToTrack(
        a.gray,
        _MAX_CORNERS,
        _MIN_CORNER_QUALITY,
        _MIN_CORNER_DISTANCE_PX,
        mask=(a.depth_mm > 0).astype(np.uint8),
    )
    if corners is None or len(corners) < _MIN_POINTS:
        return None
    empty = np.empty_like(corners)
    there, found, _ = cv2.calcOpticalFlowPyrLK(
        a.gray, b.gray, corners, empty.copy(), winSize=_FLOW_WINDOW, maxLevel=_FLOW_LEVELS
    )
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(
        b.gray, a.gray, there, empty, winSize=_FLOW_WINDOW, maxLevel=_FLOW_LEVELS
    )
    returned = np.linalg.norm((corners - back)[:, 0], axis=1) < _MAX_RETURN_ERROR_PX
    good = (found[:, 0] > 0) & (found_back[:, 0] > 0) & returned
    xy = corners[good, 0].astype(np.float32)
    return _solve_pose(a.points(xy), there[good, 0], b)


def describe(frame: ScaledFrame) -> Landmarks:
    """Detect the corners of an image, with descriptors."""
    detector = cv2.ORB.create(nfeatures=_MAX_DESCRIPTORS, fastThreshold=10)
    everywhere = np.full_like(frame.gray, 255)
    keypoints, descriptors = detector.detectAndCompute(frame.gray, everywhere)
    if descriptors is None or not keypoints:
        none = np.zeros((0, 2), np.float32)
        return Landmarks(none, np.zeros((0, 3)), np.zeros((0, 32), np.uint8))
    xy = np.array([p.pt for p in keypoints], np.float32)
    return Landmarks(xy, frame.points(xy), np.asarray(descriptors, np.uint8))


def match_landmarks(a: Landmarks, b: Landmarks, frame_b: ScaledFrame) -> FeatureMotion | None:
    """Estimate the motion from a to b by matching descriptors; None where too few match.

    ``frame_b`` is the image of ``b``.
    """
    if len(a.xy) < 2 or len(b.xy) < 2:
        return None
    pairs = cv2.BFMatcher(cv2.NORM_HAMMING).knnMatch(a.descriptors, b.descriptors, k=2)
    kept = [
        p[0]
        for p in pairs
        if len(p) == 2
        and p[0].distance < _MAX_MATCH_RATIO * p[1].distance
        and a.points[p[0].queryIdx, 2] > 0
    ]
    if len(kept) < _MIN_POINTS:
        return None
    points = a.points[[m.queryIdx for m in kept]]
    return _solve_pose(points, b.xy[[m.trainIdx for m in kept]], frame_b)


def _solve_pose(
    points: Float64[np.ndarray, "N 3"], xy: Float32[np.ndarray, "N 2"], frame: ScaledFrame
) -> FeatureMotion | None:
    """Estimate where the camera of ``frame`` is in the frame of the points.

    Perspective-n-point with RANSAC, then least squares over the inliers.
    """
    known = points[:, 2] > 0
    points, xy = points[known], np.ascontiguousarray(xy[known], np.float64)
    if len(points) < _MIN_POINTS:
        return None
    K, no_distortion = frame.intrinsics.matrix(), np.zeros(4)
    cv2.setRNGSeed(0)  # the same images give the same pose
    ok, turn, shift, inliers = cv2.solvePnPRansac(
        points,
        xy,
        K,
        no_distortion,
        iterationsCount=_RANSAC_ITERATIONS,
        reprojectionError=_REPROJECTION_ERROR_PX,
        flags=cv2.SOLVEPNP_P3P,
    )
    if not ok or inliers is None or len(inliers) < _MIN_POINTS:
        return None
    chosen = np.asarray(inliers)[:, 0]
    turn, shift = cv2.solvePnPRefineLM(points[chosen], xy[chosen], K, no_distortion, turn, shift)
    R = se3.so3_exp(np.asarray(turn, np.float64)[:, 0])
    T_b_a = se3.from_rt(R, np.asarray(shift, np.float64)[:, 0])
    if not np.isfinite(T_b_a).all():
        return None
    return FeatureMotion(se3.inverse(T_b_a), len(chosen), len(points))
