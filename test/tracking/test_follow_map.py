"""TrackManager.follow_map: tracks follow a change of the map."""

from __future__ import annotations

import numpy as np
from support.pipeline_values import map_object, rect, track_manager

from vos_ros.types import MapChange

MASK = rect(0, 0, 9, 9)


def objects_of(tracks) -> dict[int, int]:
    return {r.track_id: r.map_object_id for r in tracks}


def test_tracks_of_objects_that_stay_are_left_as_they_are() -> None:
    tracks = track_manager({1: 5, 2: 0})
    o = map_object(5, MASK)
    assert tracks.follow_map(MapChange(changed=((o, o),), added=(map_object(6, MASK),))) == ()
    assert objects_of(tracks) == {1: 5, 2: 0}


def test_tracks_of_deleted_objects_end() -> None:
    tracks = track_manager({1: 5, 2: 6, 3: 0})
    assert tracks.follow_map(MapChange(deleted=(map_object(6, MASK),))) == (2,)
    assert len(tracks) == 3, "they are named, not removed"


def test_a_track_goes_with_its_object() -> None:
    tracks = track_manager({1: 5, 2: 6})
    change = MapChange(deleted=(map_object(6, MASK),), merged={6: 9})
    assert tracks.follow_map(change) == () and objects_of(tracks) == {1: 5, 2: 9}


def test_of_tracks_whose_objects_became_one_the_older_stays() -> None:
    tracks = track_manager({1: 6, 2: 5, 3: 7})
    change = MapChange(deleted=tuple(map_object(i, MASK) for i in (6, 7)), merged={6: 5, 7: 5})
    assert tracks.follow_map(change) == (2, 3) and tracks[1].map_object_id == 5


def test_in_a_new_session_all_tracks_of_the_map_end() -> None:
    tracks = track_manager({1: 5, 2: 0, 3: 6})
    o = map_object(5, MASK)
    assert tracks.follow_map(MapChange(new_session=True, changed=((o, o),))) == (1, 3)
    assert np.array_equal(sorted(objects_of(tracks)), [1, 2, 3])
