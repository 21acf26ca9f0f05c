"""advance_tracks: one frame of the tracks' lives."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.pipeline_values import (
    config,
    instance_masks,
    map_view,
    match,
    no_pose,
    projection,
    rect,
    track_manager,
)

from vos_ros.association.interface import Match
from vos_ros.pipeline.map_view import MapView
from vos_ros.pipeline.track_update import advance_tracks
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import TrackState

CONFIG = config(tracking__min_px=20, tracking__lost_s=0.0)
MASK, NOTHING = rect(4, 4, 14, 14), rect(0, 0, 0, 0)
VISIBLE = projection(1, rect(0, 0, 20, 20))
HIDDEN = replace(VISIBLE, mask_roi=np.zeros((20, 20), bool), visible=0.0, occluded=1.0)


def advance(
    tracks: TrackManager, view: MapView, mask: np.ndarray, m: Match | None = None
) -> TrackManager:
    """Advance track 1 by a frame at 2 s."""
    advance_tracks(tracks, 2 * 10**9, view, instance_masks({1: mask}), (m or match(1),), CONFIG)
    return tracks


def confirmed(object_id: int = 1) -> TrackManager:
    tracks = track_manager({1: object_id}, CONFIG.tracking)
    tracks[1].confirmed, tracks[1].state = True, TrackState.CONFIRMED
    return tracks


def test_a_track_with_pixels_is_found() -> None:
    track = advance(confirmed(), map_view(VISIBLE), MASK, match(1, 1))[1]
    assert (track.misses, track.age_frames, track.n_observations) == (0, 1, 1)
    assert track.state == TrackState.CONFIRMED


def test_areas_go_by_the_row_of_the_track() -> None:
    tracks = track_manager({1: 1, 2: 2}, CONFIG.tracking)
    masks = instance_masks({2: MASK, 1: rect(40, 40, 44, 44)})
    advance_tracks(tracks, 2 * 10**9, map_view(), masks, (match(2, 2), match(1, 1)), CONFIG)
    assert (tracks[1].misses, tracks[2].misses) == (1, 0)


def test_a_match_agrees_from_the_match_score_on() -> None:
    score = CONFIG.association.match_score
    assert advance(confirmed(), map_view(VISIBLE), MASK, match(1, 1, score))[1].n_observations == 1
    low = advance(confirmed(), map_view(VISIBLE), MASK, match(1, 1, 0.99 * score))
    assert low[1].n_observations == 0
    assert advance(confirmed(), map_view(VISIBLE), MASK, match(1))[1].n_observations == 0


def test_a_match_with_another_object_is_remembered() -> None:
    track = advance(confirmed(), map_view(VISIBLE), MASK, match(1, 5))[1]
    assert (track.map_object_id, track.other_object_id) == (1, 5)


@pytest.mark.parametrize(
    ("object_id", "view", "state"),
    [
        (1, map_view(VISIBLE), TrackState.LOST),
        (1, map_view(HIDDEN), TrackState.OCCLUDED),
        (1, map_view(replace(HIDDEN, free=0.8)), TrackState.LOST),
        (1, map_view(replace(HIDDEN, free=0.4)), TrackState.OCCLUDED),
        (1, map_view(VISIBLE, absent=frozenset({1})), TrackState.OCCLUDED),
        (1, map_view(projection(2, MASK)), TrackState.OCCLUDED),
        (1, no_pose(), TrackState.LOST),
        (0, map_view(), TrackState.LOST),
        (0, no_pose(), TrackState.LOST),
    ],
    ids=[
        "visible",
        "hidden",
        "free space",
        "some free space",
        "absent",
        "out of view",
        "no pose",
        "no object",
        "no object, no pose",
    ],
)
def test_a_track_without_pixels_is_lost_where_nothing_explains_it(
    object_id: int, view: MapView, state: TrackState
) -> None:
    track = advance(confirmed(object_id), view, NOTHING)[1]
    assert track.misses == 1 and track.state == state


def test_tracks_that_are_not_segmented_stay_as_they_are() -> None:
    tracks = track_manager({1: 1, 2: 2}, CONFIG.tracking)
    advance(tracks, map_view(VISIBLE), MASK)
    assert (tracks[1].age_frames, tracks[2].age_frames) == (1, 0)
