"""Proposals over time, on a table seen in closed form, with a perfect segmenter."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from support.boxes import scaled_camera

from vos_ros.config import MappingConfig, ProposalsConfig
from vos_ros.discovery import places
from vos_ros.discovery.depth_proposer import DepthProposer, known_cells, proposer_of
from vos_ros.discovery.grid import grid_of
from vos_ros.discovery.places import voxels_of
from vos_ros.discovery.proposals import MaskProposer, ProposerInput, no_proposals
from vos_ros.discovery.shape_completion import CompletedRegion
from vos_ros.geometry import se3
from vos_ros.geometry.voxels import share_among, with_neighbours
from vos_ros.mapping.render import render
from vos_ros.types import Frame, Intrinsics, Mask, Projection, Seed

CONFIG = ProposalsConfig(mode="depth", period_s=0.2, confirm_detections=3, confirm_s=0.4, min_px=40)
FLOOR = ([-3.0, -1.0, -1.05], [3.0, 3.0, -1.0])
TABLE = ([-1.2, 0.8, -0.05], [1.2, 2.2, 0.0])
THINGS = {
    1: ([-0.5, 1.2, 0.0], [-0.3, 1.4, 0.25]),
    2: ([0.1, 1.5, 0.0], [0.35, 1.7, 0.3]),
    3: ([-0.15, 1.1, 0.0], [0.05, 1.2, 0.12]),
}


class World:
    """Boxes on a table before a camera that goes to and fro at 10 Hz.

    Tracks follow the true pixels of the box that their seed covers.
    """

    def __init__(
        self, camera: Intrinsics, cut: Callable[..., np.ndarray], T_map_camera: np.ndarray
    ) -> None:
        self.camera, self.cut, self.T = camera, cut, T_map_camera
        self.things = dict(THINGS)
        self.tracks: dict[int, int] = {}  # track -> thing
        self.blind: set[int] = set()  # tracks that have lost what they followed
        self.told_astray: list[int] = []
        self.told_parts: list[
            tuple[CompletedRegion, np.ndarray]
        ] = []  # with the things at the pixels
        self.named: set[int] = set()  # tracks that are objects of the map
        self.offset = 0.0  # m, error of the pose that is told
        self.ids = itertools.count(1)
        self.index = 0

    def pose(self) -> np.ndarray:
        T = self.T.copy()
        T[0, 3] += 0.1 * np.sin(0.4 * self.index)
        return T

    def owner_of_pixels(self, pose: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Depth, and the thing at each pixel."""
        depth = self.cut([FLOOR, TABLE], pose, self.camera)
        ids = np.zeros(depth.shape, np.int32)
        for i, box in self.things.items():
            own = self.cut([box], pose, self.camera)
            front = (own > 0) & ((own < depth) | (depth == 0))
            ids[front], depth[front] = i, own[front]
        depth += (
            np.random.default_rng(self.index).normal(0, 0.001, depth.shape).astype(np.float32)
            * depth**2
        )
        return depth, ids

    def look(
        self, proposer: object, room: int = 64, projections: Sequence = (), **fields: object
    ) -> tuple[Seed, ...]:
        """The next frame; the seeds become tracks."""
        pose = self.pose()
        depth, ids = self.owner_of_pixels(pose)
        told = pose + self.offset * np.eye(4, k=3)
        frame = Frame(
            self.index,
            self.index * 100_000_000,
            np.zeros((*depth.shape, 3), np.uint8),
            depth,
            self.camera,
            told,
        )
        frame = replace(frame, **fields)
        owner = np.zeros(depth.shape, np.int32)
        for row, (track, thing) in enumerate(self.tracks.items(), start=1):
            if track not in self.blind and thing:
                owner[ids == thing] = row
        object_of = {t: t if t in self.named else 0 for t in self.tracks}
        inputs = ProposerInput(
            frame=frame,
            T_map_camera=frame.T_map_camera,
            instance_index=owner,
            track_ids=tuple(self.tracks),
            object_of=object_of,
            projections=projections,
            sigma_px={},
        )
        proposed = proposer(inputs, lambda: next(self.ids), room)  # type: ignore[operator]
        self.told_astray += proposed.drifted_tracks
        self.told_parts += [(part, ids) for part in proposed.parts]
        self.blind.update(
            proposed.drifted_tracks
        )  # as the pipeline does, which no longer segments them
        for s in proposed.seeds:
            assert isinstance(s.prompt, Mask)
            under = np.bincount(ids[s.prompt.mask], minlength=10)
            self.tracks[s.object_id] = int(under.argmax()) if under.max() > 0.7 * under.sum() else 0
            self.blind.discard(s.object_id)
        self.index += 1
        return proposed.seeds

    def run(self, proposer: object, frames: int, **fields: object) -> list[tuple[Seed, ...]]:
        return [self.look(proposer, **fields) for _ in range(frames)]  # type: ignore[arg-type]


@pytest.fixture
def world(camera: Intrinsics, cut_boxes: Callable[..., np.ndarray], table_top) -> World:
    return World(scaled_camera(camera, 0.5), cut_boxes, table_top.T_map_camera)


def test_every_object_becomes_one_track_and_the_planes_none(world: World) -> None:
    world.run(DepthProposer(CONFIG), 40)
    assert sorted(world.tracks.values()) == [1, 2, 3]


def test_a_candidate_must_be_seen_often_and_long_enough(world: World) -> None:
    seeds = world.run(DepthProposer(CONFIG), 8)
    assert [len(s) for s in seeds] == [0, 0, 0, 0, 3, 0, 0, 0]  # looks at 0.0, 0.2 and 0.4 s
    patient = DepthProposer(replace(CONFIG, confirm_s=1.0))
    world.tracks.clear()
    world.index = 0
    assert [i for i, s in enumerate(world.run(patient, 12)) if s] == [10]


def test_what_moves_about_is_not_proposed(world: World) -> None:
    proposer = DepthProposer(CONFIG)
    for i in range(15):
        world.things = {1: ([-0.5 + 0.06 * i, 1.3, 0.0], [-0.3 + 0.06 * i, 1.5, 0.2])}
        assert world.look(proposer) == ()


def test_a_mask_covers_its_object(world: World) -> None:
    proposer = DepthProposer(CONFIG)
    while not (seeds := world.look(proposer)):
        assert world.index < 20
    world.index -= 1
    _, ids = world.owner_of_pixels(world.pose())
    for s in seeds:
        own = ids == world.tracks[s.object_id]
        assert isinstance(s.prompt, Mask) and s.weight is not None
        assert (s.prompt.mask & own).sum() / (s.prompt.mask | own).sum() > 0.65
        assert s.weight[s.prompt.mask != own].mean() < 0.1


def test_pieces_at_the_place_of_a_new_track_are_no_second_one(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(places, "MIN_HELD_SHARE", 0.0)  # as if all were at one place
    world.run(DepthProposer(CONFIG), 20)
    assert len(world.tracks) == 1


def test_a_thing_that_comes_later_is_new(world: World) -> None:
    proposer = DepthProposer(CONFIG)
    del world.things[2]
    world.run(proposer, 12)
    assert sorted(world.tracks.values()) == [1, 3]
    world.things[2] = THINGS[2]
    world.run(proposer, 12)
    assert sorted(world.tracks.values()) == [1, 2, 3]


def test_there_is_no_more_than_there_is_room_for(world: World) -> None:
    proposer = DepthProposer(CONFIG)
    world.run(proposer, 12, room=0)
    assert world.tracks == {}
    assert len(world.look(proposer, room=1)) == 1, "the largest of those that waited"
    world.run(proposer, 6)
    assert len(world.tracks) == 3


def test_an_object_of_the_map_is_not_new(world: World, make_box: Callable[..., object]) -> None:
    proposer = DepthProposer(CONFIG)
    known = make_box(7, *THINGS[1], 0.02)
    for _ in range(15):
        depth, _ = world.owner_of_pixels(world.pose())
        projections = render(
            [known], world.pose(), world.camera, depth=depth, config=MappingConfig()
        )  # type: ignore[list-item]
        world.look(proposer, projections=projections)
    assert sorted(world.tracks.values()) == [2, 3]


def test_a_track_that_lost_its_object_gets_it_back(world: World) -> None:
    proposer = DepthProposer(CONFIG)
    world.run(proposer, 12)
    (lost,) = [t for t, thing in world.tracks.items() if thing == 2]
    world.blind.add(lost)
    again = [s.object_id for seeds in world.run(proposer, 12) for s in seeds]
    assert again == [lost] and world.tracks[lost] == 2 and len(world.tracks) == 3


def test_a_track_that_jumps_to_another_object_is_named(world: World) -> None:
    proposer = DepthProposer(CONFIG)
    world.run(proposer, 12)
    (jumped,) = [t for t, thing in world.tracks.items() if thing == 2]
    del world.things[2]
    world.things[5] = ([-0.9, 1.5, 0.0], [-0.65, 1.7, 0.3])  # it looks the same, elsewhere
    world.tracks[jumped] = 5
    world.run(proposer, 12)
    assert world.told_astray == [jumped] and list(world.tracks.values()).count(5) == 2, (
        "what it jumped to becomes a track of its own"
    )
    world.things[2] = THINGS[2]
    assert [s.object_id for seeds in world.run(proposer, 12) for s in seeds] == [
        jumped
    ] and world.tracks[jumped] == 2


def test_of_an_object_of_the_map_the_map_tells_where_it_is(world: World) -> None:
    proposer = DepthProposer(CONFIG)
    world.run(proposer, 12)
    world.named = set(world.tracks)
    world.blind = set(world.tracks)
    assert not any(world.run(proposer, 12)), "lost; the map will bring it back"
    world.blind.clear()
    world.tracks = dict(zip(world.tracks, [2, 3, 1], strict=True))
    assert not any(world.run(proposer, 12)) and not world.told_astray, (
        "elsewhere; the map may have moved it"
    )


def test_a_pose_that_jumps_is_not_taken_for_tracks_that_jump(world: World) -> None:
    proposer = DepthProposer(CONFIG)
    world.run(proposer, 12)
    world.offset = 0.5
    assert not any(world.run(proposer, 12)) and not world.told_astray
    (lost,) = [t for t, thing in world.tracks.items() if thing == 2]
    world.blind.add(lost)
    again = [s.object_id for seeds in world.run(proposer, 12) for s in seeds]
    assert again == [lost], "the places were learned anew"


def test_the_place_of_a_track_that_ended_is_free(world: World) -> None:
    proposer = DepthProposer(CONFIG)
    world.run(proposer, 12)
    (gone,) = [t for t, thing in world.tracks.items() if thing == 2]
    del world.tracks[gone]
    world.run(proposer, 12)
    assert sorted(world.tracks.values()) == [1, 2, 3] and gone not in world.tracks


def test_a_track_keeps_its_place_seen_from_another_side(world: World) -> None:
    """Followed by its prompt half way round the object; then the track fails."""
    proposer = DepthProposer(CONFIG)
    world.tracks = {50: 2}
    world.things = {2: THINGS[2]}
    world.run(proposer, 6)
    world.blind.add(50)
    assert [s.object_id for seeds in world.run(proposer, 12) for s in seeds] == [50]


@pytest.mark.parametrize(
    "bad",
    [
        {"depth": None},
        {"T_map_camera": None},
        {"depth": np.zeros((120, 160), np.float32)},
        {"depth": np.full((120, 160), np.nan, np.float32)},
        {"depth": np.full((120, 160), np.inf, np.float32)},
        {"depth": np.random.default_rng(0).uniform(0.3, 5.0, (120, 160)).astype(np.float32)},
        {"depth": np.ones((120, 160), np.float32)},
    ],
    ids=["no depth", "no pose", "nothing measured", "nan", "inf", "noise", "a wall"],
)
def test_frames_that_say_nothing_propose_nothing_and_do_no_harm(world: World, bad: dict) -> None:
    proposer = DepthProposer(CONFIG)
    assert not any(world.run(proposer, 10, **bad))
    world.run(proposer, 12)
    assert sorted(world.tracks.values()) == [1, 2, 3]


def test_holes_in_the_measurement_do_no_harm(world: World) -> None:
    proposer = DepthProposer(CONFIG)
    for _ in range(15):
        depth, _ = world.owner_of_pixels(world.pose())
        holes = np.random.default_rng(world.index).random(depth.shape)
        depth[holes < 0.03] = 0.0
        depth[holes > 0.98] = np.nan
        world.look(proposer, depth=depth)
    assert sorted(world.tracks.values()) == [1, 2, 3]


def test_the_image_may_change_its_size(world: World) -> None:
    proposer = DepthProposer(CONFIG)
    world.run(proposer, 4)
    world.camera = scaled_camera(world.camera, 2.0)
    world.run(proposer, 8)
    assert sorted(world.tracks.values()) == [1, 2, 3]


def test_voxels_add_up_whatever_the_signs() -> None:
    points = np.random.default_rng(0).uniform(-0.2, 0.2, (500, 3)).astype(np.float32)
    for origin in ([0, 0, 0], [-3000.0, 5000.0, -1.0]):
        there = voxels_of(points, se3.from_rt(np.eye(3), np.array(origin, float)))
        beside = voxels_of(points, se3.from_rt(np.eye(3), np.array(origin, float) + 0.025))
        away = voxels_of(points, se3.from_rt(np.eye(3), np.array(origin, float) + 0.5))
        assert (
            share_among(there, with_neighbours(there))
            == 1.0
            == share_among(beside, with_neighbours(there))
            and share_among(away, with_neighbours(there)) == 0.0
        )
    assert share_among(there, there[:0]) == 0.0 == share_among(there[:0], there)


def test_the_twins(world: World) -> None:
    assert proposer_of(ProposalsConfig()) is no_proposals and isinstance(
        proposer_of(CONFIG), DepthProposer
    )
    world.run(no_proposals, 3)
    assert world.tracks == {}
    truth = MaskProposer(
        lambda frame: world.owner_of_pixels(np.asarray(frame.T_map_camera))[1], min_px=30
    )
    assert [len(s) for s in (world.look(truth, room=2), world.look(truth), world.look(truth))] == [
        2,
        1,
        0,
    ]
    assert sorted(world.tracks.values()) == [1, 2, 3]


def test_it_costs_less_than_the_time_that_it_has(world: World) -> None:
    """15 ms a frame on one core at 640x480 is the aim; the bound leaves room for other work."""
    world.camera = scaled_camera(world.camera, 4.0)
    proposer, spent = DepthProposer(replace(ProposalsConfig(), mode="depth")), 0.0

    def timed(*args: object) -> object:
        nonlocal spent
        start = time.thread_time()
        proposed = proposer(*args)  # type: ignore[arg-type]
        spent += time.thread_time() - start
        return proposed

    world.run(timed, 12)
    assert 1e3 * spent / 12 < 30.0


def test_the_rest_of_a_known_object_is_its_part(
    world: World, make_box: Callable[..., object]
) -> None:
    """The map has the left half of a box."""
    (low, high), proposer = THINGS[2], DepthProposer(CONFIG)
    half = make_box(7, low, [0.5 * (low[0] + high[0]), *high[1:]])
    for _ in range(12):
        depth, _ = world.owner_of_pixels(world.pose())
        world.look(proposer, projections=render([half], world.pose(), world.camera, depth=depth))
    assert sorted(world.tracks.values()) == [1, 3], "half of a box is not another box"
    assert world.told_parts and {p.object_id for p, _ in world.told_parts} == {7}
    for part, ids in world.told_parts:
        assert (ids[part.mask] == 2).mean() > 0.8  # a border of one of these small pixels


def test_a_search_is_made_once_per_period(world: World) -> None:
    """At 10 Hz and a period of 0.2 s, five detections take the frames 0, 2, 4, 6, 8."""
    proposer = DepthProposer(replace(CONFIG, confirm_detections=5, confirm_s=0.0))
    assert [len(s) for s in world.run(proposer, 10)] == [0] * 8 + [3, 0]


def test_at_most_four_seeds_are_proposed_at_once_the_largest_first(world: World) -> None:
    world.things = {
        1 + i: ([x, y, 0.0], [x + 0.14, y + 0.12, 0.14 + 0.01 * i])
        for i, (x, y) in enumerate(itertools.product((-0.6, -0.2, 0.2), (1.1, 1.6)))
    }
    proposer = DepthProposer(CONFIG)
    first, second = [seeds for seeds in world.run(proposer, 8) if seeds]
    assert len(first) == 4 and len(second) >= 1
    smallest, largest = (
        choose(np.count_nonzero(s.prompt.mask) for s in seeds)
        for choose, seeds in ((min, first), (max, second))
    )
    assert smallest > 0.8 * largest, "by the cells of the grid, to which masks add a border"


def test_a_prompted_track_that_goes_elsewhere_is_not_reported(world: World) -> None:
    proposer = DepthProposer(CONFIG)
    world.tracks = {50: 2}
    world.things = {1: THINGS[1], 2: THINGS[2]}
    world.run(proposer, 6)
    world.tracks[50] = 1
    world.run(proposer, 6)
    assert world.told_astray == []


def test_a_drifted_track_that_starts_again_is_not_reported_as_drifted(world: World) -> None:
    proposer = DepthProposer(CONFIG)
    world.run(proposer, 12)
    (jumped,) = [t for t, thing in world.tracks.items() if thing == 2]
    world.things[5] = ([-0.9, 1.5, 0.0], [-0.65, 1.7, 0.3])
    world.tracks[jumped] = 5  # its object is still at its place
    seeds: tuple[Seed, ...] = ()
    while not seeds:
        reported = len(world.told_astray)
        seeds = world.look(proposer)
        world.blind.discard(jumped)
        assert world.index < 40
    assert jumped in [s.object_id for s in seeds] and len(world.told_astray) == reported


def test_images_of_another_grid_begin_anew(world: World) -> None:
    proposer = DepthProposer(CONFIG)
    world.run(proposer, 4)
    world.camera = scaled_camera(world.camera, 1.25)
    world.run(proposer, 10)
    assert sorted(world.tracks.values()) == [1, 2, 3]


def test_what_the_sensor_measured_before_is_not_the_end_of_what_it_measures(world: World) -> None:
    """Later frames measure nothing to the right of an object: it is not cut off there."""
    proposer = DepthProposer(CONFIG)
    world.things = {2: THINGS[2]}
    world.run(proposer, 1)
    for _ in range(12):
        depth, ids = world.owner_of_pixels(world.pose())
        depth[:, np.flatnonzero((ids == 2).any(0)).max() + 1 :] = 0.0
        world.look(proposer, depth=depth)
    assert list(world.tracks.values()) == [2]


def test_cells_of_tracks_and_of_uncertain_projections_are_known() -> None:
    camera = Intrinsics(100.0, 100.0, 159.5, 119.5, 320, 240)
    depth = np.full((240, 320), 1.0, np.float32)
    grid = grid_of(depth, camera, CONFIG)
    assert grid.step == 2
    index = np.zeros((240, 320), np.int32)
    index[0:20, 0:20], index[0:20, 40:60] = 1, 2
    mask = np.ones((20, 40), bool)
    projections = [
        Projection(i, (240, 320), (x, 100, x + 40, 120), mask, mask, mask * np.float32(1), 1, 0, 0)
        for i, x in ((7, 100), (8, 200))
    ]
    inputs = ProposerInput(
        frame=Frame(0, 0, np.zeros((240, 320, 3), np.uint8), depth, camera),
        T_map_camera=np.eye(4),
        instance_index=index,
        track_ids=(50, 60),
        object_of={50: 9, 60: 0},
        projections=projections,
        sigma_px={8: 4.0},
    )
    known = known_cells(inputs, index[1::2, 1::2], grid)
    wanted = np.zeros((120, 160), np.int32)
    wanted[0:10, 0:10], wanted[0:10, 20:30] = 9, -1
    wanted[50:60, 50:70] = 7
    wanted[46:64, 96:124] = 8  # by two standard deviations: 8 px, 4 cells
    np.testing.assert_array_equal(known, wanted)
