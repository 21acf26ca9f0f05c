"""Pipeline on its own: in which order the stages act, and what is done with their plans.

The segmenter is a fake that repeats its masks; there is no world.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from support.pipeline_values import (
    FakeSegmenter,
    H,
    W,
    config,
    frame,
    map_object,
    pose,
    rect,
)

from vos_ros.discovery.proposals import Proposals, ProposerInput
from vos_ros.pipeline import Pipeline
from vos_ros.types import (
    AssociationStatus,
    Frame,
    FrameResult,
    Intrinsics,
    MapUpdate,
    Mask,
    Seed,
    TrackSource,
    TrackState,
)

A, B = rect(4, 4, 24, 24), rect(34, 20, 54, 40)
SETTINGS = {"tracking__segmenter_update_interval": 1, "pose__correction": "off"}
MAP = MapUpdate(1, "map", 1, True, (map_object(1, A), map_object(2, B)))


def scene(t: float, **fields: object) -> Frame:
    """Two plates at 1 m in front of a wall."""
    return frame(t, **{"depth": np.where(A | B, 1.0, 2.0).astype(np.float32), **fields})


def started(segmenter: FakeSegmenter | None = None, **changes: object):
    segmenter = FakeSegmenter() if segmenter is None else segmenter
    pipeline = Pipeline(config(**{**SETTINGS, **changes}), session_id="test", segmenter=segmenter)
    assert pipeline.update_map(MAP) == ""
    return pipeline, segmenter


def names(segmenter: FakeSegmenter) -> list[str]:
    """What was done with a segmenter since the last call."""
    out = [what for what, _ in segmenter.done]
    segmenter.done.clear()
    return out


def tracks_of(result: FrameResult) -> list[int]:
    return [t.track_id for t in result.tracks]


# -- a frame


def test_a_frame_is_segmented_then_seeded_then_published_then_learned() -> None:
    pipeline, segmenter = started()
    published: list[FrameResult] = []

    def publish(result: FrameResult) -> None:
        segmenter.done.append(("publish", ()))
        published.append(result)

    result = pipeline.step(scene(1.0), publish)
    assert names(segmenter) == ["step", "seed", "publish", "update", "learn_pending"]
    pipeline.step(scene(1.1), publish)
    assert names(segmenter) == ["step", "publish", "update", "learn_pending"]
    assert published[0].tracks is result.tracks and tracks_of(result) == [1, 2]
    before, after = published[0].timings_ms, result.timings_ms
    assert before["total"] < after["total"] and "publish" in after and "publish" not in before
    assert {"check", "segmentation", "wait", "pose", "seeds", "fusion", "association"} < set(before)
    assert {"lift", "render", "proposals"} < set(after)


def test_a_seeded_object_is_in_the_result_of_its_frame() -> None:
    pipeline, _ = started()
    result = pipeline.step(scene(1.0))
    assert result.segmentation.object_ids == (1, 2) and (result.labels() == 1).sum() > 300
    assert [t.source for t in result.tracks] == [TrackSource.MAP] * 2
    assert [t.class_id for t in result.tracks] == [11, 12]
    assert [o.track_id for o in result.observations] == [1, 2]
    assert (result.map_session_id, result.map_revision) == ("map", 1)


def test_a_segmenter_that_does_not_use_the_image_shows_the_projections() -> None:
    pipeline, segmenter = started(FakeSegmenter(uses_image=False))
    pipeline.step(scene(1.0))
    assert names(segmenter) == ["step", "seed", "learn_pending"]
    moved = pipeline.step(scene(1.1, T_map_camera=pose(0.1), depth=None))
    assert names(segmenter) == ["step", "update", "learn_pending"]
    columns = np.nonzero(moved.labels() == 1)[1]
    assert columns.min() < 0 + 4, "10 px to the left of where it was"


def test_features_are_those_of_the_segmenter() -> None:
    import torch

    image_features = torch.rand(8, 12, 16, generator=torch.Generator().manual_seed(0))
    pipeline, _ = started(FakeSegmenter(image_features=image_features))
    for k in range(8):
        result = pipeline.step(scene(1.0 + 0.1 * k))
    assert all(a.appearance_similarity > 0.9 for a in result.associations)


def test_warnings_of_the_input_and_of_the_prompts_are_reported() -> None:
    pipeline, _ = started()
    pipeline.add_objects([(Mask(np.ones((9, 9), bool)), 1)])
    result = pipeline.step(scene(1.0, depth=np.ones((9, 9), np.float32)))
    assert ["depth" in result.warnings[0], "is not started" in result.warnings[1]] == [True] * 2
    assert len(result.warnings) == 2 and pipeline.step(scene(1.1)).warnings == ()


def test_what_is_discovered_is_segmented_from_the_next_frame_on() -> None:
    def proposer(sight: ProposerInput, reserve: Callable[[], int], room: int) -> Proposals:
        if sight.track_ids:
            return Proposals()
        return Proposals((Seed(reserve(), Mask(A)),))

    segmenter = FakeSegmenter()
    pipeline = Pipeline(config(**SETTINGS), segmenter=segmenter, proposer=proposer)
    first = pipeline.step(scene(1.0))
    assert tracks_of(first) == [] and names(segmenter) == ["step", "seed", "learn_pending"]
    second = pipeline.step(scene(1.1))
    (t,) = second.tracks
    assert (t.source, t.class_id, t.area_px) == (TrackSource.PROPOSAL, 0, 400)


def test_a_track_that_drifted_is_paused_and_goes_on_under_its_id() -> None:
    plans = iter(
        [
            Proposals((Seed(1, Mask(A)),)),
            Proposals(drifted_tracks=(1,)),
            Proposals((Seed(1, Mask(B)),)),
        ]
    )
    segmenter = FakeSegmenter()
    pipeline = Pipeline(
        config(**SETTINGS), segmenter=segmenter, proposer=lambda *_: next(plans, Proposals())
    )
    pipeline.tracks.reserve()
    results, states = [], []
    for k in range(4):
        results.append(pipeline.step(scene(1.0 + 0.1 * k)))
        states.append(pipeline.tracks[1].state)
    assert states[1] == states[2] == TrackState.LOST != states[3]
    assert [tracks_of(r) for r in results] == [[], [1], [], [1]]
    assert ("drop", (1,)) in segmenter.done
    assert results[3].tracks[0].age_frames == 2


def test_a_result_that_cannot_be_published_is_an_error_of_the_caller() -> None:
    pipeline, segmenter = started()

    def fail(result: FrameResult) -> None:
        raise RuntimeError("no disk")

    with pytest.raises(RuntimeError, match="no disk"):
        pipeline.step(scene(1.0), fail)
    assert names(segmenter) == ["step", "seed"]
    assert tracks_of(pipeline.step(scene(1.1))) == [1, 2]


# -- breaks of the stream


def test_a_new_session_has_new_tracks_under_the_same_map() -> None:
    pipeline, segmenter = started()
    pipeline.step(scene(5.0))
    result = pipeline.step(scene(1.0))
    assert pipeline.session_id != "test" and len(pipeline.map) == 2
    assert tracks_of(result) == [1, 2] and {t.age_frames for t in result.tracks} == {1}
    session = pipeline.session_id
    pipeline.step(scene(1.1))
    assert pipeline.session_id == session and {r.age_frames for r in pipeline.tracks} == {2}
    assert names(segmenter).count("drop") == 1


def small(t: float) -> Frame:
    """The scene in half the size."""
    full = scene(t)
    assert full.depth is not None
    half = Intrinsics(50.0, 50.0, 15.5, 11.5, W // 2, H // 2)
    return frame(t, rgb=full.rgb[::2, ::2], depth=full.depth[::2, ::2], intrinsics=half)


def test_a_new_image_size_keeps_the_tracks_of_the_map() -> None:
    pipeline, _ = started()
    (prompted,) = pipeline.add_objects([(Mask(rect(0, 40, 9, 48)), 5)])
    assert sorted(tracks_of(pipeline.step(scene(1.0)))) == [1, 2, 3] and prompted == 1
    result = pipeline.step(small(1.1))
    assert sorted(tracks_of(result)) == [2, 3] and "64x48 to 32x24" in result.warnings[0]
    assert {t.age_frames for t in result.tracks} == {2} and pipeline.session_id == "test"
    assert result.labels().shape == (H // 2, W // 2) and prompted not in pipeline.tracks


def test_a_jump_forgets_where_masks_were() -> None:
    """A mask without a map object that covers the image at once is limited to its last place."""
    for x, area in ((0.0, 34 * 34), (5.0, H * W)):
        segmenter = FakeSegmenter()
        pipeline = Pipeline(config(**SETTINGS), segmenter=segmenter)
        pipeline.add_objects([(Mask(A), 1)])
        pipeline.step(scene(1.0))
        segmenter.given[1] = np.ones((H, W), bool)
        (t,) = pipeline.step(scene(1.1, T_map_camera=pose(x))).tracks
        assert t.area_px == area


# -- the map


def test_tracks_follow_the_map() -> None:
    pipeline, segmenter = started()
    pipeline.step(scene(1.0))
    assert pipeline.update_map(MapUpdate(2, "map", 2, False, (), deleted_ids=(1,))) == ""
    assert segmenter.object_ids == (2,) and 1 not in pipeline.tracks
    seven = map_object(7, B)
    assert pipeline.update_map(MapUpdate(3, "map", 3, False, (seven,), merged=((2, 7),))) == ""
    result = pipeline.step(scene(1.1))
    assert [(a.track_id, a.map_object_id) for a in result.associations] == [(2, 7)]


def test_an_absent_object_that_the_map_moves_begins_anew() -> None:
    pipeline, _ = started(association__absent_s=0.3, association__absent_frames=2)
    statuses = []
    for k in range(6):
        result = pipeline.step(scene(1.0 + 0.1 * k, depth=np.full((H, W), 2.0, np.float32)))
        statuses.append({a.status for a in result.associations})
    absent = {AssociationStatus.ABSENT}
    assert statuses[2] != absent and statuses[-1] == absent
    moved = tuple(map_object(i, rect(28, 4, 48, 18)) for i in (1, 2))
    assert pipeline.update_map(MapUpdate(2, "map", 2, True, moved)) == ""
    result = pipeline.step(scene(1.6, depth=np.full((H, W), 2.0, np.float32)))
    assert AssociationStatus.ABSENT not in {a.status for a in result.associations}


def test_an_object_that_was_just_absent_is_not_seeded() -> None:
    pipeline, _ = started()
    asked: list[int] = []

    def absent(stamp_ns: int) -> frozenset[int]:
        asked.append(stamp_ns)
        return frozenset({1})

    pipeline.stages.map_checker.absent = absent  # type: ignore[method-assign]
    result = pipeline.step(scene(1.0))
    assert [a.map_object_id for a in result.associations if a.track_id] == [2]
    assert asked[0] == 10**9


def test_completed_objects_are_what_is_predicted() -> None:
    pipeline, _ = started()
    whole = (map_object(1, rect(4, 4, 24, 44)), map_object(2, B))
    pipeline.stages.discovery.completed_objects = lambda _: whole  # type: ignore[method-assign]
    result = pipeline.step(scene(1.0, depth=None))
    assert result.tracks[0].roi[3] > 40, "20 px beyond the map's object"


def test_a_new_session_of_the_mapper_ends_the_tracks_of_its_objects() -> None:
    pipeline, segmenter = started()
    (prompted,) = pipeline.add_objects([(Mask(rect(0, 40, 9, 48)), 5)])
    pipeline.step(scene(1.0))
    assert pipeline.update_map(MapUpdate(2, "new", 1, True, (map_object(1, B),))) == ""
    assert segmenter.object_ids == (prompted,) and [r.track_id for r in pipeline.tracks] == [1]


def test_a_refused_update_changes_nothing() -> None:
    pipeline, segmenter = started()
    pipeline.step(scene(1.0))
    names(segmenter)
    assert "missing" in pipeline.update_map(MapUpdate(2, "map", 9, False, (), deleted_ids=(1,)))
    assert segmenter.object_ids == (1, 2) and names(segmenter) == []


# -- prompts


def test_prompts_on_a_frame_start_at_once() -> None:
    segmenter = FakeSegmenter()
    pipeline = Pipeline(config(), segmenter=segmenter)
    ids = pipeline.add_objects([(Mask(A), 42), (Mask(B), 43)], scene(1.0))
    assert ids == (1, 2) == segmenter.object_ids and names(segmenter) == ["seed"]
    first = pipeline.tracks[1]
    assert (first.class_id, first.source) == (42, TrackSource.PROMPT)
    assert pipeline.step(small(1.1)).warnings[0].startswith("image size changed")


def test_prompts_without_a_frame_start_on_the_next_one() -> None:
    segmenter = FakeSegmenter()
    pipeline = Pipeline(config(), segmenter=segmenter)
    assert pipeline.add_objects([(Mask(A), 42)]) == (1,)
    assert segmenter.object_ids == () and len(pipeline.tracks) == 0
    assert tracks_of(pipeline.step(scene(1.0))) == [1] and pipeline.tracks[1].class_id == 42


def test_a_wrong_prompt_adds_nothing() -> None:
    segmenter = FakeSegmenter()
    pipeline = Pipeline(config(), segmenter=segmenter)
    wrong = [(Mask(A), 1), (Mask(np.ones((9, 9), bool)), 1)]
    with pytest.raises(ValueError, match="shape"):
        pipeline.add_objects(wrong, scene(1.0))
    pipeline.step(scene(1.0))
    with pytest.raises(ValueError, match="shape"):
        pipeline.add_objects(wrong)
    assert tracks_of(pipeline.step(scene(1.1))) == [] and pipeline.tracks.reserve() == 1


def test_tracks_and_waiting_prompts_are_removed() -> None:
    segmenter = FakeSegmenter()
    pipeline = Pipeline(config(), segmenter=segmenter)
    a, b = pipeline.add_objects([(Mask(A), 1), (Mask(B), 1)], scene(1.0))
    (waiting,) = pipeline.add_objects([(Mask(rect(0, 40, 9, 48)), 1)])
    with pytest.raises(KeyError, match=r"tracks \[99\] are unknown; live are \[1, 2, 3\]"):
        pipeline.remove([a, 99])
    assert segmenter.object_ids == (a, b)
    pipeline.remove([a, a, waiting])
    assert segmenter.object_ids == (b,) and tracks_of(pipeline.step(scene(1.1))) == [b]
    with pytest.raises(KeyError):
        pipeline.remove([waiting])


def test_reset_forgets_all_but_the_settings() -> None:
    pipeline, segmenter = started()
    pipeline.step(scene(5.0))
    pipeline.add_objects([(Mask(A), 1)])
    pipeline.reset()
    assert pipeline.session_id not in ("", "test") and len(pipeline.map) == 0
    assert segmenter.object_ids == () and len(pipeline.tracks) == 0
    result = pipeline.step(small(1.0))
    assert result.warnings == () == result.tracks
    assert pipeline.update_map(MAP) == ""
    assert tracks_of(pipeline.step(small(1.1))) == [1, 2]


def test_sessions_have_names() -> None:
    one, other = (Pipeline(config(), segmenter=FakeSegmenter()) for _ in range(2))
    assert one.session_id and one.session_id != other.session_id


def test_a_pipeline_is_six_things() -> None:
    pipeline, _ = started()
    assert set(vars(pipeline)) == {"config", "map", "tracks", "stages", "background", "session_id"}
