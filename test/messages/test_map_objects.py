"""The object map, to a message and back."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from vos_ros.geometry import se3
from vos_ros.messages.geometry import covariance_from_message
from vos_ros.messages.map_objects import (
    ObjectRecord,
    map_objects_message,
    map_update_from_message,
)
from vos_ros.messages.stamps import ns_from_stamp
from vos_ros.types import MapObject, MapUpdate

Make = Callable[..., Any]
T = se3.perturb(np.eye(4), np.array([0.1, -0.2, 0.3, 0.4, 0.5, -0.6]))
SIZES = {1: 30, 2: 0, 9: 7}


def an_update() -> MapUpdate:
    rng = np.random.default_rng(0)
    objects = tuple(
        MapObject(
            id=i,
            class_id=i + 5,
            T_map_object=T,
            size=np.array([0.1, 0.2, 0.3]),
            points=rng.random((n, 3)).astype(np.float32),
            point_radius=0.01,
            embedding=np.arange(3, dtype=np.float32) if i == 2 else None,
            is_static=i != 9,
        )
        for i, n in SIZES.items()
    )
    return MapUpdate(
        stamp_ns=17 * 10**9 + 5,
        session_id="session",
        revision=4,
        full=False,
        objects=objects,
        deleted_ids=(3, 4),
        merged=((5, 1), (6, 9)),
        frame_id="world",
    )


def test_a_map_comes_back(make: Make, transport: Callable[[Any], Any]) -> None:
    update = an_update()
    back = map_update_from_message(transport(map_objects_message(make, update)))
    for name in ("stamp_ns", "session_id", "revision", "full", "deleted_ids", "merged", "frame_id"):
        assert getattr(back, name) == getattr(update, name)
    for a, b in zip(update.objects, back.objects, strict=True):
        assert (a.id, a.class_id, a.is_static, 4) == (b.id, b.class_id, b.is_static, b.revision)
        np.testing.assert_allclose(b.T_map_object, a.T_map_object, atol=1e-15)
        np.testing.assert_array_equal(b.size, a.size)
        np.testing.assert_array_equal(b.points, a.points)
        assert b.point_radius == pytest.approx(0.01)
        assert (a.embedding is None) == (b.embedding is None)
        if a.embedding is not None:
            np.testing.assert_array_equal(b.embedding, a.embedding)


def test_an_empty_map_is_a_message_too(make: Make, transport: Callable[[Any], Any]) -> None:
    update = MapUpdate(7, "s", 2, True, ())
    back = map_update_from_message(transport(map_objects_message(make, update)))
    assert (back.objects, back.deleted_ids, back.merged, back.full, back.revision) == (
        (),
        (),
        (),
        True,
        2,
    )


def test_an_object_without_a_record_is_certain_and_seen_once_at_the_stamp(make: Make) -> None:
    one = map_objects_message(make, an_update()).objects[0]
    assert (one.class_score, one.existence_probability, one.observations) == (1.0, 1.0, 1)
    assert ns_from_stamp(one.first_seen) == ns_from_stamp(one.last_seen) == 17 * 10**9 + 5
    assert covariance_from_message(one.pose.covariance) is None


def test_the_records_of_a_mapper_are_written(make: Make, transport: Callable[[Any], Any]) -> None:
    record = ObjectRecord(
        class_score=0.25,
        existence_probability=0.5,
        first_seen_ns=0,
        last_seen_ns=8,
        observations=31,
        pose_cov=np.eye(6) * 2,
    )
    _, _, other = transport(map_objects_message(make, an_update(), {1: record})).objects
    one = transport(map_objects_message(make, an_update(), {1: record})).objects[0]
    assert (one.class_score, one.existence_probability, one.observations) == (0.25, 0.5, 31)
    assert (ns_from_stamp(one.first_seen), ns_from_stamp(one.last_seen)) == (0, 8)
    np.testing.assert_array_equal(covariance_from_message(one.pose.covariance), np.eye(6) * 2)
    assert other.observations == 1


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_points_that_are_not_finite_are_left_out(make: Make, value: float) -> None:
    update = an_update()
    update.objects[0].points[3] = value
    update.objects[0].points[5, 2] = value
    back = map_update_from_message(map_objects_message(make, update))
    np.testing.assert_array_equal(
        back.objects[0].points, np.delete(update.objects[0].points, [3, 5], axis=0)
    )
    np.testing.assert_array_equal(back.objects[2].points, update.objects[2].points)


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda m: setattr(m.objects[0], "id", 0), "id 0, which means none"),
        (lambda m: setattr(m.objects[2], "point_count", 8), r"object 9 claims .* 30\.\.38"),
        (lambda m: setattr(m.objects[0], "point_radius", 0.0), "object 1: point_radius is 0"),
        (
            lambda m: setattr(m.objects[0], "point_radius", math.inf),
            "object 1: point_radius is inf",
        ),
        (lambda m: setattr(m, "merged_into", m.merged_into[:1]), "2 merged_from and 1 merged_into"),
        (lambda m: setattr(m.objects[1].pose.pose.orientation, "w", math.nan), "object 2"),
        (lambda m: setattr(m.points, "fields", []), "x, y, z"),
    ],
)
def test_a_map_that_contradicts_itself_is_refused_by_name(
    make: Make, spoil: Callable[[Any], None], text: str
) -> None:
    msg = map_objects_message(make, an_update())
    spoil(msg)
    with pytest.raises(ValueError, match=text):
        map_update_from_message(msg)


def test_an_object_without_points_needs_no_radius(make: Make) -> None:
    update = an_update()
    bare = replace(update, objects=(replace(update.objects[1], point_radius=0.0),))
    assert len(map_update_from_message(map_objects_message(make, bare)).objects) == 1
