from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vos_ros.association.surfaces import Samples, Surfaces
from vos_ros.types import MapObject


def plate(object_id: int, x: float, z: float = 1.0, n: int = 21) -> MapObject:
    """20 cm by 20 cm, facing z."""
    a, b = np.meshgrid(np.linspace(-0.1, 0.1, n), np.linspace(-0.1, 0.1, n))
    points = np.stack([x + a.ravel(), b.ravel(), np.full(a.size, z)], 1).astype(np.float32)
    T = np.eye(4)
    T[:3, 3] = x, 0, z
    return MapObject(object_id, 0, T, np.array([0.2, 0.2, 0.01]), points, 0.006)


def samples(points: dict[int, np.ndarray]) -> Samples:
    rows = np.repeat(np.arange(1, len(points) + 1), [len(p) for p in points.values()])
    return Samples.of(np.concatenate(list(points.values())), rows, tuple(points))


def test_the_share_of_points_that_lie_on_the_surface() -> None:
    two = [plate(1, 0.0), plate(2, 1.0)]
    on, next_to = two[0].points, two[0].points + np.array([0.1, 0, 0], np.float32)
    got = Surfaces().overlaps(
        samples({5: on, 6: next_to, 7: on + np.array([0, 0, 0.3], np.float32)}),
        two,
        np.full(3, 0.01),
    )
    assert got[5, 1] == 1.0 and got[6, 1] == pytest.approx(0.55, abs=0.2)
    assert set(got) == {(5, 1), (6, 1)}


def test_the_reach_of_the_pose_brings_points_to_their_surface() -> None:
    off = plate(1, 0.0).points + np.array([0, 0, 0.05], np.float32)
    surfaces = Surfaces()
    assert surfaces.overlaps(samples({5: off}), [plate(1, 0.0)], np.array([0.02])) == {}
    assert surfaces.overlaps(samples({5: off}), [plate(1, 0.0)], np.array([0.06])) == {(5, 1): 1.0}


def test_a_point_within_the_reach_lies_on_the_surface_along_every_axis() -> None:
    """The plate is 0.2 m wide; each of its points stands for a disk of 6 mm."""
    for offset in ((0.115, 0, 0), (0, 0.115, 0), (0, 0, 0.015)):
        for sign in (1, -1):
            point = sign * np.array([offset], np.float32) + np.array([[0, 0, 1]], np.float32)
            for reach, on in ((0.005, False), (0.012, True)):
                reach_m = np.array([reach])
                got = Surfaces().overlaps(samples({5: point}), [plate(1, 0.0)], reach_m)
                assert got == ({(5, 1): 1.0} if on else {})


def test_each_track_has_a_reach_of_its_own() -> None:
    off = plate(1, 0.0).points + np.array([0, 0, 0.05], np.float32)
    got = Surfaces().overlaps(samples({5: off, 6: off}), [plate(1, 0.0)], np.array([0.02, 0.06]))
    assert got == {(6, 1): 1.0}


def test_a_dense_object_is_thinned_without_holes() -> None:
    """Every 12th of 22801 points is kept: each stands for a disk of 12 times the area."""
    dense = replace(plate(1, 0.0, n=151), point_radius=0.001)
    got = Surfaces().overlaps(samples({5: dense.points[3::7]}), [dense], np.array([0.0]))
    assert got[5, 1] == 1.0
    above = dense.points[::7] + np.array([0, 0, 0.004], np.float32)
    assert Surfaces().overlaps(samples({5: above}), [dense], np.array([0.0])) == {}


def test_few_points_of_a_large_track_are_searched_for_evenly() -> None:
    """Half of its points lie on the plate, the first half; 16 of 100 are searched for."""
    on, off = plate(1, 0.0).points[:50], plate(1, 0.0).points[:50] + np.float32(9.0)
    got = Surfaces().overlaps(
        samples({5: np.concatenate([on, off])}), [plate(1, 0.0)], np.array([0.01])
    )
    assert got[5, 1] == pytest.approx(0.5, abs=0.07)


def test_a_changed_object_is_read_anew() -> None:
    surfaces, points = Surfaces(), plate(1, 0.0).points
    before, after = plate(1, 0.0), plate(1, 2.0)
    assert surfaces.overlaps(samples({5: points}), [before], np.array([0.01])) == {(5, 1): 1.0}
    assert surfaces.overlaps(samples({5: points}), [after], np.array([0.01])) == {}
    assert surfaces.overlaps(samples({5: points}), [], np.array([0.01])) == {}
    two = [after, before]
    assert surfaces.overlaps(samples({5: points}), two, np.array([0.01])) == {(5, 1): 1.0}


def test_an_added_object_is_read_too() -> None:
    surfaces, first, second = Surfaces(), plate(1, 0.0), plate(2, 2.0)
    both = samples({5: first.points, 6: second.points})
    reach = np.full(2, 0.01)
    assert surfaces.overlaps(both, [first], reach) == {(5, 1): 1.0}
    assert surfaces.overlaps(both, [first, second], reach) == {(5, 1): 1.0, (6, 2): 1.0}
    assert surfaces.overlaps(both, [first], reach) == {(5, 1): 1.0}


def test_without_points_nothing_overlaps() -> None:
    points = plate(1, 0.0).points
    bare = MapObject(2, 0, np.eye(4), np.zeros(3), np.zeros((0, 3), np.float32), 0.01)
    assert Surfaces().overlaps(samples({5: points}), [bare], np.array([1.0])) == {}
    none = Samples.of(np.zeros((0, 3), np.float32), np.zeros(0, int), ())
    assert Surfaces().overlaps(none, [plate(1, 0.0)], np.zeros(0)) == {}
    assert none.mean.shape == (0, 3) and none.spread.shape == (0,)


def test_many_objects_are_told_apart_and_changes_among_them_are_followed() -> None:
    """More than one tree holds, against distances to all points."""
    rng = np.random.default_rng(0)
    objects = [plate(i, 0.15 * i, z=1.0 + 0.02 * (i % 3)) for i in range(1, 41)]
    points = {
        t: (objects[t - 1].points[::30] + rng.normal(0, 0.02, (15, 3))).astype(np.float32)
        for t in (1, 7, 16, 17, 33)
    }
    reach, surfaces = rng.uniform(0.005, 0.05, 5), Surfaces()

    def exhaustive() -> dict[tuple[int, int], float]:
        shares = {
            (t, o.id): float(
                np.mean(np.linalg.norm(own[:, None] - o.points, axis=2).min(1) < r + o.point_radius)
            )
            for (t, own), r in zip(points.items(), reach, strict=True)
            for o in objects
        }
        return {pair: share for pair, share in shares.items() if share}

    assert surfaces.overlaps(samples(points), objects, reach) == pytest.approx(exhaustive())
    assert len(exhaustive()) > 8
    objects[16] = plate(17, 0.15)
    del objects[30]
    got = surfaces.overlaps(samples(points), objects, reach)
    assert got == pytest.approx(exhaustive()) and (1, 17) in got and (17, 17) not in got


def test_samples_are_grouped_by_track() -> None:
    rng = np.random.default_rng(0)
    points, row = (
        rng.normal(size=(60, 3)).astype(np.float32),
        rng.permutation(np.repeat([1, 2, 4], [30, 25, 5])),
    )
    got = Samples.of(points, row, (50, 60, 70, 80), min_points=10)
    assert got.track_ids == (50, 60)
    for k, r in enumerate((1, 2)):
        own = points[row == r]
        first = got.count[:k].sum()
        assert (got.points[first : first + got.count[k]] == own).all()
        assert np.allclose(got.mean[k], own.mean(0)) and got.spread[k] == pytest.approx(
            np.sqrt(own.var(0).sum())
        )
    at_least_30 = Samples.of(points, row, (50, 60, 70, 80), min_points=30)
    assert at_least_30.track_ids == (50,)
    assert Samples.of(points, row, (50, 60, 70, 80), min_points=31).track_ids == ()
    row[row == 1] = 0
    assert Samples.of(points, row, (50, 60, 70, 80)).track_ids == (60, 80), "0 is no track"


def test_points_in_a_box_lie_on_an_object_that_is_a_box() -> None:
    whole = plate(1, 0.0)
    box = replace(plate(2, 1.0), points=whole.points[:0], size=np.array([0.2, 0.2, 0.1]))
    inside = whole.points + np.array([1.0, 0, 0.04], np.float32)
    half = inside + np.array([0.1, 0, 0], np.float32)
    got = Surfaces().overlaps(
        samples({5: whole.points, 6: inside, 7: half}), [whole, box], np.full(3, 0.005)
    )
    assert got[5, 1] == 1.0 and got[6, 2] == 1.0 and got[7, 2] == pytest.approx(0.52, abs=0.05)
    assert set(got) == {(5, 1), (6, 2), (7, 2)}
    alone = Surfaces().overlaps(samples({6: inside}), [box], np.full(1, 0.001))
    assert alone == {(6, 2): 1.0}
