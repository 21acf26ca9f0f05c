"""Measures map objects in the camera frame, as landmarks for pose graphs.

docs/bridges.md says who reads them, and why the covariances are as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, UInt16

from vos_ros.config import BridgesConfig
from vos_ros.geometry import se3
from vos_ros.geometry.points import MAD_TO_SIGMA, known_depth
from vos_ros.types import (
    Association,
    AssociationStatus,
    Frame,
    FrameResult,
    MapObject,
    Projection,
    Track,
    TrackState,
)

UNKNOWN_ROTATION_VARIANCE = 9999.0
"""Variance (rad^2) of a rotation that was not measured, as rtabmap has it."""
_MAX_LANDMARK_ID = 2**31 - 1
"""Largest id of a landmark: rtabmap's are int32."""
_MIN_SIGMA_PX = 0.5
"""Smallest standard deviation of a mask's centre: outlines are drawn on whole pixels."""
_MIN_SIGMA_M = 0.005
"""Smallest standard deviation of a position: depth cameras are no better."""
_MIN_DEPTH_PIXELS = 20
"""Fewest pixels with measured and predicted depth from which a range is computed."""


@dataclass(frozen=True, eq=False, slots=True)
class Landmark:
    """Hold a map object as one frame has measured it."""

    object_id: int
    """Id of the map object."""
    T_camera_object: Float64[np.ndarray, "4 4"]
    """Pose of the object in the camera's optical frame."""
    cov: Float64[np.ndarray, "6 6"]
    """Covariance of the pose: x y z (m), rotation about x y z (rad); fixed axes of the camera."""


def landmarks(
    frame: Frame,
    labels: UInt16[np.ndarray, "H W"],
    result: FrameResult,
    get_object: Callable[[int], MapObject | None],
    config: BridgesConfig,
) -> tuple[Landmark, ...]:
    """Measure the objects whose match is reliable (``is_reliable``) and whose range is known.

    Args:
        frame: the image and its depth; without depth there are no landmarks.
        labels: label image of the frame.
        result: what the pipeline has computed for it; without a pose there are no landmarks.
        get_object: gives a map object by its id, None where the map has none.
        config: thresholds.
    """
    if frame.depth is None or result.T_map_camera is None:
        return ()
    tracks = {t.track_id: t for t in result.tracks}
    projections = {p.object_id: p for p in result.projections}
    out = []
    for a in result.associations:
        track, projection = tracks.get(a.track_id), projections.get(a.map_object_id)
        item = get_object(a.map_object_id)
        if track is None or item is None or projection is None:
            continue
        if not is_reliable(a, track, item, config):
            continue
        measured = measure_offset(projection, labels == track.label_value, frame)
        if measured is not None:
            offset, sigma = measured
            T = se3.inverse(result.T_map_camera) @ item.T_map_object
            T[:3, 3] += offset
            cov = np.diag([*sigma**2, *[UNKNOWN_ROTATION_VARIANCE] * 3])
            out.append(Landmark(item.id, T, cov))
    return tuple(out)


def is_reliable(a: Association, track: Track, item: MapObject, config: BridgesConfig) -> bool:
    """Tell whether an association is certain enough for a landmark.

    The track is confirmed and MATCHED with a high score, far above the runner-up, in many frames;
    the object is static, most of it is visible, and its id is an int32.

    Args:
        a: the association.
        track: its track.
        item: its map object.
        config: thresholds.
    """
    return (
        a.status == AssociationStatus.MATCHED
        and item.id <= _MAX_LANDMARK_ID
        and track.state == TrackState.CONFIRMED
        and item.is_static
        and a.score >= config.landmark_score
        and a.score - a.runner_up_score >= config.landmark_margin
        and a.n_observations >= config.landmark_observations
        and track.visible >= config.landmark_visible
    )


def measure_offset(
    p: Projection, mask: Bool[np.ndarray, "H W"], frame: Frame
) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]] | None:
    """Measure how far from its projection a frame shows an object.

    Returns the offset and its standard deviations (m, axes of the camera); None where fewer than
    ``_MIN_DEPTH_PIXELS`` pixels have measured and predicted depth.

    The centre of the mask is compared with the centre of the projection's visible part, and
    measured with predicted depth where both are known. So the result is a measurement of this
    frame, whatever pose the projection was made from. A mask that lacks a strip of an object of
    side s has an IoU that is lower by the strip's share, and a centre that is off by half the
    strip: sigma = (1 - IoU) s / 2 px. In depth, sigma is that of measured minus predicted depth.
    """
    assert frame.depth is not None
    x0, y0, x1, y1 = p.roi
    both = p.mask_roi & mask[y0:y1, x0:x1]
    depth = known_depth(frame.depth[y0:y1, x0:x1])
    measured = both & (depth > 0)
    if np.count_nonzero(measured) < _MIN_DEPTH_PIXELS:
        return None
    residual = (depth[measured] - p.depth_roi[measured]).astype(np.float64)
    off = float(np.median(residual))
    sigma_z = max(MAD_TO_SIGMA * float(np.median(np.abs(residual - off))), _MIN_SIGMA_M)
    z = float(np.median(depth[measured]))
    area = np.count_nonzero(mask)
    iou = np.count_nonzero(both) / (area + p.area_px - np.count_nonzero(both))
    rows, columns = np.nonzero(mask)
    own_rows, own_columns = np.nonzero(p.mask_roi)
    du, dv = columns.mean() - own_columns.mean() - x0, rows.mean() - own_rows.mean() - y0
    sigma_px = max((1.0 - iou) * float(np.sqrt(area)) / 2, _MIN_SIGMA_PX)
    i = frame.intrinsics
    u, v = (columns.mean() - i.cx) / i.fx, (rows.mean() - i.cy) / i.fy
    offset = np.array([z * du / i.fx + u * off, z * dv / i.fy + v * off, off])
    sigma_x = max(sigma_px * z / i.fx, _MIN_SIGMA_M)
    sigma_y = max(sigma_px * z / i.fy, _MIN_SIGMA_M)
    return offset, np.array([sigma_x, sigma_y, sigma_z])
