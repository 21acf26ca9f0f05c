"""What mappers with message types of their own read of a frame: a label image of persistent ids, and objects as landmarks. No ROS here.

See docs/bridges.md for who reads what, and why the ids and the covariances are as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int32, UInt16

from vos_ros.config import BridgesConfig
from vos_ros.geometry import se3
from vos_ros.geometry.points import MAD_TO_SIGMA, known_depth
from vos_ros.types import (
    UNKNOWN_LABEL,
    Association,
    AssociationStatus,
    Frame,
    FrameResult,
    MapObject,
    Projection,
    Track,
    TrackState,
)

NAMELESS = 1 << 30
"""Things that were first seen as a track of no map object have the ids from here on: this plus the track's id."""
UNKNOWN_ROTATION = 9999.0
"""Variance (rad^2) of a rotation that was not measured, as rtabmap has it."""
_NOT_IT = frozenset({AssociationStatus.NEW, AssociationStatus.ABSENT, AssociationStatus.LOST})
"""Statuses of tracks whose pixels are not the object's."""
_MATCHED = frozenset({AssociationStatus.MATCHED, AssociationStatus.REIDENTIFIED})
_MAX_INT32 = 2**31 - 1
_MIN_SIGMA_PX = 0.5
_MIN_SIGMA_M = 0.005
_MIN_DEPTHS = 20
"""Pixels with measured and predicted depth from which a range is believed."""


class PersistentIds:
    """The id that each thing in view is shown under: it keeps the one with which it was first shown.

    That is its map object's id where the map knew it, else ``NAMELESS`` plus its track's id, and it stays that when the mapper makes an
    object of the track: a mapper that tells things apart by their ids alone must not see one thing under two. A second track that turns out
    to be the same object takes over the object's id. Ids are positive int32.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forgets what was shown: a new session's ids mean other things."""
        self._map_session = ""
        self._of_object: dict[int, int] = {}
        self._of_track: dict[int, int] = {}

    def shown(self, result: FrameResult, resolve: Callable[[int], int]) -> dict[int, int]:
        """track id -> the id that its pixels have in this frame; ``resolve`` gives the id that a map object was merged into."""
        if result.map_session_id != self._map_session:  # another map: its ids mean other objects
            self._of_object.clear()
            self._map_session = result.map_session_id
        bound = {
            a.track_id: a
            for a in result.associations
            if a.track_id and a.map_object_id and a.status not in _NOT_IT
        }
        live = {t.track_id for t in result.tracks}
        self._of_track = {t: i for t, i in self._of_track.items() if t in live}
        out: dict[int, int] = {}
        # where two tracks are said to be one object (SPLIT), the surer one is it
        for track_id in sorted(live, key=lambda t: (-bound[t].score if t in bound else 0.0, t)):
            before, a = self._of_track.get(track_id), bound.get(track_id)
            wanted = before
            if a is not None and (
                before is None or a.status in _MATCHED
            ):  # what is shown already isn't renamed on a guess
                wanted = self._of(resolve(a.map_object_id), before)
            if wanted is None or wanted in out.values():
                wanted = NAMELESS + track_id
            out[track_id] = self._of_track[track_id] = wanted
        return out

    def _of(self, object_id: int, before: int | None) -> int | None:
        """The id of a map object; where it has none yet, that of its track, or else its own. None: its own is too large for that."""
        if object_id not in self._of_object:
            if before is not None and before not in self._of_object.values():
                self._of_object[object_id] = before
            elif object_id < NAMELESS:
                self._of_object[object_id] = object_id
        return self._of_object.get(object_id)


def id_image(
    labels: UInt16[np.ndarray, "H W"], tracks: Sequence[Track], shown: dict[int, int]
) -> Int32[np.ndarray, "H W"]:
    """The label image with the shown ids: 0 background, and where nothing is known."""
    table = np.zeros(UNKNOWN_LABEL + 1, np.int32)
    for t in tracks:
        table[t.label_value] = shown[t.track_id]
    return np.asarray(table[labels])


@dataclass(frozen=True, eq=False, slots=True)
class Landmark:
    """A map object as this frame measured it: ``T_camera_object`` in the camera's optical frame, and the covariance of that (x y z m,
    rotation about x y z rad; fixed axes of the camera)."""

    object_id: int
    T_camera_object: Float64[np.ndarray, "4 4"]
    cov: Float64[np.ndarray, "6 6"]


def landmarks(
    frame: Frame,
    labels: UInt16[np.ndarray, "H W"],
    result: FrameResult,
    find: Callable[[int], MapObject | None],
    config: BridgesConfig,
) -> tuple[Landmark, ...]:
    """The objects of which the frame is sure, and where it measured them. Empty without depth or pose.

    Sure are confirmed tracks that match a static object with a high score, without a rival, that were matched often before, and that show
    most of the object inside the image.
    """
    if frame.depth is None or result.T_map_camera is None:
        return ()
    tracks = {t.track_id: t for t in result.tracks}
    projections = {p.object_id: p for p in result.projections}
    out = []
    for a in result.associations:
        track, item, p = (
            tracks.get(a.track_id),
            find(a.map_object_id),
            projections.get(a.map_object_id),
        )
        if track is None or item is None or p is None or not is_sure(a, track, item, config):
            continue
        measured = measure(p, labels == track.label_value, frame)
        if measured is not None:
            shift, sigma = measured
            T = se3.inverse(result.T_map_camera) @ item.T_map_object
            T[:3, 3] += shift
            cov = np.diag([*sigma**2, *[UNKNOWN_ROTATION] * 3])
            out.append(Landmark(item.id, T, cov))
    return tuple(out)


def is_sure(a: Association, track: Track, item: MapObject, config: BridgesConfig) -> bool:
    """The track is the object beyond doubt, the object doesn't move, its id is an int32, and most of it is in view."""
    return (
        a.status == AssociationStatus.MATCHED
        and item.id <= _MAX_INT32
        and track.state == TrackState.CONFIRMED
        and item.is_static
        and a.score >= config.landmark_score
        and a.score - a.runner_up_score >= config.landmark_margin
        and a.n_observations >= config.landmark_observations
        and track.visible >= config.landmark_visible
    )


def measure(
    p: Projection, mask: Bool[np.ndarray, "H W"], frame: Frame
) -> tuple[Float64[np.ndarray, "3"], Float64[np.ndarray, "3"]] | None:
    """How far from its projection a frame shows an object, and the standard deviations of that (m, camera's axes); None where too little
    was measured.

    Like is compared with like: the centre of the mask with the centre of the projection's visible part, both of what this view shows, and
    measured with predicted depth where there is both. So the result is a measurement of this frame, whatever pose the projection was made
    from. A mask that lacks a strip of an object of side s has an IoU lower by the strip's share and its centre off by half of that:
    sigma = (1 - IoU) s / 2 px. In depth, what the predicted surface is off the measured one.
    """
    assert frame.depth is not None
    x0, y0, x1, y1 = p.roi
    both = p.mask_roi & mask[y0:y1, x0:x1]
    depth = known_depth(frame.depth[y0:y1, x0:x1])
    deep = both & (depth > 0)
    if np.count_nonzero(deep) < _MIN_DEPTHS:
        return None
    residual = (depth[deep] - p.depth_roi[deep]).astype(np.float64)
    off = float(np.median(residual))
    sigma_z = max(MAD_TO_SIGMA * float(np.median(np.abs(residual - off))), _MIN_SIGMA_M)
    z = float(np.median(depth[deep]))
    area = np.count_nonzero(mask)
    iou = np.count_nonzero(both) / (area + p.area_px - np.count_nonzero(both))
    rows, columns = np.nonzero(mask)
    own_rows, own_columns = np.nonzero(p.mask_roi)
    du, dv = columns.mean() - own_columns.mean() - x0, rows.mean() - own_rows.mean() - y0
    sigma_px = max((1.0 - iou) * float(np.sqrt(area)) / 2, _MIN_SIGMA_PX)
    i = frame.intrinsics
    u, v = (columns.mean() - i.cx) / i.fx, (rows.mean() - i.cy) / i.fy
    shift = np.array([z * du / i.fx + u * off, z * dv / i.fy + v * off, off])
    return shift, np.array(
        [max(sigma_px * z / i.fx, _MIN_SIGMA_M), max(sigma_px * z / i.fy, _MIN_SIGMA_M), sigma_z]
    )
