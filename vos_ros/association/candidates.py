"""Candidate pairs of a track and a map object, with the pixel counts that terms need."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from vos_ros.association.interface import FrameEvidence
from vos_ros.association.overlap_counts import overlap_counts
from vos_ros.association.predicted_pixels import AGREES, CORE, FREE, MASK, NEAR

_BITS = (MASK, NEAR, CORE, AGREES, FREE)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class CandidatePairs:
    """Hold n pairs whose masks meet in the image or whose surfaces meet in space.

    This is the input of a term. Every array has one value per pair. Pixel counts are whole numbers;
    those of the projection and the shared ones are 0 for pairs whose masks do not meet.
    """

    frame: FrameEvidence
    """The frame that the pairs are from: images, tracks, map objects."""
    track_ids: Int64[np.ndarray, "n"]
    """Track of each pair."""
    object_ids: Int64[np.ndarray, "n"]
    """Map object of each pair."""
    masks_meet: Bool[np.ndarray, "n"]
    """Whether the track has pixels in the object's projection, dilated by 1 sigma of the pose."""
    track_px: Float64[np.ndarray, "n"]
    """Pixels of the track."""
    track_depth_px: Float64[np.ndarray, "n"]
    """Pixels of the track with measured depth."""
    mask_px: Float64[np.ndarray, "n"]
    """Pixels of the object's visible projection."""
    core_px: Float64[np.ndarray, "n"]
    """Pixels of the projection eroded by 1 sigma of the pose."""
    surface_px: Float64[np.ndarray, "n"]
    """Pixels where measured depth shows the object's surface."""
    free_px: Float64[np.ndarray, "n"]
    """Pixels where measured depth lies behind the object: it should be there and is not."""
    shared_mask_px: Float64[np.ndarray, "n"]
    """Pixels of the track in the projection."""
    shared_near_px: Float64[np.ndarray, "n"]
    """Pixels of the track in the projection dilated by 1 sigma of the pose."""
    shared_core_px: Float64[np.ndarray, "n"]
    """Pixels of the track in the eroded projection."""
    shared_surface_px: Float64[np.ndarray, "n"]
    """Pixels of the track where measured depth shows the object's surface."""
    shared_free_px: Float64[np.ndarray, "n"]
    """Pixels of the track where measured depth lies behind the object."""

    def __len__(self) -> int:
        return len(self.track_ids)

    @property
    def missing_px(self) -> Float64[np.ndarray, "n"]:
        """Pixels where the object should be, free space was measured, and the track is not."""
        return np.asarray(self.free_px - self.shared_free_px)

    @property
    def union_px(self) -> Float64[np.ndarray, "n"]:
        """Pixels of the track or of the projection. Missing pixels count as projection."""
        return np.asarray(self.track_px + self.mask_px - self.shared_mask_px + self.missing_px)

    def lookup(
        self, values: Mapping[tuple[int, int], float], default: float
    ) -> Float64[np.ndarray, "n"]:
        """Return the value of each pair from a mapping by (track id, object id)."""
        pairs = zip(self.track_ids.tolist(), self.object_ids.tolist(), strict=True)
        return np.array([values.get(pair, default) for pair in pairs], np.float64)


def share(
    part: Float64[np.ndarray, "n"], whole: Float64[np.ndarray, "n"]
) -> Float64[np.ndarray, "n"]:
    """Return part / whole, NaN where whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0))


def find_candidates(frame: FrameEvidence) -> CandidatePairs:
    """Return every pair whose masks meet, then every other pair whose surfaces meet in space.

    One pass over the predicted pixels counts all pairs, whatever the number of tracks.
    """
    track_px, track_depth_px = _track_areas(frame)
    crops = [(p.roi, p.codes) for p in frame.predicted_pixels]
    counts = overlap_counts(frame.instance_index, len(frame.track_ids) + 1, crops, _BITS)
    column, index = counts[_BITS.index(NEAR)].nonzero()
    predicted = np.array(
        [(p.mask_px, p.core_px, p.agrees_px, p.free_px) for p in frame.predicted_pixels],
        np.float64,
    ).reshape(-1, 4)
    predicted_ids = np.array([p.object_id for p in frame.predicted_pixels], np.int64)
    track_ids = np.array(frame.track_ids, np.int64)[index - 1]
    object_ids = predicted_ids[column]
    met = set(zip(track_ids.tolist(), object_ids.tolist(), strict=True))
    index_of = {t: k for k, t in enumerate(frame.track_ids, start=1)}
    unmet = [pair for pair in frame.overlaps_3d if pair not in met]
    n = len(met)
    numbers = np.zeros((9, n + len(unmet)))
    numbers[:, :n] = [*predicted[column].T, *counts[:, column, index]]
    index = np.concatenate([index, np.array([index_of[t] for t, _ in unmet], np.int64)])
    return CandidatePairs(
        frame=frame,
        track_ids=np.concatenate([track_ids, np.array([t for t, _ in unmet], np.int64)]),
        object_ids=np.concatenate([object_ids, np.array([o for _, o in unmet], np.int64)]),
        masks_meet=np.arange(len(index)) < n,
        track_px=track_px[index],
        track_depth_px=track_depth_px[index],
        mask_px=numbers[0],
        core_px=numbers[1],
        surface_px=numbers[2],
        free_px=numbers[3],
        shared_mask_px=numbers[4],
        shared_near_px=numbers[5],
        shared_core_px=numbers[6],
        shared_surface_px=numbers[7],
        shared_free_px=numbers[8],
    )


def _track_areas(frame: FrameEvidence) -> Float64[np.ndarray, "2 T1"]:
    """Return the pixels of each instance index, and those with measured depth; 0 for background."""
    out = np.zeros((2, len(frame.track_ids) + 1))
    for index, (x0, y0, x1, y1) in frame.boxes.items():
        own = frame.instance_index[y0:y1, x0:x1] == index
        out[0, index] = np.count_nonzero(own)
        if frame.measured is not None:
            out[1, index] = np.count_nonzero(own & frame.measured[y0:y1, x0:x1])
    return out
