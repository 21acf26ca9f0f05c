"""Find the pixel of the image that a clicked point in space means, or say what is wrong with it.

A person clicks a point in a 3-D view (RViz: Publish Point). It becomes a click in the image where
the camera sees it: in front of the camera, inside the image, and not hidden by what is measured or
by what the map has there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, UInt16

from vos_ros.config import MappingConfig
from vos_ros.geometry.camera import project
from vos_ros.geometry.se3 import inverse, transform
from vos_ros.geometry.uncertainty import depth_tolerance, point_sigma
from vos_ros.pipeline.input_checks import sanitize_frame
from vos_ros.types import Frame, FrameResult, Points, Projection

_REACH_PX = 4
"""Pixels around a click in which its surface is looked for: a hand and a pose are not more exact.
"""
_CLICK_ERROR_M = 0.1
"""Error of a clicked point along the ray, m: people click voxels, boxes and clouds of earlier
images, beside the sensor's and the pose's errors."""
_POSE_SIGMAS = 2.0
"""Standard deviations of the camera's pose that a point may be off by."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SeenFrame:
    """Hold a frame and what the pipeline found in it: what a click is held against."""

    frame: Frame
    """The frame, without what could not be used of it."""
    labels: UInt16[np.ndarray, "H W"]
    """Label value of the track that owns each pixel, 0 for none."""
    track_of: Mapping[int, int]
    """Track id by label value."""
    T_map_camera: Float64[np.ndarray, "4 4"] | None
    """Pose of the camera as corrected; None where it is not known."""
    pose_cov: Float64[np.ndarray, "6 6"] | None
    """Its covariance (convention of ``Frame.pose_cov``)."""
    projections: tuple[Projection, ...]
    """Map objects in view, as predicted."""

    @classmethod
    def of(cls, frame: Frame, result: FrameResult) -> SeenFrame:
        """Take of a frame and its result what later clicks need."""
        return cls(
            frame=sanitize_frame(frame)[0],
            labels=result.labels(),
            track_of={t.label_value: t.track_id for t in result.tracks},
            T_map_camera=result.T_map_camera,
            pose_cov=result.pose_cov,
            projections=result.projections,
        )

    def owners(self, points: Points, followed: Collection[int]) -> tuple[int, ...]:
        """Return the track that owns each pixel of clicks; 0: none that is ``followed`` still."""
        x, y = np.rint(points.xy).astype(int).T
        tracks = (self.track_of.get(int(v), 0) for v in self.labels[y, x])
        return tuple(t if t in followed else 0 for t in tracks)


def click_on(
    point: Float64[np.ndarray, "3"], seen: SeenFrame, *, in_map: bool, config: MappingConfig
) -> Points:
    """Return the click in the image of a frame that a point in space means.

    With measured depth it is the nearest pixel, a few px around the point's projection, whose
    surface is as far away as the point. Where depth is not known the map's rendering decides, and
    without both the projection is taken as it is.

    Args:
        point: m, in the map frame or in the camera's optical frame.
        seen: the frame.
        in_map: whether the point is in the map frame.
        config: near plane and tolerance of depth.

    Raises ValueError: says why the camera doesn't see the point there, and the way out.
    """
    frame, slack_m = seen.frame, _CLICK_ERROR_M
    if not np.isfinite(point).all():
        raise ValueError(f"{_text(point)} is not finite: wanted x, y and z in m")
    camera = np.asarray(point, np.float64)
    if in_map:
        if seen.T_map_camera is None:
            raise ValueError(
                "the image has no camera pose, so a point in the map can't be found in it: click"
                f" again when poses arrive, or give a point in the camera's frame"
                f" {frame.frame_id!r}"
            )
        camera = transform(inverse(seen.T_map_camera), camera[None])[0]
        if seen.pose_cov is not None:
            distance = np.array([np.linalg.norm(camera)])
            slack_m += _POSE_SIGMAS * float(point_sigma(seen.pose_cov, distance)[0])
    z = float(camera[2])
    if z <= config.near_m:
        raise ValueError(
            f"it lies behind the camera (z = {z:.2f} m in its optical frame): turn the camera to"
            " the object"
        )
    xy = project(camera[None], frame.intrinsics)[0]
    height, width = frame.shape
    if not ((xy >= -0.5) & (xy < (width - 0.5, height - 0.5))).all():
        raise ValueError(
            f"it lies outside the {width}x{height} image, at pixel ({xy[0]:.0f}, {xy[1]:.0f}):"
            " turn the camera to the object"
        )
    slack_m += depth_tolerance(z, config.depth_tolerance_m, config.depth_tolerance_per_m2)
    found = _pixel_of_surface(xy, z, slack_m, seen)
    return Points(found[None].astype(np.float32), np.array([True]))


def check_clicks(
    points: Points, owners: Sequence[int], projections: Collection[Projection]
) -> None:
    """Check that clicks mean one object, and one that is not followed yet.

    Args:
        points: the clicks, inside the image.
        owners: track that owns the pixel of each click, 0 for none.
        projections: map objects in view.

    Raises ValueError: the positive clicks lie on a track, or on several tracks or map objects.
    """
    tracks = sorted({t for t, on in zip(owners, points.positive, strict=True) if on and t})
    if len(tracks) > 1:
        raise ValueError(
            f"the positive points lie on {len(tracks)} objects, tracks {_listed(tracks)}: give one"
            " prompt per object"
        )
    if tracks:
        raise ValueError(
            f"this object is already followed, as track {tracks[0]}: where that is another object,"
            " remove the track first (~/remove_objects) or give a mask or a box"
        )
    objects = sorted(
        {
            p.object_id
            for x, y in np.rint(points.xy[points.positive]).astype(int).tolist()
            for p in projections
            if _at(p, x, y)[0]
        }
    )
    if len(objects) > 1:
        raise ValueError(
            f"the positive points lie on {len(objects)} map objects, {_listed(objects)}: give one"
            " prompt per object"
        )


def _pixel_of_surface(
    xy: Float64[np.ndarray, "2"], z: float, slack_m: float, seen: SeenFrame
) -> Float64[np.ndarray, "2"]:
    """Return the pixel where a surface is seen ``z`` m away, next to ``xy``.

    Raises ValueError: a nearer surface is there, or only a farther one, or none.
    """
    x, y = (int(v) for v in np.rint(xy))
    depth = seen.frame.depth
    if depth is not None:
        x0, y0 = max(x - _REACH_PX, 0), max(y - _REACH_PX, 0)
        window = depth[y0 : y + _REACH_PX + 1, x0 : x + _REACH_PX + 1]
        known = window > 0
        rows, columns = np.nonzero(known & (np.abs(window - z) <= slack_m))
        if len(rows):
            near = np.argmin((columns + x0 - x) ** 2 + (rows + y0 - y) ** 2)
            return np.array([columns[near] + x0, rows[near] + y0], np.float64)
        if known.any():
            measured = float(depth[y, x]) if depth[y, x] > 0 else float(np.median(window[known]))
            where = f"at pixel ({x}, {y}) the depth is {measured:.2f} m and the point is {z:.2f} m"
            if measured < z:
                raise ValueError(
                    f"it is hidden behind a wall or another object: {where} away. Click the object"
                    " from where the camera sees it"
                )
            raise ValueError(
                f"nothing stands there: {where} away. Click a surface; if there is one, map and"
                " camera pose don't fit"
            )
    predicted = [(d, p.object_id) for p in seen.projections if (d := _at(p, x, y)[1]) > 0]
    if any(abs(d - z) <= slack_m for d, _ in predicted):
        return np.array([x, y], np.float64)
    nearest = min(predicted, default=None)
    if nearest is not None and nearest[0] < z:
        raise ValueError(
            f"it is hidden behind map object {nearest[1]}: the map has it {nearest[0]:.2f} m away"
            f" at pixel ({x}, {y}), and the point is {z:.2f} m away"
        )
    if depth is not None:
        raise ValueError(
            f"no surface is measured at pixel ({x}, {y}), {z:.2f} m away: it is the sky, or too"
            " far, too near or too dark for the sensor. Click a surface with depth, or give a"
            " points prompt in the image (~/add_objects)"
        )
    return np.array([x, y], np.float64)


def _at(p: Projection, x: int, y: int) -> tuple[bool, float]:
    """Return whether a projection is visible at a pixel, and its depth there (m, 0: none)."""
    x0, y0, x1, y1 = p.roi
    if not (x0 <= x < x1 and y0 <= y < y1):
        return False, 0.0
    return bool(p.mask_roi[y - y0, x - x0]), float(p.depth_roi[y - y0, x - x0])


def _text(point: Float64[np.ndarray, "3"]) -> str:
    return "(" + ", ".join(f"{v:.2f}" for v in point.tolist()) + ")"


def _listed(ids: Sequence[int]) -> str:
    return ", ".join(map(str, ids[:-1])) + f" and {ids[-1]}"
