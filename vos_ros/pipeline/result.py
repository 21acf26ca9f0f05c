"""Build the result of a frame."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from vos_ros.association.interface import Match
from vos_ros.association.status import MapConflicts, assign_status
from vos_ros.config import Config
from vos_ros.mapping.object_map import ObjectMap
from vos_ros.pipeline.instance_masks import InstanceMasks
from vos_ros.pipeline.map_view import MapView
from vos_ros.tracking.track_manager import TrackManager, TrackRecord
from vos_ros.types import Frame, FrameResult, Observation, Segmentation, Track

OnResult = Callable[[FrameResult], None]
"""Receives a frame's result as soon as it exists."""


def frame_result(
    frame: Frame,
    view: MapView,
    segmentation: Segmentation,
    masks: InstanceMasks,
    observations: tuple[Observation, ...],
    tracks: TrackManager,
    objects: ObjectMap,
    matches: Sequence[Match],
    conflicts: MapConflicts,
    config: Config,
) -> FrameResult:
    """Build the result from the values of the stages, without times and other stages' warnings.

    Args:
        frame: checked.
        view: what the map predicts.
        segmentation: by the image alone.
        masks: by image and map.
        observations: the lifted tracks.
        tracks: after they were advanced by the frame.
        objects: the map.
        matches: the associations, one per track of ``masks``.
        conflicts: what contradicts the map.
        config: of the pipeline.
    """
    return FrameResult(
        stamp_ns=frame.stamp_ns,
        segmentation=segmentation,
        instance_index=masks.instance_index,
        tracks=tuple(
            track_summary(tracks[t], row, masks, view)
            for row, t in enumerate(masks.track_ids, start=1)
        ),
        projections=tuple(view.projections.values()),
        observations=observations,
        # Without a pose, nothing is known about objects that no track follows.
        associations=assign_status(
            tracks,
            objects if view.T_map_camera is not None else (),
            view.projections,
            matches,
            config,
            conflicts,
        ),
        map_session_id=objects.session_id,
        map_revision=objects.revision,
        map_stamp_ns=objects.stamp_ns,
        map_frame=objects.frame_id,
        T_map_camera=view.T_map_camera,
        pose_cov=view.pose_cov,
        warnings=tuple(view.self_check.findings.values()),
        self_check=view.self_check,
    )


def track_summary(track: TrackRecord, row: int, masks: InstanceMasks, view: MapView) -> Track:
    """Return the public values of a track after a frame; ``row`` is its row in ``masks``.

    Fractions are NaN where the track has no map object in the image.
    """
    p = view.projections.get(track.map_object_id)
    return Track(
        track_id=track.track_id,
        label_value=track.label_value,
        class_id=track.class_id,
        state=track.state,
        source=track.source,
        score=float(masks.scores[row]),
        age_frames=track.age_frames,
        misses=track.misses,
        area_px=int(masks.areas_px[row]),
        roi=masks.boxes.get(row, (0, 0, 0, 0)),
        visible=p.visible if p else math.nan,
        occluded=p.occluded if p else math.nan,
        truncated=p.truncated if p else math.nan,
    )
