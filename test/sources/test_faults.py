"""Faults are of the stated size, reproducible, and change nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pytest

from vos_ros.geometry import se3
from vos_ros.sources.faults import (
    Covered,
    FaultyMap,
    GivenMap,
    LostFrames,
    MapOfBoxes,
    PoseDrift,
    WithoutDepth,
    board_mask,
)
from vos_ros.types import Frame, MapObject, MapUpdate


class Source:
    map_frame = "world"

    def __init__(self, items: list[Frame | MapUpdate]) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Frame | MapUpdate]:
        return iter(self.items)

    def __len__(self) -> int:
        return sum(isinstance(i, Frame) for i in self.items)


@pytest.fixture
def frames(make_frame: Callable[..., Frame]) -> list[Frame | MapUpdate]:
    return [
        make_frame(i, 40, 60, T_map_camera=np.eye(4), depth=np.full((40, 60), 2.0, np.float32))
        for i in range(11)
    ]


def snapshot(revision: int = 1, ids: tuple[int, ...] = tuple(range(1, 11))) -> MapUpdate:
    objects = [
        MapObject(
            i,
            1,
            se3.from_rt(np.eye(3), np.full(3, float(i))),
            np.ones(3),
            np.full((4, 3), i, np.float32),
            0.01,
        )
        for i in ids
    ]
    return MapUpdate(0, "s", revision, True, tuple(objects))


def test_drift_grows_evenly_and_its_covariance_with_it(frames: list[Frame | MapUpdate]) -> None:
    drifted = [f for f in PoseDrift(Source(frames), 0.1, 5.0, seed=3) if isinstance(f, Frame)]
    errors = np.array(
        [se3.difference(f.T_map_camera, np.eye(4)) for f in drifted if f.T_map_camera is not None]
    )
    assert np.allclose(np.linalg.norm(errors[:, :3], axis=1), np.linspace(0, 0.1, 11))
    assert np.allclose(np.rad2deg(np.linalg.norm(errors[:, 3:], axis=1)), np.linspace(0, 5, 11))
    assert drifted[-1].pose_cov is not None and np.isclose(
        np.trace(drifted[-1].pose_cov[:3, :3]), 0.1**2
    )
    other = [f for f in PoseDrift(Source(frames), 0.1, 5.0, seed=4) if isinstance(f, Frame)][-1]
    assert not np.allclose(other.T_map_camera, drifted[-1].T_map_camera)


def test_a_faulty_map_lacks_and_invents_the_same_objects_in_every_update() -> None:
    source = FaultyMap(
        Source([snapshot(), snapshot(2)]), missing=0.3, invented=0.2, seed=1, shift_m=0.5
    )
    first, second = (u for u in source if isinstance(u, MapUpdate))
    assert [o.id for o in first.objects] == [o.id for o in second.objects]
    true = [o.id for o in first.objects if o.id <= 10]
    assert len(true) == 7 and source.invented_ids == {11, 12}
    for o in first.objects:
        if o.id > 10:
            assert np.isclose(o.T_map_object[2, 3] - o.T_map_object[0, 3], 0.5)
            assert np.allclose(o.points[:, 2] - o.points[:, 0], 0.5) and o.T_map_object[
                0, 3
            ] in range(1, 11)


def test_a_map_of_boxes_has_positions_and_sizes_alone() -> None:
    points = np.ones((4, 3), np.float32)
    known = MapObject(3, 1, np.eye(4), np.ones(3), points, 0.01)
    frames = Source([MapUpdate(0, "s", 1, True, (known,), deleted_ids=(9,))])
    (update,) = MapOfBoxes(frames)
    assert isinstance(update, MapUpdate) and update.deleted_ids == (9,)
    (box,) = update.objects
    assert box.is_box and box.id == 3 and not len(box.points)


def test_lost_frames_are_lost_for_every_reader(frames: list[Frame | MapUpdate]) -> None:
    source = LostFrames(Source([snapshot(), *frames]), 0.5, seed=2)
    kept = [f.index for f in source if isinstance(f, Frame)]
    assert (
        kept == [f.index for f in source if isinstance(f, Frame)]
        and 0 in kept
        and 2 <= len(kept) < 11
    )


def test_a_board_covers_colour_and_depth_where_it_says(frames: list[Frame | MapUpdate]) -> None:
    sizes = []
    for f, original in zip(Covered(Source(frames)), frames, strict=True):
        assert (
            isinstance(f, Frame)
            and isinstance(original, Frame)
            and f.depth is not None
            and original.depth is not None
        )
        board = board_mask(f.index, f.shape)
        assert (f.rgb[board] == 128).all() and np.allclose(f.depth[board], 0.3)
        assert np.array_equal(f.rgb[~board], original.rgb[~board]) and np.array_equal(
            f.depth[~board], original.depth[~board]
        )
        sizes.append(int(board.sum()))
    assert board_mask(40, (40, 60)).sum() == 15 * 20 and sizes[0] == 0 < sizes[-1]


def test_without_depth(frames: list[Frame | MapUpdate]) -> None:
    assert all(isinstance(f, Frame) and f.depth is None for f in WithoutDepth(Source(frames)))


@pytest.mark.parametrize(
    "make",
    [
        lambda s: PoseDrift(s, -1, 0),
        lambda s: PoseDrift(s, 0, -1),
        lambda s: FaultyMap(s, missing=2),
        lambda s: FaultyMap(s, invented=1.1),
        lambda s: FaultyMap(s, missing=-0.1),
        lambda s: LostFrames(s, -0.1),
        lambda s: LostFrames(s, 1.0),
    ],
)
def test_sizes_that_make_no_sense(make: Callable[[Source], object]) -> None:
    with pytest.raises(ValueError, match="wanted"):
        make(Source([]))


def test_a_given_map_comes_first_and_alone(frames: list[Frame | MapUpdate]) -> None:
    items = list(GivenMap(Source([snapshot(), *frames, snapshot(2)]), snapshot(7, ids=(3,))))
    assert isinstance(items[0], MapUpdate) and items[0].revision == 7 and len(items) == 12
    assert all(a is b for a, b in zip(items[1:], frames, strict=True))


def test_drift_adds_to_the_covariance_of_the_source(make_frame: Callable[..., Frame]) -> None:
    known = [make_frame(i, 2, 2, pose_cov=np.eye(6)) for i in range(3)]
    unknown = make_frame(0, 2, 2, T_map_camera=None)
    source = PoseDrift(Source([unknown, *known]), 0.3, 0.0)
    first, *rest = source
    assert first is unknown and len(source) == 4
    for i, frame in enumerate(rest):
        assert isinstance(frame, Frame)
        expected = np.eye(6) + np.diag([(i / 3 * 0.3) ** 2 / 3] * 3 + [0.0] * 3)
        np.testing.assert_allclose(frame.pose_cov, expected)


def test_copies_come_and_objects_stay_away_in_a_change_of_the_map() -> None:
    delta = snapshot(2, ids=(1, 2))
    source = FaultyMap(Source([snapshot(), delta]), missing=0.5, invented=0.5, seed=1)
    assert source.invented_ids == frozenset()
    whole, change = (u for u in source if isinstance(u, MapUpdate))
    kept = {o.id for o in whole.objects if o.id <= 10}
    originals = {o.id: round(float(o.T_map_object[0, 3])) for o in whole.objects if o.id > 10}
    assert len(kept) == 5 and len(originals) == 5 and not kept & {0}
    wanted = {i for i in (1, 2) if i in kept} | {n for n, o in originals.items() if o in (1, 2)}
    assert {o.id for o in change.objects} == wanted


def test_the_board_passes_from_left_to_right_and_comes_again() -> None:
    left = [np.nonzero(board_mask(i, (40, 60)))[1].min() for i in (10, 40, 70)]
    assert left == sorted(left) and left[0] < left[-1]
    assert np.array_equal(board_mask(90, (40, 60)), board_mask(10, (40, 60)))
    rows = np.nonzero(board_mask(40, (40, 60)))[0]
    assert (rows.min(), rows.max()) == (10, 29)
