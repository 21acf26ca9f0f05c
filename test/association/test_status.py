from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest

from vos_ros.association.interface import Evidence, Match
from vos_ros.association.status import MapConflicts, assign_status
from vos_ros.config import Config
from vos_ros.types import Association, AssociationStatus, MapObject, Projection, TrackState


@dataclass
class Followed:
    state: TrackState = TrackState.CONFIRMED
    misses: int = 0
    map_object_id: int = 7
    n_observations: int = 5
    recovered: bool = False


def projection(object_id: int = 7, *, visible: float = 1.0, truncated: float = 0.0) -> Projection:
    silhouette = np.ones((4, 4), bool)
    return Projection(
        object_id,
        (20, 20),
        (0, 0, 4, 4),
        silhouette & (visible > 0),
        silhouette,
        np.ones((4, 4), np.float32),
        visible,
        1 - truncated - visible,
        truncated,
    )


def match(
    object_id: int, score: float = 0.9, track_id: int = 1, runner_up: Evidence | None = None
) -> Match:
    terms = {"mask_iou": 0.8, "tolerant_iou": 0.85, "depth_inliers": 0.95}
    e = Evidence(track_id, object_id, score, terms) if object_id else None
    return Match(track_id, e, runner_up)


def told(
    track: Followed,
    m: Match,
    projections: tuple[Projection, ...] = (projection(),),
    objects: tuple[int, ...] = (7,),
) -> tuple[Association, ...]:
    held = [
        MapObject(i, 1, np.eye(4), np.ones(3), np.zeros((1, 3), np.float32), 0.01) for i in objects
    ]
    return assign_status({1: track}, held, {p.object_id: p for p in projections}, [m], Config())


def test_a_confirmed_track_that_agrees_is_matched() -> None:
    other = Evidence(1, 8, 0.3, {"mask_iou": 0.2})
    (a,) = told(Followed(), match(7, 0.9, runner_up=other))
    assert (a.track_id, a.map_object_id, a.status, a.score) == (
        1,
        7,
        AssociationStatus.MATCHED,
        0.9,
    )
    assert (a.mask_iou, a.depth_inlier_ratio, a.runner_up_id, a.runner_up_score) == (
        0.8,
        0.95,
        8,
        0.3,
    )
    assert (a.predicted_visible_fraction, a.n_observations) == (1.0, 5)
    assert math.isnan(a.appearance_similarity)


S = AssociationStatus


@pytest.mark.parametrize(
    ("track", "m", "status", "object_id"),
    [
        (Followed(TrackState.TENTATIVE), match(7), S.TENTATIVE, 7),
        (Followed(), match(7, 0.1), S.TENTATIVE, 7),  # seen, but not clearly as its object
        (Followed(), match(0), S.TENTATIVE, 7),
        (
            Followed(),
            match(8),
            S.TENTATIVE,
            8,
        ),  # agrees with another object than it is held to be: not yet believed
        (Followed(recovered=True), match(7), S.REIDENTIFIED, 7),
        (Followed(map_object_id=0), match(0), S.NEW, 0),
        (Followed(map_object_id=0), match(7), S.TENTATIVE, 7),
        (Followed(TrackState.OCCLUDED, misses=2), match(0), S.OCCLUDED, 7),
        (Followed(TrackState.OCCLUDED, misses=2, map_object_id=0), match(0), S.OCCLUDED, 0),
        (Followed(TrackState.LOST, misses=20), match(0), S.LOST, 7),
        (Followed(TrackState.LOST, misses=20, map_object_id=0), match(0), S.LOST, 0),
    ],
)
def test_statuses_of_tracks(
    track: Followed, m: Match, status: AssociationStatus, object_id: int
) -> None:
    a = told(track, m)[0]
    assert (a.status, a.map_object_id, a.track_id) == (status, object_id, 1)


def test_an_unseen_track_whose_object_left_the_view() -> None:
    hidden = Followed(TrackState.OCCLUDED, misses=2)
    (gone,) = told(hidden, match(0), ())
    assert gone.status == S.OUT_OF_VIEW
    (nearly_gone,) = told(hidden, match(0), (projection(visible=0.02, truncated=0.97),))
    assert nearly_gone.status == S.OUT_OF_VIEW
    (inside,) = told(hidden, match(0), (projection(visible=0.0, truncated=0.1),))
    assert inside.status == S.OCCLUDED
    assert inside.predicted_visible_fraction == 0.0


def test_objects_without_a_track_are_told_of_once() -> None:
    said = told(
        Followed(), match(7), (projection(7), projection(8, visible=0.0)), objects=(7, 8, 9)
    )
    assert [(a.track_id, a.map_object_id, a.status) for a in said] == [
        (1, 7, S.MATCHED),
        (0, 8, S.OCCLUDED),
        (0, 9, S.OUT_OF_VIEW),
    ]
    assert said[1].predicted_visible_fraction == 0.0
    assert said[0].score > 0.0 == said[2].score


def test_without_a_pose_nothing_is_claimed_of_visibility() -> None:
    (a,) = told(Followed(), match(0), (), objects=())
    assert a.status == S.TENTATIVE
    assert math.isnan(a.predicted_visible_fraction)


def test_doubts_about_the_map_are_told() -> None:
    def status(
        track: Followed, m: Match, doubts: MapConflicts
    ) -> tuple[AssociationStatus, tuple[int, ...]]:
        a = assign_status({1: track}, [], {7: projection()}, [m], Config(), doubts)[0]
        return a.status, a.related_ids

    assert status(Followed(), match(7), MapConflicts(merged={1: {9, 8}})) == (S.MERGE, (8, 9))
    assert status(Followed(), match(7), MapConflicts(split={1: {3}})) == (S.SPLIT, (3,))
    assert status(Followed(), match(7), MapConflicts(merged={2: {8}}, split={2: {3}})) == (
        S.MATCHED,
        (),
    )
    assert status(Followed(), match(8), MapConflicts(merged={1: {9}})) == (S.TENTATIVE, ()), (
        "it isn't held to be this object yet"
    )
    assert status(Followed(misses=3), match(0), MapConflicts(absent={7})) == (S.ABSENT, ())
    assert status(Followed(), match(0), MapConflicts(absent={7})) == (S.ABSENT, ()), (
        "what it still covers isn't the object"
    )
    assert status(Followed(), match(7), MapConflicts(absent={8})) == (S.MATCHED, ())
    held = [
        MapObject(i, 1, np.eye(4), np.ones(3), np.zeros((1, 3), np.float32), 0.01) for i in (7, 8)
    ]
    untracked = assign_status(
        {}, held, {7: projection(), 8: projection(8)}, [], Config(), MapConflicts(absent={8})
    )
    assert [(a.map_object_id, a.status) for a in untracked] == [(7, S.TENTATIVE), (8, S.ABSENT)]
