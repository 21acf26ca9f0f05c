"""ObjectMap: what mappers send, in and out of order."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np
import pytest

from vos_ros.mapping.object_map import ObjectMap
from vos_ros.types import MapObject, MapUpdate, Mesh


def thing(object_id, z=1.0, **fields):
    points = np.array([[0.0, 0.0, z], [0.1, 0.0, z]], np.float32)
    return replace(MapObject(object_id, 2, np.eye(4), np.ones(3), points, 0.01), **fields)


def update(revision, *objects, full=False, session="s", **fields):
    return MapUpdate(1000 * revision, session, revision, full, tuple(objects), **fields)


@pytest.fixture
def held():
    m = ObjectMap()
    assert m.apply(update(5, thing(3), thing(1), thing(2), full=True, frame_id="odom")).reason == ""
    return m


def ids(m):
    return [o.id for o in m]


def test_an_empty_map():
    m = ObjectMap()
    assert (len(m), ids(m), m.session_id, m.revision, m.stamp_ns, m.frame_id) == (
        0,
        [],
        "",
        0,
        0,
        "map",
    )
    assert m.resolve(4) == 4 and 4 not in m and m.get(4) is None
    with pytest.raises(KeyError, match="object 4 is not in the map"):
        m[4]


def test_a_snapshot_fills_the_map_in_the_order_of_ids(held):
    assert ids(held) == [1, 2, 3] and 2 in held and held[2].id == 2 and held.get(3) is held[3]
    assert (held.session_id, held.revision, held.stamp_ns, held.frame_id) == ("s", 5, 5000, "odom")


def test_a_snapshot_replaces_and_may_jump(held):
    assert held.apply(update(40, thing(9), full=True)).reason == ""
    assert ids(held) == [9] and held.revision == 40 and held.frame_id == "map"


def test_a_delta_adds_changes_and_deletes(held):
    assert (
        held.apply(
            update(6, thing(7), thing(2, z=2.0), deleted_ids=(1, 99), frame_id="odom")
        ).reason
        == ""
    )
    assert ids(held) == [2, 3, 7] and held[2].points[0, 2] == 2.0 and held.revision == 6


def test_merges_are_followed_through_chains(held):
    assert held.apply(update(6, merged=((3, 2),), frame_id="odom")).reason == ""
    assert ids(held) == [1, 2] and held.resolve(3) == 2
    assert held.apply(update(7, thing(8), merged=((2, 8),), frame_id="odom")).reason == ""
    assert held.resolve(3) == held.resolve(2) == 8 and held.resolve(1) == 1
    assert held.apply(update(8, thing(1), thing(8), full=True)).reason == "", (
        "a snapshot of the same session forgets no merge"
    )
    assert held.resolve(3) == 8
    assert held.apply(update(9, thing(3))).reason == "", "an id that comes back is itself again"
    assert held.resolve(3) == 3


def test_chains_within_one_update_in_any_order(held):
    assert held.apply(update(6, merged=((1, 2), (2, 3)), frame_id="odom")).reason == ""
    assert ids(held) == [3] and held.resolve(1) == 3


def test_a_gap_keeps_the_old_map_until_a_snapshot(held):
    reason = held.apply(update(7, thing(9), frame_id="odom")).reason
    assert reason == "revision 7 came after 5: revision 6 is missing, waiting for a snapshot"
    assert ids(held) == [1, 2, 3] and held.revision == 5 and held.needs_snapshot
    assert "revisions 6 to 7 are missing" in held.apply(update(8, thing(9), frame_id="odom")).reason
    assert held.apply(update(8, thing(9), full=True)).reason == "" and not held.needs_snapshot
    assert held.apply(update(9, thing(4))).reason == "" and ids(held) == [4, 9]


def test_out_of_order_the_one_that_fills_the_gap_is_applied_and_the_later_one_is_still_missing(
    held,
):
    held.apply(update(7, thing(9), frame_id="odom"))
    assert (
        held.apply(update(6, thing(8), frame_id="odom")).reason == ""
        and ids(held) == [1, 2, 3, 8]
        and held.needs_snapshot
    )
    assert (
        held.apply(update(7, thing(9), frame_id="odom")).reason == "" and not held.needs_snapshot
    ), "it was sent again"


def test_an_update_that_is_wrong_in_itself_leaves_a_gap_too(held):
    held.apply(update(6, thing(8), thing(8), frame_id="odom"))
    assert held.revision == 5 and held.needs_snapshot


def test_what_is_old_is_ignored(held):
    assert (
        "revision 5 is not newer than revision 5"
        in held.apply(update(5, thing(9), frame_id="odom")).reason
    )
    assert "snapshot of revision 4 is older" in held.apply(update(4, thing(9), full=True)).reason
    assert ids(held) == [1, 2, 3] and not held.needs_snapshot
    assert held.apply(update(5, thing(1), full=True, frame_id="odom")).reason == "", (
        "a latched snapshot comes twice to a late joiner"
    )


def test_a_new_session_begins_with_a_snapshot(held):
    held.apply(update(6, merged=((3, 2),), frame_id="odom"))
    assert (
        "'t' is new: waiting for a snapshot" in held.apply(update(7, thing(9), session="t")).reason
    )
    assert held.session_id == "s" and ids(held) == [1, 2]
    assert held.apply(update(1, thing(9), full=True, session="t")).reason == ""
    assert (held.session_id, held.revision, ids(held), held.resolve(3)) == ("t", 1, [9], 3)


def test_before_any_snapshot_a_delta_waits():
    assert (
        "no map has come yet: waiting for a snapshot"
        in ObjectMap().apply(update(1, thing(1))).reason
    )


def test_a_delta_in_another_frame_waits(held):
    assert "in frame 'map', the map in 'odom'" in held.apply(update(6, thing(9))).reason


MESH = Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, 3]], np.int32))


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (update(6, thing(0)), "id outside 1..4294967295"),
        (update(6, thing(2**32)), "id outside"),
        (update(6, thing(4), thing(4)), "object 4 comes twice"),
        (update(6, thing(4, points=np.zeros((2, 2), np.float32))), "points of shape (2, 2)"),
        (update(6, thing(4, point_radius=0.0)), "point_radius 0.0"),
        (update(6, thing(4, point_radius=float("nan"))), "point_radius nan"),
        (update(6, thing(4, T_map_object=np.full((4, 4), np.nan))), "pose that is not a finite"),
        (update(6, thing(4, mesh=MESH)), "triangles of vertices 0..3, but 3 vertices"),
        (
            update(6, thing(4, mesh=replace(MESH, vertices=np.full((4, 3), np.nan, np.float32)))),
            "not finite",
        ),
        (update(6, merged=((1, 2), (1, 3))), "merged into two others"),
        (update(6, merged=((1, 2), (2, 1))), "circle"),
        (update(6, merged=((1, 1),)), "circle"),
        (update(6, merged=((1, 0),)), "merged into 0"),
        (update(6, thing(1), merged=((1, 2),)), "listed too"),
    ],
)
def test_a_flawed_update_is_not_applied_at_all(held, bad, why):
    before = list(held)
    reason = held.apply(replace(bad, frame_id="odom", deleted_ids=(2,))).reason
    assert (
        why in reason and "revision 6" in reason and "nothing of this update was applied" in reason
    )
    assert list(held) == before and held.revision == 5
    assert held.apply(update(6, thing(4), frame_id="odom")).reason == "", "the right one may follow"


def test_merges_of_later_updates_never_close_a_circle(held):
    """The last word counts; resolve() always ends."""
    assert held.apply(update(6, merged=((3, 2),), frame_id="odom")).reason == ""
    assert held.apply(update(7, thing(3), merged=((2, 3),), frame_id="odom")).reason == ""
    assert (held.resolve(2), held.resolve(3)) == (3, 3)
    assert held.apply(update(8, merged=((3, 2),), frame_id="odom")).reason == ""
    assert (held.resolve(2), held.resolve(3)) == (2, 2)
    assert held.apply(update(9, merged=((2, 1),), frame_id="odom")).reason == ""
    assert held.apply(update(10, merged=((1, 3),), frame_id="odom")).reason == ""
    assert held.resolve(1) == 3 and held.resolve(2) == 3 and held.resolve(3) == 3


@pytest.mark.parametrize("order", [1, -1])
def test_a_long_chain_of_merges_takes_no_longer_than_its_length(order):
    """2,000 in one message took 40 s: each was followed to its end."""
    n = 20_000
    m = ObjectMap()
    m.apply(update(1, *(thing(i) for i in range(1, n + 1)), full=True))
    began = time.monotonic()
    change = m.apply(update(2, merged=tuple((i, i + 1) for i in range(1, n))[::order]))
    assert time.monotonic() - began < 2.0
    assert change.reason == "" and ids(m) == [n]
    assert len(change.merged) == n - 1 and set(change.merged.values()) == {n}
    assert m.resolve(1) == n
    began = time.monotonic()
    circle = tuple((i, i % n + 1) for i in range(1, n + 1))[::order]
    assert "circle" in m.apply(update(3, merged=circle)).reason
    assert time.monotonic() - began < 2.0


def test_the_report_of_a_circle_is_short(held):
    n = 1000
    reason = held.apply(
        update(6, merged=tuple((i, i % n + 1) for i in range(1, n + 1)), frame_id="odom")
    ).reason
    assert "circle" in reason and len(reason) < 200


def test_an_earlier_merge_gives_way_to_one_that_would_close_a_circle(held):
    """1 -> 2 -> 3 is known; then 3 -> 1: what 1 became is forgotten, the rest stays."""
    assert held.apply(update(6, merged=((1, 2), (2, 3)), frame_id="odom")).reason == ""
    assert held.apply(update(7, thing(1), frame_id="odom")).reason == ""
    assert held.apply(update(8, merged=((3, 1),), frame_id="odom")).reason == ""
    assert [held.resolve(i) for i in (1, 2, 3)] == [1, 1, 1]


def test_merges_of_long_ago_are_forgotten():
    m = ObjectMap()
    m.apply(update(1, thing(1), full=True))
    for step in range(6):
        first = 10 + 20_000 * step
        merged = tuple((first + i, 1) for i in range(20_000))
        assert m.apply(update(2 + step, merged=merged)).reason == ""
    assert m.resolve(10) == 10, "forgotten"
    assert m.resolve(first + 5) == 1


def test_points_that_are_not_finite_are_left_out_and_objects_without_points_kept(held):
    points = np.array([[np.nan, 0.0, 0.0], [1.0, 2.0, 3.0], [np.inf, 0.0, 0.0]], np.float32)
    nothing = np.zeros((0, 3), np.float32)
    assert (
        held.apply(
            update(
                6,
                thing(4, points=points),
                thing(6, points=nothing, point_radius=0.0),
                frame_id="odom",
            )
        ).reason
        == ""
    )
    np.testing.assert_array_equal(held[4].points, [[1.0, 2.0, 3.0]])
    assert len(held[6].points) == 0


def test_a_change_tells_what_was_added_changed_deleted_and_merged(held: ObjectMap) -> None:
    old = {o.id: o for o in held}
    moved, new = thing(2, z=2.0), thing(7)
    change = held.apply(update(6, moved, new, deleted_ids=(1,), merged=((3, 2),), frame_id="odom"))
    assert (change.reason, change.new_session) == ("", False)
    assert change.added == (new,) and change.changed == ((old[2], moved),)
    assert change.deleted == (old[1], old[3]) and change.merged == {3: 2}


def test_a_change_leaves_out_what_stays_and_merges_into_what_is_gone(held: ObjectMap) -> None:
    same = held[2]
    change = held.apply(update(6, same, full=True, merged=((3, 9),), frame_id="odom"))
    assert change.added == change.changed == () and change.merged == {}
    assert [o.id for o in change.deleted] == [1, 3]


def test_in_a_new_session_every_object_has_changed(held: ObjectMap) -> None:
    same = held[2]
    change = held.apply(update(1, same, full=True, session="t"))
    assert change.new_session and change.changed == ((same, same),)


def test_an_update_that_is_refused_changes_nothing(held: ObjectMap) -> None:
    change = held.apply(update(9, thing(2, z=3.0), session="t"))
    assert change.reason and not change.new_session
    assert change.added == change.changed == change.deleted == () == tuple(change.merged)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_point_that_is_not_finite_along_any_axis_is_dropped(axis):
    points = np.zeros((3, 3), np.float32)
    points[1, axis] = np.nan
    m = ObjectMap()
    assert not m.apply(update(1, thing(1, points=points), full=True)).reason
    np.testing.assert_array_equal(m[1].points, points[[0, 2]])


@pytest.mark.parametrize("corner", [-1, 3])
def test_triangles_of_vertices_that_there_are_not_are_refused(corner):
    mesh = Mesh(np.zeros((3, 3), np.float32), np.array([[0, 1, corner]], np.int32))
    assert (
        "triangles of vertices"
        in ObjectMap().apply(update(1, thing(1, mesh=mesh), full=True)).reason
    )
