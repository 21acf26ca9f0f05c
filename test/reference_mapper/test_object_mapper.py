"""What each status does to the map, and that whoever applies the updates holds the same map."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from support.mapper_run import MapperRun

from vos_ros.config import changed
from vos_ros.mapping.object_map import ObjectMap
from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.reference_mapper.frames import LabelledDepth, lift_tracks
from vos_ros.reference_mapper.object_mapper import ObjectMapper
from vos_ros.types import AssociationStatus as S
from vos_ros.types import Intrinsics, Verdict


def test_a_new_track_becomes_an_object_when_it_was_confirmed_and_seen_often_and_long_enough(run):
    points = run.surface((0, 0, 1))
    run.integrate((1, 0, S.NEW, points), times=20, confirmed=False)
    assert not run.mapper.objects, "a track that isn't confirmed is no object"
    run.integrate((1, 0, S.NEW, points), times=5)
    assert not run.mapper.objects, "half a second is wanted"
    run.integrate((1, 0, S.NEW, points), class_id=4)
    (o,) = run.mapper.objects.values()
    assert (o.id, o.class_id, o.observations) == (1, 4, 6) and run.events == [
        f"object 1 begins from track 1, with {len(o.grid)} points"
    ]
    run.integrate((1, 0, S.NEW, points), times=3)
    assert list(run.mapper.objects) == [1] and run.mapper.objects[1].observations == 9, (
        "until the node knows it, its track does"
    )


def test_too_few_points_or_an_unsure_camera_make_no_object(run):
    run.integrate((1, 0, S.NEW, run.surface((0, 0, 1), count=10)), times=20)
    run.pose_cov = np.eye(6) * 0.2**2
    run.integrate((2, 0, S.NEW, run.surface((1, 0, 1))), times=20)
    run.pose_cov = None
    run.integrate((3, 0, S.NEW, run.surface((2, 0, 1))), times=20, T_map_camera=None)
    run.integrate((4, 0, S.NEW, None), times=20)
    assert not run.mapper.objects


def test_a_track_that_pauses_too_long_starts_over(run):
    points = run.surface((0, 0, 1))
    run.integrate((1, 0, S.NEW, points), times=4)
    run.index += 200
    run.integrate((1, 0, S.NEW, points), times=4)
    assert not run.mapper.objects


def test_a_track_that_wanders_is_no_object_and_one_that_slipped_off_its_object_makes_no_other(
    run,
):
    for k in range(30):
        run.integrate((1, 0, S.NEW, run.surface((0.3 * k, 0, 1))))
    assert not run.mapper.objects
    i = run.make_object(2, (0, 5, 1))
    run.integrate((2, 0, S.NEW, run.surface((0, 6, 1))), times=20)
    assert set(run.mapper.objects) == {i} and run.mapper.objects[i].observations == 8
    run.integrate((3, i, S.MATCHED, run.surface((0, 5, 1))))
    done = run.integrate((3, 0, S.NEW, run.surface((0, 6, 1))), times=20)
    assert set(run.mapper.objects) == {i} and done.counts == {
        "NEW of a track that is not on its object": 1
    }


def test_a_mask_that_covers_two_look_alikes_gives_the_larger(run):
    both = np.concatenate([run.surface((0, 0, 1)), run.surface((0.5, 0, 1), count=300)])
    run.integrate((1, 0, S.NEW, both), times=8)
    (o,) = run.mapper.objects.values()
    assert o.extent(run.mapper.config.model)[1, 0] < 0.1


def test_matches_integrate_and_grow_the_object(run):
    i = run.make_object(1, (0, 0, 1))
    before = run.mapper.objects[i]
    other_side = run.surface((0.03, 0, 1), seed=5)
    done = run.integrate((1, i, S.MATCHED, other_side), times=3)
    after = run.mapper.objects[i]
    assert (
        done.counts == {"integrated": 1}
        and after.observations == before.observations + 3
        and len(after.grid) > len(before.grid)
    )
    assert after.extent(run.mapper.config.model)[1, 0] > 0.07


@pytest.mark.parametrize("status", [S.TENTATIVE, S.OCCLUDED, S.OUT_OF_VIEW, S.LOST])
def test_these_say_nothing_of_the_map(run, status):
    i = run.make_object(1, (0, 0, 1))
    run.mapper.update()
    before = run.mapper.objects[i]
    done = run.integrate((1, i, status, run.surface((0.2, 0, 1))), (0, i, status, None), times=20)
    assert (
        run.mapper.objects[i] is before
        and done.counts == {f"{status.name} noted": 2}
        and run.mapper.update() is None
    )


def test_an_unsure_match_and_a_match_elsewhere_are_not_integrated(run):
    i = run.make_object(1, (0, 0, 1))
    before = run.mapper.objects[i]
    frame = run.frame((1, i, S.MATCHED, run.surface((0, 0, 1))))
    unsure = replace(frame, associations=(replace(frame.associations[0], score=0.1),))
    assert run.mapper.integrate(unsure).counts == {"match too unsure": 1}
    assert run.integrate((1, i, S.MATCHED, run.surface((0.8, 0, 1)))).counts == {
        "match elsewhere": 1
    }
    assert run.mapper.objects[i] is before
    # what leaks onto the wall behind is cut
    leak = np.concatenate([run.surface((0, 0, 1)), run.surface((0, 0, 2.0), count=100)])
    run.integrate((1, i, S.MATCHED, leak), times=4)
    assert run.mapper.objects[i].extent(run.mapper.config.model)[1, 2] < 1.1


def test_an_object_found_again_elsewhere_moves_with_its_id(run):
    i = run.make_object(1, (0, 0, 1))
    run.integrate((1, i, S.REIDENTIFIED, run.surface((0, 0, 1))))
    assert run.mapper.objects[i].observations == 9
    run.integrate((1, i, S.REIDENTIFIED, run.surface((0.8, 0, 1))))
    run.integrate((1, i, S.MATCHED, run.surface((0.8, 0, 1), seed=2)))
    low, high = run.mapper.objects[i].extent(run.mapper.config.model)
    np.testing.assert_allclose((low + high) / 2, [0.8, 0, 1], atol=0.02)
    assert "found again in another place" in run.events[-1]


def test_absent_deletes_after_a_while_and_only_without_matches_between(run):
    i = run.make_object(1, (0, 0, 1))
    seen = (1, i, S.MATCHED, run.surface((0, 0, 1)))
    for _ in range(10):
        run.integrate((0, i, S.ABSENT, None), times=4)
        run.integrate(seen)
    assert i in run.mapper.objects, "what is seen now and then exists"
    run.integrate(seen, times=10)
    run.mapper.update()
    run.integrate((0, i, S.ABSENT, None), times=10)
    assert i in run.mapper.objects and run.mapper.objects[i].existence < 0.9
    run.integrate((1, i, S.ABSENT, None), times=20)
    assert i not in run.mapper.objects and run.mapper.update().deleted_ids == (i,)
    assert run.integrate((1, i, S.MATCHED, seen[3])).counts == {
        "match of an object that is gone": 1
    }
    assert run.make_object(9, (0, 0, 1)) == i + 1, "ids are never used again"


@pytest.mark.parametrize("verdict", [Verdict.UNDECIDED, Verdict.CONTRADICTED])
def test_nothing_is_deleted_on_the_word_of_a_run_that_has_not_passed(run, verdict):
    i, j = run.make_object(1, (0, 0, 1)), run.make_object(2, (1, 0, 1))
    absent = [(0, i, S.ABSENT, None), (0, j, S.MERGE, None, (i,))]
    before = run.mapper.objects[j].observations
    for _ in range(60):
        done = run.integrate(*absent, (2, j, S.MATCHED, run.surface((1, 0, 1))), self_check=verdict)
    assert set(run.mapper.objects) == {i, j}
    assert ("contradict each other" in done.refused) == (verdict == Verdict.CONTRADICTED)
    grown = run.mapper.objects[j].observations > before
    assert grown == (verdict == Verdict.UNDECIDED), "what is matched is still integrated"


def test_not_all_that_is_in_view_is_deleted_at_once(run):
    ids = [run.make_object(k + 1, (k, 0, 1)) for k in range(10)]
    absent = [(0, i, S.ABSENT, None) for i in ids]
    for _ in range(12):
        run.integrate(*absent)
    assert len(run.mapper.objects) == 10, "the first ones are on the way"
    run.integrate(*absent, times=6)
    assert len(run.mapper.objects) == 7, "three of ten"
    run.integrate(*absent, times=200)
    assert len(run.mapper.objects) == 0, "a table that was cleared is cleared in the end"


def test_a_frame_that_shows_an_object_twice_absent_counts_once_and_a_match_wins(run):
    i = run.make_object(1, (0, 0, 1))
    before = run.mapper.objects[i].log_odds
    run.integrate((1, i, S.MATCHED, run.surface((0, 0, 1))), (0, i, S.ABSENT, None))
    assert run.mapper.objects[i].log_odds > before and run.mapper.objects[i].absent_ns is None


def test_merge_joins_two_objects_into_the_older_after_several_frames(run):
    a, b = run.make_object(1, (0, 0, 1), class_id=3), run.make_object(2, (0.12, 0, 1))
    run.mapper.update()
    both = run.surface((0.06, 0, 1), (0.22, 0.1, 0.1))
    run.integrate((1, b, S.MERGE, both, [a]), times=4)
    run.integrate(
        (1, a, S.MATCHED, run.surface((0, 0, 1))), (2, b, S.MATCHED, run.surface((0.12, 0, 1)))
    )
    run.integrate((1, b, S.MERGE, both, [a]), times=4)
    assert set(run.mapper.objects) == {a, b}, (
        "a frame that matched both between is evidence against it"
    )
    run.integrate((1, b, S.MERGE, both, [a]))
    (o,) = run.mapper.objects.values()
    assert o.id == a and o.class_id == 3 and run.mapper.resolve(b) == a
    low, high = o.extent(run.mapper.config.model)
    assert high[0] - low[0] > 0.2
    update = run.mapper.update()
    assert (
        update.merged == ((b, a),)
        and [x.id for x in update.objects] == [a]
        and update.deleted_ids == ()
    )
    # associations of an older revision still name the former id
    assert run.integrate((2, b, S.MATCHED, run.surface((0.12, 0, 1)))).counts == {"integrated": 1}


def test_split_separates_what_two_tracks_measured_apart(run):
    i = run.make_object(1, (0.1, 0, 1), size=(0.3, 0.1, 0.1), count=3000)
    run.mapper.update()
    left, right = (
        run.surface((0, 0, 1), (0.1, 0.1, 0.1)),
        run.surface((0.19, 0, 1), (0.12, 0.1, 0.1), seed=3, count=1000),
    )
    associations = (1, i, S.SPLIT, left, [2]), (2, i, S.SPLIT, right, [1])
    run.integrate(*associations, times=9)
    assert set(run.mapper.objects) == {i}
    run.integrate(*associations)
    (new,) = set(run.mapper.objects) - {i}
    boxes = {k: o.extent(run.mapper.config.model) for k, o in run.mapper.objects.items()}
    low, high = sorted(boxes.values(), key=lambda box: box[0, 0])
    assert low[1, 0] <= high[0, 0] + 0.03, "each has its part"
    assert run.events[-1] == f"object {new} was separated from object {i}"
    update = run.mapper.update()
    assert {o.id for o in update.objects} == {i, new}
    # the track that has no object yet goes on with its own, whatever the node calls it meanwhile
    track, points = (1, left) if boxes[new][0, 0] < boxes[i][0, 0] else (2, right)
    run.integrate((track, 0, S.NEW, points), times=12)
    assert set(run.mapper.objects) == {i, new}


def test_split_of_one_and_the_same_surface_is_refused(run):
    i = run.make_object(1, (0, 0, 1))
    same = run.surface((0, 0, 1))
    run.integrate((1, i, S.SPLIT, same, [2]), (2, i, S.SPLIT, same, [1]), times=10)
    assert set(run.mapper.objects) == {i} and "stays one" in run.events[-1]


def test_a_new_object_in_the_place_of_a_known_one_is_that(run):
    i = run.make_object(1, (0, 0, 1))
    for k in range(8):
        run.integrate((5, 0, S.NEW, run.surface((0.01, 0, 1), seed=k)))
    assert (
        set(run.mapper.objects) == {i}
        and run.events[-1] == f"object {i} is what track 5 shows: they share their surface"
    )
    assert run.mapper.objects[i].observations == 16
    # One next to it is another one, even where they touch.
    assert run.make_object(6, (0.1, 0, 1)) == i + 1


def test_a_card_that_is_laid_on_a_known_box_stays_a_card(run):
    """Its points are within noise of the box's top, but frames matched both next to each other."""
    box = run.make_object(1, (0, 0, 1), size=(0.3, 0.3, 0.1), count=4000)
    for k in range(8):
        run.integrate(
            (1, box, S.MATCHED, run.surface((0, 0, 1), (0.3, 0.3, 0.1), seed=50 + k)),
            (2, 0, S.NEW, run.surface((0.0, 0.0, 1.051), (0.12, 0.12, 0.002), seed=k)),
        )
    assert len(run.mapper.objects) == 2


def test_two_tracks_that_share_one_thing_give_one_object(run):
    i = run.make_object(1, (0, 0, 1))
    for k in range(8):
        run.integrate(
            (1, i, S.MATCHED, run.surface((0, 0, 1), seed=50 + k)),
            (2, 0, S.NEW, run.surface((0, 0, 1), seed=k)),
        )
    assert set(run.mapper.objects) == {i}


def test_a_part_of_a_known_body_is_that_body(run):
    """One end of a bar, whose own mask has lost that end: the boxes are not similar."""
    size = (0.4, 0.1, 0.1)
    bar = run.make_object(1, (0, 0, 1), size=size, count=4000)
    end = run.surface((0.15, 0, 1), (0.1, 0.1, 0.1), count=1500)
    kept = end[(end[:, 0] > 0.11) & (end[:, 0] < 0.19)]  # without the faces across the bar
    for k in range(8):
        run.integrate(
            (1, bar, S.MATCHED, run.surface((-0.05, 0, 1), (0.3, 0.1, 0.1), seed=50 + k)),
            (2, 0, S.NEW, kept),
        )
    assert (
        set(run.mapper.objects) == {bar}
        and run.events[-1] == f"object {bar} is what track 2 shows: they share their surface"
    )


def test_two_objects_that_grow_to_be_one_are_joined(run):
    whole = {"size": (0.2, 0.1, 0.1), "count": 1600}
    left = run.make_object(1, (-0.07, 0, 1), size=(0.06, 0.1, 0.1))
    right = run.make_object(2, (0.07, 0, 1), size=(0.06, 0.1, 0.1))
    run.mapper.update()
    assert run.mapper.tidy() == () and len(run.mapper.objects) == 2
    for k in range(12):
        run.integrate((1, left, S.MATCHED, run.surface((0, 0, 1), seed=k, **whole)))
        run.integrate((2, right, S.MATCHED, run.surface((0, 0, 1), seed=40 + k, **whole)))
    assert run.mapper.tidy() == (
        f"object {right} became part of object {left}: they have grown to share surface and box",
    )
    assert run.mapper.update().merged == ((right, left),) and run.mapper.tidy() == ()


def test_an_object_whose_surface_is_measured_as_something_else_goes(run):
    """A mask that leaked onto the wall and then shows an object in front of it."""
    camera = Intrinsics(100.0, 100.0, 31.5, 23.5, 64, 48)
    depth, labels = np.full((48, 64), 2.0, np.float32), np.zeros((48, 64), np.uint16)
    labels[10:40, 10:30] = 7
    wall = lift_tracks(
        LabelledDepth(labels, {1: 7}, depth, camera), {1}, np.eye(4), run.mapper.lifting
    )[1]
    run.integrate(
        (1, 0, S.NEW, wall), times=8, labelled_depth=LabelledDepth(labels, {1: 7}, depth, camera)
    )
    (i,) = run.mapper.objects
    run.mapper.update()
    elsewhere = np.zeros_like(labels)
    elsewhere[10:40, 40:60] = 7
    run.integrate(
        (1, i, S.MATCHED, wall),
        times=15,
        labelled_depth=LabelledDepth(labels, {1: 7}, depth, camera),
    )
    assert run.mapper.tidy() == ()
    # The points are still reported there, and the label image contradicts them.
    run.integrate(
        (1, i, S.MATCHED, wall[:20]),
        times=80,
        labelled_depth=LabelledDepth(elsewhere, {1: 7}, depth, camera),
    )
    assert run.mapper.tidy() == (
        f"object {i} is deleted: its surface was measured as something else",
    )
    assert run.mapper.update().deleted_ids == (i,)


def test_frames_of_another_map_frame_or_session_are_refused_and_said(run):
    i = run.make_object(1, (0, 0, 1))
    points = run.surface((0, 0, 1))
    assert (
        "set node.map_frame" in run.integrate((1, i, S.MATCHED, points), map_frame="odom").refused
    )
    assert (
        "another mapper"
        in run.integrate((1, i, S.MATCHED, points), map_session_id="theirs").refused
    )
    assert run.integrate((1, 0, S.NEW, points), map_session_id="", map_revision=0).refused == "", (
        "a node without a map has NEW tracks"
    )
    assert run.mapper.objects[i].observations == 9


def test_a_revision_from_the_future_begins_a_new_session(run):
    i = run.make_object(1, (0, 0, 1))
    run.mapper.update()
    old = run.mapper.session_id
    refused = run.integrate((1, i, S.MATCHED, None), map_revision=500).refused
    assert "revision 500" in refused and run.mapper.session_id != old
    update = run.mapper.update()
    assert update.full and update.revision == 1 and [o.id for o in update.objects] == [i]


def test_tracks_of_another_session_are_other_tracks_and_time_may_jump_back(run):
    points = run.surface((0, 0, 1))
    run.integrate((1, 0, S.NEW, points), times=4)
    run.session = "again"
    run.integrate((1, 0, S.NEW, points), times=4)
    assert not run.mapper.objects
    run.index = -100
    run.integrate((1, 0, S.NEW, points), times=4)
    assert not run.mapper.objects
    run.integrate((1, 0, S.NEW, points), times=4)
    assert len(run.mapper.objects) == 1


def test_whoever_applies_the_updates_holds_the_same_map():
    config = changed(MapperConfig(), {"node.snapshot_every": 7})
    run = MapperRun(ObjectMapper(config))
    here, late = ObjectMap(), ObjectMap()
    kinds = []

    def tell():
        update = run.mapper.update()
        if update is not None:
            kinds.append(update.full)
            assert here.apply(update).reason == ""
            if update.full or len(kinds) > 12:
                late.apply(update)

    tell()
    assert kinds == [True] and len(here) == 0, "an empty map is told too"
    ids = []
    for k in range(4):
        ids.append(run.make_object(k + 1, (0.5 * k, 0, 1)))
        tell()
    for k in range(10):
        run.integrate(
            *(
                (n + 1, i, S.MATCHED, run.surface((0.5 * n + 0.01 * k, 0, 1), seed=k))
                for n, i in enumerate(ids)
            )
        )
        tell()
    run.integrate((1, ids[0], S.MERGE, None, [ids[1]]), times=5)
    tell()
    run.integrate((0, ids[3], S.ABSENT, None), times=30)
    tell()
    assert (
        False in kinds and kinds.count(True) >= 2 and not any(a and b for a, b in pairwise(kinds))
    )
    whole = run.mapper.update(full=True)
    assert here.apply(whole).reason == "" == late.apply(whole).reason
    for held in (here, late):
        assert [o.id for o in held] == sorted(run.mapper.objects) == [ids[0], ids[2]]
        assert held.resolve(ids[1]) == ids[0] and held.revision == run.mapper.revision
        for o in held:
            np.testing.assert_array_equal(
                o.points, run.mapper.objects[o.id].map_object(1, config.model).points
            )


def test_a_change_that_matters_to_nobody_is_not_published_until_a_while_has_passed(run):
    i = run.make_object(1, (0, 0, 1))
    points = run.surface((0, 0, 1))
    run.integrate((1, i, S.MATCHED, points), times=10)
    assert run.mapper.update().full
    run.integrate((1, i, S.MATCHED, points), times=10)
    assert run.mapper.update() is None, "the same points again"
    run.integrate((1, i, S.MATCHED, points), times=45)
    update = run.mapper.update()
    assert not update.full and [o.id for o in update.objects] == [i], (
        "after five seconds its count of observations is told"
    )


def test_what_leaked_into_free_space_goes_when_it_is_seen_through(run):
    thing = run.make_object(1, (0, 0, 1))
    leak = (
        np.random.default_rng(0).normal((0.0, 0.0, 0.9), 0.01, (300, 3)).astype(np.float32)
    )  # flying pixels before it
    both = np.concatenate([run.surface((0, 0, 1)), leak])
    run.integrate((1, thing, S.MATCHED, both), times=6)
    model = run.mapper.config.model
    assert run.mapper.objects[thing].extent(model)[0, 2] < 0.9
    camera = Intrinsics(500.0, 500.0, 319.5, 239.5, 640, 480)
    image = LabelledDepth(
        np.full((480, 640), 7, np.uint16), {1: 7}, np.full((480, 640), 1.0, np.float32), camera
    )
    run.integrate((1, thing, S.MATCHED, run.surface((0, 0, 1))), times=20, labelled_depth=image)
    low, high = run.mapper.objects[thing].extent(model)
    assert low[2] > 0.93 and high[2] > 1.0, "what lies at the measured depth stays"


def new_session(run) -> str:
    """Let a reader know a later revision than the map's: the map was loaded from an old file."""
    former = run.mapper.session_id
    refused = run.integrate(map_revision=run.mapper.revision + 1).refused
    assert "its ids begin a new session" in refused and run.mapper.session_id != former
    return former


def test_merges_of_the_former_session_are_not_reported_in_a_new_one(run):
    a, b = run.make_object(1, (0, 0, 1)), run.make_object(2, (0.12, 0, 1))
    both = run.surface((0.06, 0, 1), (0.22, 0.1, 0.1))
    run.integrate((1, b, S.MERGE, both, [a]), times=5)
    assert run.mapper.resolve(b) == a and run.mapper.update().merged == ((b, a),)
    former = new_session(run)
    update = run.mapper.update()
    assert update.full and update.merged == () and update.revision == 1
    assert [o.id for o in update.objects] == [a]
    assert run.mapper.resolve(b) == b, "the id may be another object's for the reader"
    assert run.integrate(map_session_id=former).refused.startswith("associations refer to the map")
    assert not run.integrate().refused


@pytest.mark.parametrize("the_break", ["none", "map session", "track session", "time"])
def test_evidence_is_forgotten_on_a_break(run, the_break):
    a, b = run.make_object(1, (0, 0, 1)), run.make_object(2, (0.12, 0, 1))
    c = run.make_object(3, (0.1, 5, 1), size=(0.3, 0.1, 0.1), count=3000)
    left, right = run.surface((0, 5, 1)), run.surface((0.19, 5, 1), (0.12, 0.1, 0.1), count=1000)
    shown = (
        (1, b, S.MERGE, run.surface((0.06, 0, 1)), [a]),
        (5, c, S.SPLIT, left, [6]),
        (6, c, S.SPLIT, right, [5]),
        (9, 0, S.NEW, run.surface((3, 0, 1))),
    )
    run.integrate(*shown[1:3], times=4)
    run.integrate(*shown[1:], times=1)
    run.integrate(*shown, times=4 if the_break != "none" else 3)
    if the_break == "map session":
        new_session(run)
    elif the_break == "track session":
        run.session = "restarted"
    elif the_break == "time":
        run.index -= 7
    count = len(run.mapper.objects)
    run.integrate(*shown)
    assert count == 3
    if the_break != "none":
        assert set(run.mapper.objects) == {a, b, c}
    run.integrate(*shown)
    assert (len(run.mapper.objects) == 4) == (the_break == "none"), (
        "a and b are one, c is two, and track 9 is an object"
    )


def test_a_stamp_a_little_earlier_is_no_break(run):
    run.make_object(1, (0, 0, 1))
    run.integrate((9, 0, S.NEW, run.surface((3, 0, 1))), times=5)
    run.index -= 5
    run.integrate((9, 0, S.NEW, run.surface((3, 0, 1))))
    run.index += 5
    run.integrate((9, 0, S.NEW, run.surface((3, 0, 1))))
    assert len(run.mapper.objects) == 2


def test_a_break_interrupts_an_absence(run):
    i = run.make_object(1, (0, 0, 1))
    run.integrate((0, i, S.ABSENT, None), times=12)
    run.session = "restarted"
    run.integrate((0, i, S.ABSENT, None), times=9)
    assert i in run.mapper.objects, "0.8 s since the break"
    run.integrate((0, i, S.ABSENT, None), times=3)
    assert i not in run.mapper.objects


def test_frames_of_another_frame_or_map_are_refused(run):
    i = run.make_object(1, (0, 0, 1))
    before = run.mapper.objects[i]
    match = (1, i, S.MATCHED, run.surface((0, 0, 1)))
    assert "'odom'" in run.integrate(match, map_frame="odom").refused
    assert "another mapper" in run.integrate(match, map_session_id="other").refused
    assert run.mapper.objects[i] is before
    assert not run.integrate(match, map_session_id="").refused, "the node has no map yet"


def test_a_joined_object_is_joined_with_what_became_of_the_other(run):
    """Two merges in one frame: 3 into 2 and 2 into 1."""
    a, b, c = (run.make_object(k, (0.12 * k, 0, 1)) for k in (1, 2, 3))
    pieces = [run.surface((0.12 * k, 0, 1)) for k in (1, 2, 3)]
    merges = (1, a, S.MERGE, pieces[0], [b]), (2, a, S.MERGE, pieces[1], [c])
    run.integrate(*merges, times=5)
    assert set(run.mapper.objects) == {a} and run.mapper.resolve(c) == run.mapper.resolve(b) == a
    assert run.mapper.saved().merged == {b: a, c: a} and run.mapper.saved().next_id == c + 1


def test_an_absence_of_a_merged_object_counts_for_what_it_became(run):
    a, b = run.make_object(1, (0, 0, 1)), run.make_object(2, (0.12, 0, 1))
    run.integrate((1, b, S.MERGE, run.surface((0.06, 0, 1)), [a]), times=5)
    before = run.mapper.objects[a].log_odds
    assert run.integrate((0, b, S.ABSENT, None)).counts == {"ABSENT counted": 1}
    assert run.mapper.objects[a].log_odds < before
    both = run.integrate((1, a, S.MATCHED, run.surface((0, 0, 1))), (0, b, S.ABSENT, None))
    assert both.counts == {"integrated": 1, "ABSENT noted": 1}
    assert run.integrate((0, 0, S.ABSENT, None)).counts == {"ABSENT noted": 1}


def test_a_match_ends_the_candidate_of_its_track(run):
    i, points = run.make_object(1, (0, 0, 1)), run.surface((3, 0, 1))
    run.integrate((9, 0, S.NEW, points), times=5)
    run.integrate((9, i, S.MATCHED, run.surface((0, 0, 1))))
    run.integrate((0, i, S.ABSENT, None), times=25)
    assert not run.mapper.objects
    run.integrate((9, 0, S.NEW, points))
    assert not run.mapper.objects, "it begins anew"


def test_a_match_between_interrupts_a_split(run):
    i = run.make_object(1, (0.1, 0, 1), size=(0.3, 0.1, 0.1), count=3000)
    left = run.surface((0, 0, 1))
    right = run.surface((0.19, 0, 1), (0.12, 0.1, 0.1), seed=3, count=1000)
    covered = (1, i, S.SPLIT, left, [2]), (2, i, S.SPLIT, right, [1])
    run.integrate(*covered, times=9)
    run.integrate((1, i, S.MATCHED, left))
    run.integrate(*covered, times=9)
    assert set(run.mapper.objects) == {i}
    run.integrate(*covered)
    assert len(run.mapper.objects) == 2


def test_an_object_with_few_points_that_nothing_contradicts_stays(run):
    i = run.make_object(1, (0, 0, 1))
    run.integrate((1, i, S.REIDENTIFIED, run.surface((3, 0, 1), count=12)))
    assert len(run.mapper.objects[i].points(run.mapper.config.model)) <= 12
    assert run.mapper.tidy() == () and i in run.mapper.objects
