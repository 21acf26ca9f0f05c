from __future__ import annotations

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
    on, beside = two[0].points, two[0].points + np.array([0.1, 0, 0], np.float32)
    got = Surfaces().overlaps(
        samples({5: on, 6: beside, 7: on + np.array([0, 0, 0.3], np.float32)}),
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


def test_a_dense_object_is_thinned_without_holes() -> None:
    dense = plate(1, 0.0, n=151)
    assert (
        Surfaces().overlaps(samples({5: dense.points[3::7]}), [dense], np.array([0.005]))[5, 1]
        == 1.0
    )


def test_an_object_that_has_moved_is_looked_at_anew() -> None:
    surfaces, points = Surfaces(), plate(1, 0.0).points
    before, after = plate(1, 0.0), plate(1, 2.0)
    assert surfaces.overlaps(samples({5: points}), [before], np.array([0.01])) == {(5, 1): 1.0}
    assert surfaces.overlaps(samples({5: points}), [after], np.array([0.01])) == {}
    bare = MapObject(2, 0, np.eye(4), np.ones(3), np.zeros((0, 3), np.float32), 0.01)
    assert surfaces.overlaps(samples({5: points}), [bare], np.array([1.0])) == {}


def test_many_objects_are_told_apart_and_one_that_changed_is_looked_at_anew() -> None:
    """More than one tree holds, against distances to all points."""
    rng = np.random.default_rng(0)
    objects = [plate(i, 0.15 * i, z=1.0 + 0.02 * (i % 3)) for i in range(1, 41)]
    points = {
        t: (objects[t - 1].points[::30] + rng.normal(0, 0.02, (15, 3))).astype(np.float32)
        for t in (1, 7, 16, 17, 33)
    }
    reach, surfaces = rng.uniform(0.005, 0.05, 5), Surfaces()

    def listed() -> dict[tuple[int, int], float]:
        shares = {
            (t, o.id): float(
                np.mean(np.linalg.norm(own[:, None] - o.points, axis=2).min(1) < r + o.point_radius)
            )
            for (t, own), r in zip(points.items(), reach, strict=True)
            for o in objects
        }
        return {pair: share for pair, share in shares.items() if share}

    assert surfaces.overlaps(samples(points), objects, reach) == pytest.approx(listed())
    assert len(listed()) > 8
    objects[16] = plate(17, 0.15)
    del objects[30]
    got = surfaces.overlaps(samples(points), objects, reach)
    assert got == pytest.approx(listed()) and (1, 17) in got and (17, 17) not in got


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
    assert Samples.of(points, row, (50, 60, 70, 80), min_points=99).track_ids == ()
