"""Ids that stay with their objects, whatever the mapper and the tracker do."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from vos_ros.sinks.persistent_ids import FIRST_TRACK_BASED_ID, PersistentIds, id_image
from vos_ros.types import (
    UNKNOWN_LABEL,
    Association,
    AssociationStatus,
    FrameResult,
    Segmentation,
    Track,
    TrackSource,
    TrackState,
)

S = AssociationStatus


def track(track_id: int) -> Track:
    return Track(
        track_id=track_id,
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


def result(*rows: tuple[int, int, AssociationStatus], session: str = "map") -> FrameResult:
    """A frame's result of rows (track, map object, status), all with score 0.9."""
    tracks = tuple(track(t) for t, _, _ in rows if t)
    return FrameResult(
        stamp_ns=0,
        segmentation=Segmentation(tuple(t.track_id for t in tracks), torch.zeros(1, 2, 2)),
        tracks=tracks,
        projections=(),
        observations=(),
        associations=tuple(Association(t, o, s, 0.9) for t, o, s in rows),
        map_session_id=session,
    )


def same(map_object_id: int) -> int:
    return map_object_id


@pytest.fixture
def ids() -> PersistentIds:
    return PersistentIds()


def test_a_map_object_has_its_id_from_its_first_tentative_frame(ids: PersistentIds) -> None:
    assert ids.update(result((1, 7, S.TENTATIVE)), same) == {1: 7}
    assert ids.update(result((1, 7, S.MATCHED)), same) == {1: 7}
    assert ids.update(result((4, 7, S.MATCHED)), same) == {4: 7}, "whatever track follows it"


def test_a_new_object_keeps_its_id_when_the_mapper_makes_a_map_object_of_it(
    ids: PersistentIds,
) -> None:
    first = FIRST_TRACK_BASED_ID + 3
    assert ids.update(result((3, 0, S.NEW)), same) == {3: first}
    assert ids.update(result((3, 9, S.TENTATIVE)), same) == {3: first}
    assert ids.update(result((3, 9, S.MATCHED)), same) == {3: first}
    assert ids.update(result((5, 9, S.MATCHED)), same) == {5: first}, "under another track"
    assert ids.update(result((6, 9, S.REIDENTIFIED)), same) == {6: first}


@pytest.mark.parametrize("status", [S.NEW, S.ABSENT, S.LOST])
def test_a_track_whose_pixels_are_not_the_objects_does_not_get_its_id(
    ids: PersistentIds, status: AssociationStatus
) -> None:
    assert ids.update(result((3, 9, status)), same) == {3: FIRST_TRACK_BASED_ID + 3}


@pytest.mark.parametrize("status", [S.OCCLUDED, S.OUT_OF_VIEW, S.MERGE, S.SPLIT, S.TENTATIVE])
def test_only_a_match_renames_a_track(ids: PersistentIds, status: AssociationStatus) -> None:
    ids.update(result((3, 0, S.NEW)), same)
    assert ids.update(result((3, 9, status)), same) == {3: FIRST_TRACK_BASED_ID + 3}
    ids.update(result((1, 7, S.MATCHED)), same)  # the object has its id; its track goes
    ids.update(result((3, 0, S.NEW)), same)
    assert ids.update(result((3, 7, status)), same) == {3: FIRST_TRACK_BASED_ID + 3}
    assert ids.update(result((3, 7, S.MATCHED)), same) == {3: 7}


def test_a_tentative_association_renames_no_track(ids: PersistentIds) -> None:
    ids.update(result((3, 0, S.NEW), (1, 7, S.MATCHED)), same)
    named = {1: 7, 3: FIRST_TRACK_BASED_ID + 3}
    assert ids.update(result((3, 7, S.TENTATIVE), (1, 7, S.OCCLUDED)), same) == named
    assert ids.update(result((3, 0, S.NEW), (1, 7, S.MATCHED)), same) == named


def test_no_id_is_given_twice_in_a_frame(ids: PersistentIds) -> None:
    split = result((1, 7, S.SPLIT), (2, 7, S.SPLIT))
    assert ids.update(split, same) == {1: 7, 2: FIRST_TRACK_BASED_ID + 2}


def test_of_two_tracks_on_one_object_the_higher_score_gets_its_id(ids: PersistentIds) -> None:
    split = result((1, 7, S.SPLIT), (2, 7, S.SPLIT))
    one, two = split.associations
    split = replace(split, associations=(replace(one, score=0.5), two))
    assert ids.update(split, same) == {1: FIRST_TRACK_BASED_ID + 1, 2: 7}


def test_merged_objects_have_one_id(ids: PersistentIds) -> None:
    ids.update(result((1, 7, S.MATCHED), (2, 8, S.MATCHED)), same)
    merged = result((2, 8, S.MATCHED))
    assert ids.update(merged, lambda i: 7 if i == 8 else i) == {2: 7}


def test_two_objects_do_not_share_the_id_of_one_track(ids: PersistentIds) -> None:
    first = FIRST_TRACK_BASED_ID + 3
    ids.update(result((3, 0, S.NEW)), same)
    assert ids.update(result((3, 9, S.MATCHED)), same) == {3: first}
    assert ids.update(result((3, 8, S.MATCHED)), same) == {3: 8}


def test_a_map_object_without_a_track_has_no_id(ids: PersistentIds) -> None:
    assert ids.update(result((0, 7, S.OUT_OF_VIEW)), same) == {}


def test_a_track_that_returns_after_it_ended_starts_anew(ids: PersistentIds) -> None:
    ids.update(result((3, 0, S.NEW)), same)
    ids.update(result(), same)
    assert ids.update(result((3, 9, S.MATCHED)), same) == {3: 9}


def test_another_map_means_other_objects(ids: PersistentIds) -> None:
    ids.update(result((3, 0, S.NEW)), same)
    ids.update(result((3, 9, S.MATCHED)), same)
    assert ids.update(result((8, 9, S.MATCHED), session="another"), same) == {8: 9}


def test_another_session_of_tracks_starts_over(ids: PersistentIds) -> None:
    ids.update(result((3, 0, S.NEW)), same)
    ids.clear()
    assert ids.update(result((3, 9, S.MATCHED)), same) == {3: 9}


@pytest.mark.parametrize("large", [FIRST_TRACK_BASED_ID, 2**32 - 1])
def test_objects_with_large_ids_have_those_of_their_tracks(ids: PersistentIds, large: int) -> None:
    for _ in range(2):
        shown = ids.update(result((3, large, S.MATCHED)), same)
        assert shown == {3: FIRST_TRACK_BASED_ID + 3}
    below = result((1, FIRST_TRACK_BASED_ID - 1, S.MATCHED))
    assert ids.update(below, same) == {1: FIRST_TRACK_BASED_ID - 1}


def test_the_image_of_ids() -> None:
    labels = np.zeros((96, 128), np.uint16)
    labels[:10], labels[20:30], labels[50:] = 101, 103, UNKNOWN_LABEL
    image = id_image(labels, [track(1), track(3)], {1: 7, 3: FIRST_TRACK_BASED_ID + 3})
    assert image.dtype == np.int32
    assert (image[:10] == 7).all() and (image[20:30] == FIRST_TRACK_BASED_ID + 3).all()
    assert not image[10:20].any() and not image[30:].any()
