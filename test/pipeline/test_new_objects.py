"""An empty map starts: objects in view become NEW tracks, and then the objects of the mapper."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from vos_ros import config as configuration
from vos_ros.discovery.proposals import Proposals, ProposerInput
from vos_ros.pipeline import Pipeline
from vos_ros.segmentation.interface import VideoSegmenter, check_known, check_new
from vos_ros.segmentation.prompts import to_mask
from vos_ros.types import (
    AssociationStatus,
    Frame,
    FrameResult,
    MapUpdate,
    Mask,
    Seed,
    Segmentation,
    TrackSource,
    TrackState,
)

pytest.importorskip("open3d", reason="the synthetic world is rendered by Open3D")
S = AssociationStatus
FRAMES = 16


class World:
    """A short rendered sequence and its truth."""

    def __init__(self) -> None:
        from vos_ros.synthetic.source import SyntheticSource, SyntheticSpec

        source = SyntheticSource(SyntheticSpec(seed=5, frames=FRAMES, width=240, height=180))
        captures = [source.capture(i) for i in range(FRAMES)]
        self.frames, self.ids = (
            [c.frame for c in captures],
            [c.ids.astype(np.int32) for c in captures],
        )
        self.objects = {o.id: o for o in source.map_snapshot().objects}

    def truth(self, frame: Frame) -> np.ndarray:
        return self.ids[[f.stamp_ns for f in self.frames].index(frame.stamp_ns)]


@pytest.fixture(scope="module")
def world() -> World:
    return World()


class Perfect(VideoSegmenter):
    """Follows the true object that a seed covers most, background included."""

    def __init__(self, truth: Callable[[Frame], np.ndarray]) -> None:
        self.truth = truth
        self._of: dict[int, int] = {}
        self.corrected: list[int] = []

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self._of)

    def seed(self, frame: Frame, seeds: Sequence[Seed]) -> Segmentation:
        check_new(self._of, seeds, frame.shape)
        for s in seeds:
            self._of[s.object_id] = int(
                np.bincount(self.truth(frame)[to_mask(s.prompt, frame)]).argmax()
            )
        return self.step(frame)

    def step(self, frame: Frame) -> Segmentation:
        ids = self.truth(frame)
        planes = [
            torch.from_numpy(ids == i) if i else torch.zeros(ids.shape, dtype=torch.bool)
            for i in self._of.values()
        ]
        probs = torch.stack([torch.zeros(ids.shape, dtype=torch.bool), *planes]).float()
        probs[0] = (probs.sum(0) == 0).float()
        return Segmentation(self.object_ids, probs / probs.sum(0, keepdim=True))

    def update(self, frame: Frame, corrections: Sequence[Seed]) -> Segmentation:
        check_known(self._of, (s.object_id for s in corrections))
        self.corrected += [s.object_id for s in corrections]
        return self.step(frame)

    def drop(self, object_ids: Collection[int]) -> None:
        check_known(self._of, object_ids)
        for i in set(object_ids):
            del self._of[i]


def pipeline_of(
    world: World,
    perfect: bool = True,
    segmenter: VideoSegmenter | None = None,
    **changes: object,
) -> Pipeline:
    given = {
        "proposals.mode": "depth",
        "proposals.min_px": 60,
        "proposals.period_s": 0.1,
        "proposals.confirm_detections": 3,
        "proposals.confirm_s": 0.2,
        "segmentation.device": "cpu",
        **{k.replace("__", "."): v for k, v in changes.items()},
    }
    return Pipeline(
        configuration.from_flat(given),
        session_id="test",
        segmenter=(segmenter or Perfect(world.truth)) if perfect else None,
    )


def objects_of(world: World, frame: Frame, result: FrameResult) -> dict[int, int]:
    """track -> the true object that it covers, 0 where most of it is room."""
    labels, ids = result.labels(), world.truth(frame)
    return {
        t.track_id: int(np.bincount(ids[labels == t.label_value]).argmax())
        for t in result.tracks
        if t.area_px
    }


def test_an_empty_map_starts_by_what_stands_on_the_table(world: World) -> None:
    pipeline = pipeline_of(world)
    for f in world.frames[:8]:
        result = pipeline.step(f)
        assert "proposals" in result.timings_ms
    covered = Counter(objects_of(world, f, result).values())
    assert len([i for i in covered if i]) >= 8 and set(covered.values()) == {1}, covered
    assert {t.source for t in result.tracks} == {TrackSource.PROPOSAL} and {
        t.class_id for t in result.tracks
    } == {0}
    assert TrackState.CONFIRMED in {t.state for t in result.tracks}
    seen = {t.track_id for t in result.tracks if not t.misses}
    assert {(a.map_object_id, a.status) for a in result.associations if a.track_id in seen} == {
        (0, S.NEW)
    }
    assert {o.track_id for o in result.observations} <= seen and len(result.observations) >= 8


def test_off_is_the_default_and_proposes_nothing(world: World) -> None:
    pipeline = pipeline_of(world, proposals__mode="off")
    assert configuration.Config().proposals.mode == "off"
    assert not any(pipeline.step(f).tracks for f in world.frames[:6])


def test_no_more_tracks_than_may_be_followed(world: World) -> None:
    pipeline = pipeline_of(world, tracking__max_objects=3)
    counts = [len(pipeline.step(f).tracks) for f in world.frames[:8]]
    assert counts[-1] == max(counts) == 3


def test_what_the_map_has_is_not_proposed_and_the_rest_is(world: World) -> None:
    pipeline = pipeline_of(world)
    known = sorted(world.objects)[::2]
    assert (
        pipeline.update_map(MapUpdate(1, "map", 1, True, tuple(world.objects[i] for i in known)))
        == ""
    )
    for f in world.frames[:8]:
        result = pipeline.step(f)
    covered = objects_of(world, f, result)
    assert max(Counter(i for i in covered.values() if i).values()) == 1
    sources = {i: t.source for t in result.tracks if (i := covered.get(t.track_id, 0))}
    assert all(sources[i] == TrackSource.MAP for i in sources if i in known)
    assert sum(source == TrackSource.PROPOSAL for source in sources.values()) >= 3


def test_a_proposed_track_becomes_the_object_that_the_mapper_makes_of_it(world: World) -> None:
    pipeline = pipeline_of(world)
    for f in world.frames[:8]:
        result = pipeline.step(f)
    before = {t: i for t, i in objects_of(world, f, result).items() if i in world.objects}
    made = tuple(replace(world.objects[i], id=100 + i) for i in before.values())
    assert len(made) >= 8 and pipeline.update_map(MapUpdate(2, "map", 1, True, made)) == ""
    for f in world.frames[8:]:
        result = pipeline.step(f)
    named = {a.track_id: a.map_object_id for a in result.associations if a.status == S.MATCHED}
    matched = [t for t in before if named.get(t) == 100 + before[t]]
    assert len(matched) >= 6 and all(named.get(t, 0) in (0, 100 + before[t]) for t in before)
    assert max(Counter(i for i in objects_of(world, f, result).values() if i).values()) == 1


def test_a_real_segmenter_follows_what_was_proposed(world: World) -> None:
    pipeline = pipeline_of(
        world,
        perfect=False,
        segmentation__features__long_side=256,
        segmentation__lwl__long_side=320,
        tracking__max_objects=6,
    )
    for f in world.frames[:9]:
        result = pipeline.step(f)
    assert len(result.tracks) == 6
    covered = Counter(objects_of(world, f, result).values())
    assert len([i for i in covered if i]) >= 4


@pytest.mark.parametrize(
    "bad",
    [
        {"depth": None},
        {"T_map_camera": None},
        {"depth": np.full((180, 240), np.nan, np.float32)},
        {"depth": np.ones((9, 9), np.float32)},
        {"T_map_camera": np.full((4, 4), np.nan)},
    ],
    ids=["no depth", "no pose", "nan", "another size", "no pose at all"],
)
def test_frames_without_what_it_takes_are_no_problem(world: World, bad: dict) -> None:
    pipeline = pipeline_of(world)
    for f in world.frames[:4]:
        assert pipeline.step(replace(f, **bad)).tracks == ()
    for f in world.frames[4:12]:
        result = pipeline.step(f)
    assert len(result.tracks) >= 5


def test_a_proposed_track_unseen_for_long_ends_unless_it_is_of_the_map(world: World) -> None:
    segmenter = Perfect(world.truth)
    pipeline = pipeline_of(world, segmenter=segmenter, proposals__give_up_s=1.0)
    for f in world.frames[:8]:
        result = pipeline.step(f)
    covered = {t: i for t, i in objects_of(world, f, result).items() if i in world.objects}
    track, i = next(iter(covered.items()))
    world_of_one = MapUpdate(2, "map", 1, True, (world.objects[i],))
    assert pipeline.update_map(world_of_one) == ""
    for f in world.frames[8:]:
        pipeline.step(f)
    nothing = np.zeros(world.ids[0].shape, np.int32)
    segmenter.truth = lambda frame: nothing
    last = world.frames[-1]
    for k in range(1, 15):
        result = pipeline.step(replace(last, stamp_ns=last.stamp_ns + k * 100_000_000, depth=None))
    assert [t.track_id for t in result.tracks if t.source == TrackSource.PROPOSAL] == [track]


def test_a_track_that_lost_its_object_is_not_segmented_until_the_object_is_back(
    world: World,
) -> None:
    proposals = iter([Proposals(), Proposals(drifted_tracks=(1,))])
    asked: list[tuple[tuple[int, ...], tuple[int, ...]]] = []

    def proposer(inputs: ProposerInput, reserve_id: Callable[[], int], max_seeds: int) -> Proposals:
        asked.append((inputs.track_ids, tuple(inputs.unmatched_tracks)))
        if len(asked) in (1, 5):
            return Proposals(
                (Seed(reserve_id() if len(asked) == 1 else 1, Mask(world.truth(inputs.frame) > 0)),)
            )
        return next(proposals, Proposals())

    pipeline = Pipeline(
        configuration.from_flat({}), segmenter=Perfect(world.truth), proposer=proposer
    )
    results = [pipeline.step(f) for f in world.frames[:7]]
    assert [[t.track_id for t in r.tracks] for r in results] == [[], [1], [1], [], [], [1], [1]]
    assert asked[3] == ((), (1,)), "it lives on, unfollowed"
    assert (
        results[6].tracks[0].state in (TrackState.TENTATIVE, TrackState.CONFIRMED)
        and results[6].tracks[0].age_frames == 4
    )
    pipeline.remove([1])
    assert pipeline.step(world.frames[7]).tracks == ()


def test_a_session_starts_its_proposals_over(world: World) -> None:
    pipeline = pipeline_of(world)
    for f in world.frames[:2]:
        assert pipeline.step(f).tracks == ()
    pipeline.reset()
    for f in world.frames[2:4]:
        assert pipeline.step(f).tracks == (), "what was detected before the reset doesn't count"
    assert (
        pipeline.step(world.frames[5]).tracks == ()
        and len(pipeline.step(world.frames[6]).tracks) > 3
    )


def test_any_proposer_may_be_given(world: World) -> None:
    mask = world.ids[0] > 0
    asked: list[int] = []

    def once(inputs: ProposerInput, reserve_id: Callable[[], int], max_seeds: int) -> Proposals:
        asked.append(max_seeds)
        if len(asked) == 1:
            return Proposals((Seed(reserve_id(), Mask(mask)),))
        return (
            Proposals((Seed(inputs.track_ids[0], Mask(mask)),)) if len(asked) == 3 else Proposals()
        )

    segmenter = Perfect(world.truth)
    pipeline = Pipeline(
        configuration.from_flat({"tracking.max_objects": 5}), segmenter=segmenter, proposer=once
    )
    tracks = [tuple(t.track_id for t in pipeline.step(f).tracks) for f in world.frames[:4]]
    assert tracks == [(), (1,), (1,), (1,)] and asked == [5, 4, 4, 4] and segmenter.corrected == [1]


def test_the_null_method_is_not_given_what_it_cannot_follow(world: World) -> None:
    pipeline = pipeline_of(world, perfect=False, segmentation__method="null")
    assert not any(pipeline.step(f).tracks for f in world.frames[:8])
