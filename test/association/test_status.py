from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from support.association import map_object

from vos_ros.association.interface import Evidence, Match
from vos_ros.association.status import MapConflicts, assign_status
from vos_ros.config import Config, from_flat
from vos_ros.types import Association, AssociationStatus, Projection, TrackState

S = AssociationStatus
CONFIG = from_flat({"association.match_score": 0.5, "tracking.seed_min_visible": 0.2})
TERMS = {"mask_iou": 0.8, "tolerant_iou": 0.85, "depth_inliers": 0.95, "similarity": 0.6}


@dataclass
class Followed:
    state: TrackState = TrackState.CONFIRMED
    misses: int = 0
    map_object_id: int = 7
    n_observations: int = 5
    recovered: bool = False


def projection(
    object_id: int = 7, *, visible: float = 1.0, truncated: float = 0.0, silhouette: bool = True
) -> Projection:
    whole = np.full((4, 4), silhouette)
    return Projection(
        object_id=object_id,
        shape=(20, 20),
        roi=(0, 0, 4, 4),
        mask_roi=whole & (visible > 0),
        silhouette_roi=whole,
        depth_roi=np.ones((4, 4), np.float32),
        visible=visible,
        occluded=1 - truncated - visible,
        truncated=truncated,
    )


def match(object_id: int, score: float = 0.9, runner_up: Evidence | None = None) -> Match:
    return Match(1, Evidence(1, object_id, score, TERMS) if object_id else None, runner_up)


def reported(
    track: Followed,
    m: Match,
    projections: tuple[Projection, ...] = (projection(),),
    objects: tuple[int, ...] = (7,),
    conflicts: MapConflicts | None = None,
    config: Config = CONFIG,
) -> tuple[Association, ...]:
    held = [map_object(i) for i in objects]
    by_id = {p.object_id: p for p in projections}
    more = () if conflicts is None else (conflicts,)
    return assign_status({1: track}, held, by_id, [m], config, *more)


def test_a_match_is_reported_with_its_evidence_and_the_runner_up() -> None:
    other = Evidence(1, 8, 0.3, {"mask_iou": 0.2})
    (a,) = reported(Followed(), match(7, 0.9, other), (projection(visible=0.75),))
    assert (a.track_id, a.map_object_id, a.status, a.score) == (1, 7, S.MATCHED, 0.9)
    assert (a.mask_iou, a.depth_inlier_ratio, a.appearance_similarity) == (0.8, 0.95, 0.6)
    assert (a.runner_up_id, a.runner_up_score) == (8, 0.3)
    assert (a.predicted_visible_fraction, a.n_observations) == (0.75, 5)
    assert a.terms == TERMS and a.related_ids == ()


def test_unknown_evidence_is_reported_as_nan() -> None:
    (a,) = reported(Followed(), Match(1, Evidence(1, 7, 0.9), None))
    assert math.isnan(a.mask_iou) and math.isnan(a.depth_inlier_ratio)
    assert math.isnan(a.appearance_similarity) and not a.terms
    assert (a.runner_up_id, a.runner_up_score) == (0, 0.0)


@pytest.mark.parametrize(
    ("track", "m", "status", "object_id"),
    [
        (Followed(TrackState.TENTATIVE), match(7), S.TENTATIVE, 7),
        (Followed(), match(7, 0.5), S.MATCHED, 7),
        (Followed(), match(7, 0.49), S.TENTATIVE, 7),  # visible, but not clearly its object
        (Followed(), match(0), S.TENTATIVE, 7),
        (Followed(), match(8), S.TENTATIVE, 8),  # not its current match: not believed yet
        (Followed(), match(8, 0.49), S.TENTATIVE, 7),
        (Followed(recovered=True), match(7), S.REIDENTIFIED, 7),
        (Followed(TrackState.TENTATIVE, recovered=True), match(7), S.REIDENTIFIED, 7),
        (Followed(recovered=True), match(7, 0.49), S.TENTATIVE, 7),
        (Followed(map_object_id=0), match(0), S.NEW, 0),
        (Followed(map_object_id=0), match(7), S.TENTATIVE, 7),
        (Followed(TrackState.OCCLUDED, misses=2), match(0), S.OCCLUDED, 7),
        (Followed(TrackState.OCCLUDED, misses=2), match(7), S.OCCLUDED, 7),
        (Followed(TrackState.OCCLUDED, misses=2, map_object_id=0), match(0), S.OCCLUDED, 0),
        (Followed(TrackState.LOST, misses=20), match(0), S.LOST, 7),
        (Followed(TrackState.LOST, misses=20, map_object_id=0), match(0), S.LOST, 0),
    ],
)
def test_statuses_of_tracks(
    track: Followed, m: Match, status: AssociationStatus, object_id: int
) -> None:
    a = reported(track, m)[0]
    assert (a.status, a.map_object_id, a.track_id) == (status, object_id, 1)


def test_an_unmatched_track_has_the_score_of_its_own_object_alone() -> None:
    (a,) = reported(Followed(), match(7, 0.4))
    assert a.score == 0.4 and a.terms == TERMS
    (a,) = reported(Followed(), match(8, 0.4))
    assert a.score == 0.0 and a.map_object_id == 7
    assert a.terms == {}, "they are evidence for another pair"
    (a,) = reported(Followed(misses=1), match(7, 0.9))
    assert a.score == 0.9


@pytest.mark.parametrize(
    ("p", "status"),
    [
        ((), S.OUT_OF_VIEW),
        ((projection(visible=0.05, truncated=0.91),), S.OUT_OF_VIEW),
        ((projection(visible=0.05, truncated=0.89),), S.OCCLUDED),  # 0.1 = half of 0.2 is in view
        ((projection(visible=0.0, truncated=0.1),), S.OCCLUDED),
        ((projection(visible=0.0, silhouette=False),), S.OUT_OF_VIEW),
    ],
)
def test_a_track_without_pixels_is_hidden_or_out_of_view(
    p: tuple[Projection, ...], status: AssociationStatus
) -> None:
    hidden = Followed(TrackState.OCCLUDED, misses=2)
    (a,) = reported(hidden, match(0), p)
    assert a.status == status
    assert a.predicted_visible_fraction == pytest.approx(p[0].visible if p else math.nan, nan_ok=1)


def test_without_a_projection_nothing_is_visible_if_others_have_one() -> None:
    """Where no object has one, the camera pose may be unknown."""
    (a, _) = reported(Followed(misses=1), match(0), (projection(8),), objects=(7, 8))
    assert a.predicted_visible_fraction == 0.0
    (a,) = reported(Followed(map_object_id=0), match(0), (projection(8),), objects=())
    assert math.isnan(a.predicted_visible_fraction), "no object predicts it"
    (a,) = reported(Followed(), match(0), (), objects=())
    assert a.status == S.TENTATIVE and math.isnan(a.predicted_visible_fraction)


def test_objects_without_a_track_are_reported_once() -> None:
    associations = reported(
        Followed(), match(7), (projection(7), projection(8, visible=0.0)), objects=(7, 8, 9)
    )
    assert [(a.track_id, a.map_object_id, a.status) for a in associations] == [
        (1, 7, S.MATCHED),
        (0, 8, S.OCCLUDED),
        (0, 9, S.OUT_OF_VIEW),
    ]
    assert associations[1].predicted_visible_fraction == 0.0
    assert associations[0].score > 0.0 == associations[2].score


@pytest.mark.parametrize(
    ("visible", "truncated", "status"),
    [
        (0.2, 0.0, S.TENTATIVE),
        (0.19, 0.0, S.OCCLUDED),
        (0.1, 0.5, S.TENTATIVE),  # a fifth of the part inside the image
        (0.09, 0.5, S.OCCLUDED),
        (0.5, 0.95, S.OUT_OF_VIEW),
    ],
)
def test_an_object_without_a_track_waits_where_enough_of_its_part_in_view_is_visible(
    visible: float, truncated: float, status: AssociationStatus
) -> None:
    p = projection(8, visible=visible, truncated=truncated)
    a = reported(Followed(), match(7), (projection(), p), objects=(8,))[1]
    assert (a.track_id, a.map_object_id, a.status) == (0, 8, status)
    assert a.predicted_visible_fraction == visible


@pytest.mark.parametrize(
    ("track", "m", "conflicts", "status", "related"),
    [
        (Followed(), match(7), MapConflicts(merged={1: {9, 8}}), S.MERGE, (8, 9)),
        (Followed(), match(7), MapConflicts(split={1: {3}}), S.SPLIT, (3,)),
        (Followed(), match(7), MapConflicts(merged={1: {8}}, split={1: {3}}), S.MERGE, (8,)),
        (Followed(), match(7, 0.1), MapConflicts(split={1: {3}}), S.SPLIT, (3,)),
        (Followed(), match(7), MapConflicts(merged={2: {8}}, split={2: {3}}), S.MATCHED, ()),
        # not its current match
        (Followed(), match(8), MapConflicts(merged={1: {9}}, split={1: {3}}), S.TENTATIVE, ()),
        (Followed(misses=3), match(7), MapConflicts(merged={1: {8}}), S.OCCLUDED, ()),
        (Followed(misses=3), match(0), MapConflicts(absent={7}), S.ABSENT, ()),
        (Followed(), match(0), MapConflicts(absent={7}), S.ABSENT, ()),  # its pixels are elsewhere
        (Followed(TrackState.LOST, 3), match(0), MapConflicts(absent={7}), S.ABSENT, ()),
        (Followed(), match(7), MapConflicts(absent={7}), S.MATCHED, ()),
        (Followed(), match(7), MapConflicts(absent={8}), S.MATCHED, ()),
    ],
)
def test_conflicts_with_the_map_are_reported(
    track: Followed,
    m: Match,
    conflicts: MapConflicts,
    status: AssociationStatus,
    related: tuple[int, ...],
) -> None:
    a = reported(track, m, conflicts=conflicts)[0]
    assert (a.status, a.related_ids) == (status, related)


def test_absent_objects_without_a_track_are_reported() -> None:
    associations = assign_status(
        {},
        [map_object(7), map_object(8)],
        {7: projection(), 8: projection(8)},
        [],
        CONFIG,
        MapConflicts(absent={8}),
    )
    assert [(a.map_object_id, a.status) for a in associations] == [(7, S.TENTATIVE), (8, S.ABSENT)]
