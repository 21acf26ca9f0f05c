"""SegmenterTeacher and ObjectDiscovery: what the segmenter learns from a frame."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from support.pipeline_values import (
    H,
    W,
    frame,
    instance_masks,
    map_object,
    map_view,
    no_pose,
    projection,
    rect,
    track_manager,
)

from vos_ros.config import MappingConfig
from vos_ros.discovery.proposals import Proposals, ProposerInput
from vos_ros.discovery.shape_completion import CompletedRegion
from vos_ros.pipeline.feedback import ObjectDiscovery, SegmenterTeacher
from vos_ros.pipeline.plan import SegmenterPlan
from vos_ros.types import MapChange, Mask, Seed, TrackSource, TrackState

A, B, C = rect(2, 2, 22, 22), rect(30, 2, 50, 22), rect(30, 26, 50, 46)
MASKS = instance_masks({1: A, 2: B})
TRACKS = track_manager({1: 1, 2: 0})
VIEW = map_view(projection(1, A))


def teach(teacher: SegmenterTeacher, view=VIEW, masks=MASKS, tracks=TRACKS) -> list[int]:
    """Tracks that a frame teaches."""
    return [s.object_id for s in teacher.plan(view, masks, tracks).corrections]


# -- SegmenterTeacher


def test_tracks_of_the_map_are_taught_at_an_interval() -> None:
    teacher = SegmenterTeacher(3, uses_image=True)
    assert [teach(teacher) for _ in range(7)] == [[], [], [1], [], [], [1], []]


def test_only_tracks_with_a_map_object_are_taught() -> None:
    both = track_manager({1: 4, 2: 9})
    assert teach(SegmenterTeacher(1, uses_image=True)) == [1]
    assert teach(SegmenterTeacher(1, uses_image=True), tracks=both) == [1, 2]


def test_they_are_taught_the_fused_masks_where_these_are_clear() -> None:
    prob = np.full((H, W), 0.9, np.float32)
    prob[:, :10], prob[:, 10:12] = 0.75, 0.76
    masks = replace(MASKS, prob=prob)
    (seed,) = SegmenterTeacher(1, uses_image=True).plan(VIEW, masks, TRACKS).corrections
    assert isinstance(seed.prompt, Mask) and np.array_equal(seed.prompt.mask, A)
    assert seed.weight is not None and seed.weight.dtype == np.float32
    assert not seed.weight[:, :10].any() and (seed.weight[:, 10:] == 1.0).all()


def test_an_empty_mask_teaches_that_the_object_is_not_in_view() -> None:
    masks = instance_masks({1: rect(0, 0, 0, 0)})
    (seed,) = SegmenterTeacher(1, uses_image=True).plan(VIEW, masks, TRACKS).corrections
    assert isinstance(seed.prompt, Mask) and not seed.prompt.mask.any()


def test_without_a_pose_nothing_is_taught_and_time_goes_on() -> None:
    teacher = SegmenterTeacher(3, uses_image=True)
    assert [teach(teacher, no_pose()) for _ in range(4)] == [[]] * 4
    assert teach(teacher) == [1], "the first frame that can teach does"


def test_without_tracks_nothing_is_taught() -> None:
    teacher = SegmenterTeacher(2, uses_image=True)
    nothing = instance_masks({})
    assert teach(teacher, masks=nothing) == [] == teach(teacher, masks=nothing)
    assert teach(teacher) == [1], "it was due"


def test_a_segmenter_that_does_not_use_the_image_is_not_taught() -> None:
    assert teach(SegmenterTeacher(1, uses_image=False)) == []


# -- ObjectDiscovery


class Proposer:
    """Proposes what it is given, and notes what it was asked."""

    def __init__(self, proposals: Proposals = Proposals()) -> None:  # noqa: B008 (frozen)
        self.proposals = proposals
        self.asked: list[ProposerInput] = []
        self.room: list[int] = []

    def __call__(self, sight: ProposerInput, reserve: Callable[[], int], room: int) -> Proposals:
        self.asked.append(sight)
        self.room.append(room)
        return self.proposals


def discovery(proposer: Proposer, max_objects: int = 9, uses_image: bool = True) -> ObjectDiscovery:
    return ObjectDiscovery(proposer, MappingConfig(edge_px=0), max_objects, uses_image=uses_image)


def discovered(proposals: Proposals, view=VIEW, masks=MASKS, tracks=TRACKS) -> SegmenterPlan:
    return discovery(Proposer(proposals)).plan(frame(), view, masks, tracks)


def region(object_id: int, mask: np.ndarray) -> CompletedRegion:
    return CompletedRegion(object_id, mask, np.full((H, W), 0.5, np.float32))


def test_a_new_object_starts_a_track() -> None:
    seed = Seed(3, Mask(C))
    plan = discovered(Proposals((seed,)))
    (start,) = plan.starts
    assert start.seed is seed and (start.map_object_id, start.class_id) == (0, 0)
    assert start.source == TrackSource.PROPOSAL
    assert plan.pause == plan.lost == plan.corrections == plan.end == ()


def test_a_segmented_track_is_corrected_by_its_seed() -> None:
    seed = Seed(2, Mask(C))
    plan = discovered(Proposals((seed,)))
    assert plan.corrections == (seed,) and plan.starts == ()


def test_a_track_that_drifted_is_lost_and_no_longer_segmented() -> None:
    plan = discovered(Proposals(drifted_tracks=(2,)))
    assert plan.lost == (2,) == plan.pause
    seed = Seed(2, Mask(C))
    again = discovered(Proposals((seed,), drifted_tracks=(2,)))
    assert again.corrections == () and [s.seed for s in again.starts] == [seed]


def lost_tracks(map_object_id: int = 0, source: TrackSource = TrackSource.PROPOSAL):
    return track_manager({1: 1, 2: map_object_id}, source=source, state=TrackState.LOST)


def test_a_lost_proposal_is_no_longer_segmented() -> None:
    assert discovered(Proposals(), tracks=lost_tracks()).pause == (2,)
    assert discovered(Proposals(), tracks=lost_tracks(source=TrackSource.PROMPT)).pause == ()
    assert discovered(Proposals(), tracks=lost_tracks(map_object_id=4)).pause == ()
    not_segmented = discovered(Proposals(), masks=instance_masks({1: A}), tracks=lost_tracks())
    assert not_segmented.pause == () and not_segmented.lost == ()


def test_lost_proposals_leave_room() -> None:
    proposer = Proposer()
    for tracks in (TRACKS, lost_tracks()):
        discovery(proposer, max_objects=5).plan(frame(), VIEW, MASKS, tracks)
    three = instance_masks({1: A, 2: B, 3: C})
    tracks = track_manager({1: 1, 2: 0, 3: 0})
    discovery(proposer, max_objects=2).plan(frame(), VIEW, three, tracks)
    assert proposer.room == [3, 4, -1]


def test_the_proposer_is_shown_the_frame() -> None:
    proposer, f = Proposer(), frame()
    tracks = track_manager({1: 1, 2: 0, 3: 8})
    discovery(proposer).plan(f, map_view(projection(1, A), sigma_px=2.5), MASKS, tracks)
    (sight,) = proposer.asked
    assert sight.frame is f and sight.T_map_camera is not None
    assert sight.track_ids == (1, 2) and sight.object_of == {1: 1, 2: 0, 3: 8}
    assert [p.object_id for p in sight.projections] == [1] and sight.sigma_px == {1: 2.5}


def test_a_segmenter_that_does_not_use_the_image_is_given_nothing_new() -> None:
    proposer = Proposer(Proposals((Seed(3, Mask(C)),), drifted_tracks=(2,)))
    plan = discovery(proposer, uses_image=False).plan(frame(), VIEW, MASKS, TRACKS)
    assert plan.starts == plan.pause == () and proposer.asked == []


# -- parts of objects


PART = rect(22, 2, 28, 22)
HALF = map_object(1, A, z=2.0)


def completing() -> ObjectDiscovery:
    found = discovery(Proposer(Proposals(parts=(region(1, PART),))))
    found.plan(frame(), VIEW, MASKS, TRACKS)
    return found


def points_of(found: ObjectDiscovery, o=HALF) -> int:
    (completed,) = found.completed_objects([o])
    return len(completed.points)


def test_a_part_completes_its_object_and_its_track_s_mask() -> None:
    found = discovery(Proposer(Proposals(parts=(region(1, PART), region(5, C)))))
    plan = found.plan(frame(), VIEW, MASKS, TRACKS)
    (seed,) = plan.corrections  # no track follows object 5
    assert seed.object_id == 1 and isinstance(seed.prompt, Mask)
    assert np.array_equal(seed.prompt.mask, A | PART)
    assert seed.weight is not None and (seed.weight == 0.5).all()
    (completed,) = found.completed_objects([HALF])
    added = completed.points[len(HALF.points) :]
    assert len(added) > 20 and added[:, 0].min() > HALF.points[:, 0].max() - 0.01
    assert added[:, 2] == pytest.approx(2.0, abs=1e-5)


def test_a_part_of_a_track_that_is_not_segmented_corrects_nothing() -> None:
    proposer = Proposer(Proposals(parts=(region(1, PART),)))
    plan = discovery(proposer).plan(frame(), VIEW, instance_masks({2: B}), TRACKS)
    assert plan.corrections == ()


@pytest.mark.parametrize("missing", ["pose", "depth"])
def test_without_pose_or_depth_nothing_is_completed(missing: str) -> None:
    found = discovery(Proposer(Proposals(parts=(region(1, PART),))))
    view = no_pose() if missing == "pose" else VIEW
    f = frame(depth=None) if missing == "depth" else frame()
    assert found.plan(f, view, MASKS, TRACKS).corrections == ()
    assert points_of(found) == len(HALF.points)


def test_only_liftable_pixels_complete() -> None:
    found = discovery(Proposer(Proposals(parts=(region(1, PART),))))
    view = replace(VIEW, liftable=np.zeros((H, W), bool))
    found.plan(frame(), view, MASKS, TRACKS)
    assert points_of(found) == len(HALF.points)


def test_a_part_that_is_seen_through_is_dropped() -> None:
    proposer = Proposer(Proposals(parts=(region(1, PART),)))
    found = discovery(proposer)
    found.plan(frame(), VIEW, MASKS, TRACKS)
    proposer.proposals = Proposals()
    found.plan(frame(), VIEW, MASKS, TRACKS)
    assert points_of(found) > len(HALF.points)
    found.plan(frame(depth=np.full((H, W), 3.0, np.float32)), VIEW, MASKS, TRACKS)
    assert points_of(found) == len(HALF.points)


def shifted(dx: float):
    return replace(HALF, points=HALF.points + np.array([dx, 0, 0], np.float32))


@pytest.mark.parametrize(
    ("change", "o", "keeps"),
    [
        (MapChange(), HALF, True),
        (MapChange(changed=((HALF, replace(HALF)),)), HALF, True),
        (MapChange(changed=((HALF, shifted(1.0)),)), shifted(1.0), False),
        (MapChange(deleted=(HALF,)), HALF, False),
        (MapChange(new_session=True, changed=((HALF, HALF),)), HALF, False),
        (MapChange(new_session=True, deleted=(HALF,)), HALF, False),
        (MapChange(new_session=True, added=(HALF,)), HALF, False),
    ],
    ids=["nothing", "same place", "moved", "deleted", "new session", "and gone", "and new"],
)
def test_parts_follow_the_map(change: MapChange, o, keeps: bool) -> None:
    found = completing()
    found.follow_map(change)
    assert (points_of(found, o) > len(o.points)) == keeps


def test_a_part_that_the_map_has_now_is_dropped() -> None:
    found = completing()
    whole = map_object(1, A | PART, z=2.0)
    found.follow_map(MapChange(changed=((HALF, whole),)))
    assert points_of(found, whole) == len(whole.points)
