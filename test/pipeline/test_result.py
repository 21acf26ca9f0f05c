"""frame_result and track_summary: what others get."""

from __future__ import annotations

import math

import numpy as np
from support.pipeline_values import (
    A_STAMP_NS,
    config,
    frame,
    instance_masks,
    map_object,
    map_view,
    match,
    no_pose,
    projection,
    rect,
    segmentation,
    track_manager,
)

from vos_ros.association.status import MapConflicts
from vos_ros.mapping.object_map import ObjectMap
from vos_ros.pipeline.map_view import MapView
from vos_ros.pipeline.result import frame_result, track_summary
from vos_ros.types import (
    AssociationStatus,
    FrameResult,
    MapUpdate,
    Observation,
    TrackSource,
    TrackState,
)

A, B = rect(2, 2, 22, 22), rect(30, 2, 50, 22)
MASKS = instance_masks({4: A, 2: B}, p=0.75)


def tracks_of_two():
    tracks = track_manager({1: 0, 2: 5, 3: 0, 4: 6}, state=TrackState.CONFIRMED)
    tracks[4].label_value, tracks[4].class_id = 77, 16
    return tracks


def objects() -> ObjectMap:
    out = ObjectMap()
    some = tuple(map_object(i, A) for i in (5, 6, 8))
    out.apply(MapUpdate(123, "session", 9, True, some, frame_id="odom"))
    return out


def result(view: MapView, conflicts: MapConflicts = MapConflicts()) -> FrameResult:  # noqa: B008
    observations = (Observation.of(2, np.eye(3, dtype=np.float32), 0.5),)
    return frame_result(
        frame(),
        view,
        segmentation({4: B, 2: A}),
        MASKS,
        observations,
        tracks_of_two(),
        objects(),
        (match(4, 6, 0.9), match(2)),
        conflicts,
        config(),
    )


def test_the_result_names_frame_and_map() -> None:
    view = map_view(projection(6, A))
    r = result(view)
    assert r.stamp_ns == A_STAMP_NS and r.T_map_camera is view.T_map_camera
    assert r.pose_cov is view.pose_cov and [p.object_id for p in r.projections] == [6]
    assert (r.map_session_id, r.map_revision, r.map_stamp_ns) == ("session", 9, 123)
    assert r.map_frame == "odom" and [o.track_id for o in r.observations] == [2]
    assert r.warnings == () and r.timings_ms == {}


def test_labels_are_those_of_image_and_map() -> None:
    r = result(map_view())
    assert [t.track_id for t in r.tracks] == [4, 2] == list(r.segmentation.object_ids)
    assert np.array_equal(r.labels(), 77 * A + 2 * B)


def test_objects_that_no_track_follows_have_an_association_of_their_own() -> None:
    r = result(map_view(projection(6, A)))
    assert [(a.track_id, a.map_object_id) for a in r.associations] == [(4, 6), (2, 5), (0, 8)]
    assert r.associations[0].status == AssociationStatus.MATCHED


def test_without_a_pose_nothing_is_known_about_them() -> None:
    r = result(no_pose())
    assert [a.track_id for a in r.associations] == [4, 2] and r.T_map_camera is None


def test_conflicts_with_the_map_are_reported() -> None:
    r = result(map_view(), MapConflicts(absent=frozenset({5, 8})))
    status = {a.map_object_id: a.status for a in r.associations}
    assert status[5] == status[8] == AssociationStatus.ABSENT != status[6]
    r = result(map_view(), MapConflicts(merged={4: {8}}))
    assert (r.associations[0].status, r.associations[0].related_ids) == (
        AssociationStatus.MERGE,
        (8,),
    )


def test_the_summary_of_a_track() -> None:
    tracks = tracks_of_two()
    tracks[4].age_frames, tracks[4].misses = 12, 3
    p = projection(6, A, visible=0.5, occluded=0.3, truncated=0.2)
    t = track_summary(tracks[4], 1, MASKS, map_view(p, projection(5, B)))
    assert (t.track_id, t.label_value, t.class_id) == (4, 77, 16)
    assert (t.state, t.source) == (TrackState.CONFIRMED, TrackSource.MAP)
    assert (t.score, t.area_px, t.roi) == (0.75, 400, (2, 2, 22, 22))
    assert (t.age_frames, t.misses) == (12, 3)
    assert (t.visible, t.occluded, t.truncated) == (0.5, 0.3, 0.2)
    assert track_summary(tracks[2], 2, MASKS, map_view()).roi == (30, 2, 50, 22)


def test_a_track_without_pixels_or_projection() -> None:
    masks = instance_masks({1: rect(0, 0, 0, 0)})
    t = track_summary(tracks_of_two()[1], 1, masks, map_view(projection(6, A)))
    assert (t.area_px, t.score, t.roi) == (0, 0.0, (0, 0, 0, 0))
    assert math.isnan(t.visible) and math.isnan(t.occluded) and math.isnan(t.truncated)
