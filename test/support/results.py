"""What a pipeline hands out, made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch

from vos_ros.types import (
    Association,
    AssociationStatus,
    Frame,
    FrameResult,
    Observation,
    Segmentation,
    Track,
    TrackSource,
    TrackState,
)


def one_hot_segmentation(ids: tuple[int, ...], rows: np.ndarray) -> Segmentation:
    """Return a segmentation that is certain: ``rows`` (H W) says each pixel's row, 0 background."""
    one_hot = torch.nn.functional.one_hot(torch.from_numpy(rows), len(ids) + 1)
    return Segmentation(ids, one_hot.permute(2, 0, 1).float())


def make_track(track_id: int, **changes: object) -> Track:
    """Return a confirmed track of a map object; ``changes`` replace fields."""
    track = Track(
        track_id,
        label_value=track_id + 100,
        class_id=0,
        state=TrackState.CONFIRMED,
        source=TrackSource.MAP,
        score=1.0,
        age_frames=9,
        misses=0,
        area_px=500,
        roi=(0, 0, 9, 9),
        visible=1.0,
        occluded=0.0,
        truncated=0.0,
    )
    return replace(track, **changes)


def make_result(
    frame: Frame, labels: np.ndarray, named: Mapping[int, tuple[int, int]]
) -> FrameResult:
    """Return the result of a pipeline that paints exactly these labels.

    ``named``: track id and map object id of each label value. The first track has an observation.
    """
    ids = tuple(track for track, _ in named.values())
    background = np.isin(labels, list(named), invert=True)
    probs = np.stack([background, *(labels == v for v in named)]).astype(np.float32)
    tracks, associations = [], []
    for value, (track_id, object_id) in named.items():
        ys, xs = np.nonzero(labels == value)
        roi = (0, 0, 0, 0)
        if len(xs):
            roi = (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
        tracks.append(
            make_track(
                track_id,
                label_value=value,
                class_id=3,
                score=0.9,
                age_frames=5,
                area_px=len(xs),
                roi=roi,
                visible=0.7,
                occluded=0.2,
                truncated=0.1,
            )
        )
        matched = AssociationStatus.MATCHED
        related = (track_id, 77)
        associations.append(Association(track_id, object_id, matched, 0.8, related_ids=related))
    point, centroid = np.zeros((1, 3), np.float32), np.array([1.0, 2.0, 3.0])
    observations = tuple(Observation(i, point, centroid, np.eye(3), None, 0.9) for i in ids[:1])
    return FrameResult(
        frame.stamp_ns,
        Segmentation(ids, torch.from_numpy(probs)),
        tuple(tracks),
        (),
        observations,
        tuple(associations),
        map_session_id="kitchen",
        map_revision=7,
        T_map_camera=frame.T_map_camera,
        pose_cov=frame.pose_cov,
        timings_ms={"segmentation": 2.0, "total": 3.0},
    )
