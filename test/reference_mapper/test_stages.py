"""Stages that decide about one object: integration, absence, new objects, splitting."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.mapper_run import NO_POINTS, box_surface

from vos_ros.config import MappingConfig
from vos_ros.reference_mapper.config import ModelConfig, RulesConfig
from vos_ros.reference_mapper.frames import AssociatedFrame, LabelledDepth, MeasuredInstance
from vos_ros.reference_mapper.integration import Change, SurfaceIntegrator, count_absence
from vos_ros.reference_mapper.model import ObjectModel, new_model
from vos_ros.reference_mapper.new_objects import NewObjectStage
from vos_ros.reference_mapper.splitting import SplitEvidence, SplittingStage
from vos_ros.types import Association, AssociationStatus, Intrinsics, Verdict

MODEL, RULES = ModelConfig(), RulesConfig()
SECOND = 1_000_000_000
INTEGRATOR = SurfaceIntegrator(MODEL, MappingConfig())
BOX = box_surface((0, 0, 1))
FAR_BOX = box_surface((1, 0, 1))


def frame(stamp_ns: int = 0, **fields: object) -> AssociatedFrame:
    given = {
        "stamp_ns": stamp_ns,
        "session_id": "node",
        "map_session_id": "",
        "map_revision": 0,
        "map_frame": "map",
        "T_map_camera": np.eye(4),
        "pose_cov": None,
        "instances": (),
        "associations": (),
        "self_check": Verdict.PASSED,
    }
    return AssociatedFrame(**{**given, **fields})  # type: ignore[arg-type]


def instance(points: np.ndarray = BOX, track: int = 7, confirmed: bool = True) -> MeasuredInstance:
    return MeasuredInstance(track, 0, confirmed, points)


def known(points: np.ndarray = BOX, object_id: int = 1, frames: int = 10) -> ObjectModel:
    model = new_model(points, 0, MODEL)
    for k in range(frames):
        model = model.with_match(k, MODEL).with_measurement(points, np.eye(6), k, MODEL)
    return replace(model, id=object_id)


def pose_cov(sigma_m: float) -> np.ndarray:
    return np.diag([sigma_m**2] * 3 + [1e-6] * 3)


# --- integration ---------------------------------------------------------------------------------


def test_points_are_used_where_there_is_a_pose_that_is_certain_enough() -> None:
    assert INTEGRATOR.can_measure(instance(), frame())
    assert INTEGRATOR.can_measure(instance(), frame(pose_cov=pose_cov(0.099)))
    assert not INTEGRATOR.can_measure(instance(), frame(pose_cov=pose_cov(0.101)))
    assert not INTEGRATOR.can_measure(instance(), frame(T_map_camera=None))
    assert not INTEGRATOR.can_measure(instance(NO_POINTS), frame())
    assert not INTEGRATOR.can_measure(None, frame())


def test_a_mask_agrees_by_its_points_or_by_the_object_that_it_covers() -> None:
    model = known()
    outside = BOX + np.float32([0.5, 0, 0])
    assert INTEGRATOR.agrees(model, instance(np.concatenate([BOX[:400], outside[:400]])))
    assert INTEGRATOR.agrees(model, instance(np.concatenate([BOX, outside, outside])))
    # Neither half of the points nor half of the surface.
    few = BOX[np.argsort(np.linalg.norm(BOX - BOX[0], axis=1))[:30]]
    assert not INTEGRATOR.agrees(model, instance(np.concatenate([few, outside[:40]])))
    assert not INTEGRATOR.agrees(model, instance(outside))


@pytest.mark.parametrize("status", [AssociationStatus.MATCHED, AssociationStatus.REIDENTIFIED])
def test_a_match_integrates_what_agrees(status: AssociationStatus) -> None:
    change = INTEGRATOR.integrate_match(
        Association(7, 1, status, 0.9), known(), instance(), frame(SECOND)
    )
    assert change.outcome == "integrated" and change.event == "" and change.model is not None
    assert change.model.observations == 11 and change.model.last_ns == SECOND
    assert change.model.grid.hits.max() == 11


def test_a_match_in_another_place_changes_nothing_but_a_reidentified_object_moves() -> None:
    matched = Association(7, 1, AssociationStatus.MATCHED, 0.9)
    change = INTEGRATOR.integrate_match(matched, known(), instance(FAR_BOX), frame())
    assert change.outcome == "match elsewhere" and change.model is None
    again = replace(matched, status=AssociationStatus.REIDENTIFIED)
    change = INTEGRATOR.integrate_match(again, known(), instance(FAR_BOX), frame())
    assert change.model is not None and change.model.id == 1
    assert change.model.grid.means()[:, 0].min() > 0.9 and "another place" in change.event


def test_a_match_without_points_counts_as_an_observation() -> None:
    matched = Association(7, 1, AssociationStatus.MATCHED, 0.9)
    for measured, changes in ((None, {}), (instance(), {"T_map_camera": None})):
        change = INTEGRATOR.integrate_match(matched, known(), measured, frame(5, **changes))
        assert change.outcome == "match without usable points" and change.model is not None
        assert change.model.observations == 11 and change.model.grid.hits.max() == 10


def test_points_beyond_reach_are_left_out_and_contradicted_cubes_are_counted() -> None:
    stray = np.concatenate([BOX, BOX[:50] + np.float32([0, 0, 0.4])])
    model = INTEGRATOR.integrate(known(), instance(stray), frame())
    assert model.grid.means()[:, 2].max() < 1.1 and not model.grid.misses.any()
    camera = Intrinsics(100.0, 100.0, 31.5, 23.5, 64, 48)
    behind = np.full((48, 64), 3.0, np.float32)  # the camera sees through the box
    image = LabelledDepth(np.zeros((48, 64), np.uint16), {7: 5}, behind, camera)
    model = INTEGRATOR.integrate(known(), instance(), frame(labelled_depth=image))
    assert (model.grid.misses == 1).all()


# --- absence -------------------------------------------------------------------------------------


def test_an_absent_object_is_deleted_when_it_is_unlikely_and_absent_for_long() -> None:
    unlikely, likely = replace(known(), log_odds=-1.9), replace(known(), log_odds=3.0)
    first = count_absence(unlikely, 10 * SECOND, MODEL, RULES)
    assert first.outcome == "ABSENT counted" and first.deleted_id == 0 and first.model is not None
    assert first.model.absent_ns == 10 * SECOND and first.model.log_odds == pytest.approx(-2.3)
    early = count_absence(first.model, 11 * SECOND - 1, MODEL, RULES)
    assert early.deleted_id == 0
    due = count_absence(first.model, 11 * SECOND, MODEL, RULES)
    assert due.deleted_id == 1 and due.model is None and due.event.endswith("absent for 1.0 s")
    exists = count_absence(replace(likely, absent_ns=0), 11 * SECOND, MODEL, RULES)
    assert exists.deleted_id == 0 and exists.model is not None and exists.model.absent_ns == 0


# --- new objects ---------------------------------------------------------------------------------


@pytest.fixture
def stage() -> NewObjectStage:
    return NewObjectStage(MODEL, RULES, INTEGRATOR)


def give(stage: NewObjectStage, k: int, measured: MeasuredInstance, **fields: object) -> Change:
    """Give the stage frame ``k`` at 5 Hz."""
    given = {"objects": {}, "own": None, "matched": (), **fields}
    return stage.decide(7, measured, frame(k * SECOND // 5), given.pop("objects"), **given)


def test_a_track_becomes_an_object_after_enough_frames(stage: NewObjectStage) -> None:
    for k in range(4):
        change = give(stage, k, instance())
        assert change.outcome == "NEW waiting to be seen more often" and change.model is None
    change = give(stage, 4, instance())
    assert change.outcome == "NEW became an object" and change.model is not None
    assert change.model.id == 0 and change.track_id == 7 and change.model.observations == 5
    again = give(stage, 5, instance())
    assert again.outcome == "NEW waiting to be seen more often", "the candidate is used up"


def test_unconfirmed_tracks_and_few_points_make_no_object(stage: NewObjectStage) -> None:
    for k in range(10):
        assert give(stage, k, instance(confirmed=False)).model is None
        assert give(stage, k, instance(BOX[:20])).model is None


def test_discarded_and_expired_candidates_start_anew(stage: NewObjectStage) -> None:
    for k in range(4):
        give(stage, k, instance())
    stage.discard(7)
    for k in range(4, 8):
        assert give(stage, k, instance()).model is None
    stage.expire(7 * SECOND // 5 + 10 * SECOND)
    assert give(stage, 8, instance()).model is not None, "10 s are not too long"
    for k in range(4):
        give(stage, k, instance())
    stage.expire(3 * SECOND // 5 + 10 * SECOND + 1)
    assert give(stage, 4, instance()).model is None


def test_a_candidate_that_moves_away_starts_anew_and_a_reset_forgets_it(
    stage: NewObjectStage,
) -> None:
    for k in range(4):
        give(stage, k, instance())
    assert give(stage, 4, instance(FAR_BOX)).model is None
    for k in range(5, 8):
        give(stage, k, instance(FAR_BOX))
    stage.assign(7, 3)
    stage.reset()
    assert give(stage, 8, instance(FAR_BOX)).model is None and stage.object_of(7) == 0


def test_a_candidate_in_the_place_of_a_known_object_is_that(stage: NewObjectStage) -> None:
    shifted = known(BOX + np.float32([0.02, 0, 0]), 3)
    objects = {2: known(FAR_BOX, 2), 1: known(), 3: shifted}
    for k in range(5):
        change = give(stage, k, instance(), objects=objects)
    assert change.model is not None and change.model.id == 1 and change.track_id == 7
    assert change.model.observations == 15 and "they share their surface" in change.event


def test_a_candidate_next_to_a_matched_object_stays_itself(stage: NewObjectStage) -> None:
    """Part of the surface is shared, and most frames matched the object in another place."""
    shifted = BOX + np.float32([0.05, 0, 0])
    for matched, expected in (((), 1), ((1,), 0)):
        stage.reset()
        for k in range(5):
            change = give(stage, k, instance(shifted), objects={1: known()}, matched=matched)
        assert change.model is not None and change.model.id == expected


def test_a_track_goes_on_with_its_own_object(stage: NewObjectStage) -> None:
    own = known(object_id=4)
    change = give(stage, 1, replace(instance(), class_id=6), own=own)
    assert change.outcome == "integrated" and change.model is not None
    assert (change.model.id, change.model.observations, change.model.class_id) == (4, 11, 6)
    for measured, matched in ((instance(), (4,)), (instance(FAR_BOX), ())):
        change = give(stage, 2, measured, own=own, matched=matched)
        assert change.outcome == "NEW of a track that is not on its object"
        assert change.model is None


# --- splitting -----------------------------------------------------------------------------------


LEFT, RIGHT = box_surface((0, 0, 1)), box_surface((0.2, 0, 1), seed=3, count=1200)


def test_an_object_is_divided_after_enough_frames_between_those_who_measured_it() -> None:
    stage, rules = SplittingStage(MODEL, RULES, INTEGRATOR), RULES
    whole = known(np.concatenate([LEFT, RIGHT]), 5)
    instances = {1: instance(LEFT, 1), 2: instance(RIGHT, 2), 3: instance(FAR_BOX, 3)}
    for k in range(9):
        assert stage.count(5, {1, 2, 4}, instances, frame(k)) is None
    evidence = stage.count(5, {1, 2, 4}, instances, frame(9))
    assert evidence is not None and set(evidence.parts) == {1, 2}
    (first, kept), (second, piece) = evidence.pieces(whole, MODEL, rules)
    assert {first, second} == {1, 2} and kept.id == 5 and piece.id == 0
    assert len(kept.grid) >= len(piece.grid)
    left, right = sorted((kept, piece), key=lambda m: m.grid.means()[:, 0].min())
    assert left.grid.means()[:, 0].max() < 0.11 < right.grid.means()[:, 0].min()
    assert kept.observations == whole.observations and piece.observations == 10
    assert stage.count(5, {1, 2}, instances, frame(10)) is None, "the evidence is used up"


def test_evidence_for_a_split_is_forgotten() -> None:
    stage = SplittingStage(MODEL, RULES, INTEGRATOR)
    instances = {1: instance(LEFT, 1)}
    for forget in (lambda: stage.remove(5), stage.reset):
        for k in range(9):
            stage.count(5, {1}, instances, frame(k))
        forget()
        assert stage.count(5, {1}, instances, frame(9)) is None
    for k in range(8):
        stage.count(5, {1}, instances, frame(k))
    stage.remove(6)
    assert stage.count(5, {1}, instances, frame(9)) is not None, "another object's is"


def test_one_surface_or_too_few_points_are_not_divided() -> None:
    whole = known(np.concatenate([LEFT, RIGHT]), 5)
    left, right = known(LEFT), known(RIGHT)
    few = known(RIGHT[:20])
    for parts in (
        {1: left, 2: known(box_surface((0, 0, 1), seed=8))},
        {1: left, 2: few},
        {1: left},
    ):
        assert SplitEvidence(10, parts).pieces(whole, MODEL, RULES) == []
    assert len(SplitEvidence(10, {1: left, 2: right}).pieces(whole, MODEL, RULES)) == 2
    both = known(np.concatenate([LEFT, RIGHT]))
    end = known(RIGHT[RIGHT[:, 0] > 0.23])
    assert len(SplitEvidence(10, {1: both, 2: end}).pieces(whole, MODEL, RULES)) == 2, (
        "one measured more than the other"
    )
    absent = replace(whole, absent_ns=3)
    pieces = SplitEvidence(10, {1: left, 2: right}).pieces(absent, MODEL, RULES)
    assert pieces[0][1].absent_ns is None


def test_a_part_that_moves_away_starts_anew() -> None:
    stage = SplittingStage(MODEL, replace(RULES, split_frames=3), INTEGRATOR)
    for k, points in enumerate((LEFT, LEFT, FAR_BOX)):
        evidence = stage.count(5, {1}, {1: instance(points, 1)}, frame(k))
    assert evidence is not None and evidence.parts[1].grid.means()[:, 0].min() > 0.9
