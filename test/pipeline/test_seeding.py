"""Seeder: which objects the segmenter is given."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.pipeline_values import (
    H,
    W,
    config,
    map_object,
    map_view,
    no_pose,
    projection,
    rect,
    segmentation,
    track_manager,
)

from vos_ros.mapping.object_map import ObjectMap
from vos_ros.mapping.seeds import seed_of
from vos_ros.pipeline.map_view import MapView
from vos_ros.pipeline.plan import SegmenterPlan, TrackStart
from vos_ros.pipeline.seeding import Seeder
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import Box, MapUpdate, Mask, Points, Seed, Segmentation, TrackSource

A, B, C = rect(2, 2, 12, 12), rect(16, 2, 40, 22), rect(44, 2, 58, 16)


def object_map(*ids: int) -> ObjectMap:
    objects = ObjectMap()
    whole = tuple(map_object(i, A) for i in ids)
    assert objects.apply(MapUpdate(0, "s", 1, True, whole)).reason == ""
    return objects


def seeder(uses_image: bool = True, **tracking: object) -> Seeder:
    given = {f"tracking__{k}": v for k, v in {"seed_min_px": 20, **tracking}.items()}
    return Seeder(config(**given).tracking, uses_image=uses_image)


def plan(
    s: Seeder,
    view: MapView,
    followed: Segmentation | None = None,
    tracks: TrackManager | None = None,
) -> SegmenterPlan:
    return s.plan(
        view,
        segmentation() if followed is None else followed,
        track_manager() if tracks is None else tracks,
        object_map(1, 2, 3, 4),
    )


def started(p: SegmenterPlan) -> list[tuple[int, int]]:
    """(track, object) of a plan."""
    return [(s.track_id, s.map_object_id) for s in p.starts]


# -- objects of the map


def test_predicted_objects_are_seeded_the_largest_first() -> None:
    tracks = track_manager({1: 0})
    view = map_view(projection(3, C), projection(1, A), projection(2, B))
    p = plan(seeder(), view, tracks=tracks)
    assert started(p) == [(2, 2), (3, 3), (4, 1)]
    first = p.starts[0]
    assert (first.class_id, first.source) == (12, TrackSource.MAP)
    assert isinstance(first.seed.prompt, Mask) and np.array_equal(first.seed.prompt.mask, B)
    assert p.pause == p.corrections == p.warnings == p.end == ()
    assert len(tracks) == 1, "a plan starts nothing"


def test_the_uncertainty_of_a_seed_is_that_of_its_object() -> None:
    view = map_view(projection(1, A), projection(2, B), sigma_px={1: 1.0, 2: 3.0})
    for s in plan(seeder(), view).starts:
        i = s.map_object_id
        expected = seed_of(s.track_id, view.projections[i], view.sigma_px[i])
        assert np.array_equal(s.seed.weight, expected.weight)


def test_an_object_that_is_a_box_is_seeded_by_a_click_in_it() -> None:
    view = map_view(projection(1, A), projection(2, B))
    view = replace(view, box_centers={2: np.array([28.0, 12.0])})
    box, whole = plan(seeder(), view).starts
    assert isinstance(box.seed.prompt, Points) and isinstance(whole.seed.prompt, Mask)
    assert box.seed.prompt.xy.tolist() == [[28.0, 12.0]] and box.map_object_id == 2
    assert np.array_equal(box.seed.prompt.extent, B)
    masks = plan(seeder(uses_image=False), view).starts
    assert all(isinstance(s.seed.prompt, Mask) for s in masks)


def test_a_waiting_click_on_a_followed_object_is_not_started() -> None:
    s = seeder()
    tracks = track_manager({1: 1})
    click = Points(np.float32([[20, 10]]), np.array([True]))
    s.add_prompts([TrackStart(Seed(9, click), 0, 0, TrackSource.PROMPT)])
    p = plan(s, no_pose(), segmentation({1: B}), tracks)
    assert p.starts == () and "track 9 is not started: this object is already" in p.warnings[0]
    assert "as track 1" in p.warnings[0]


def test_an_object_that_a_segmented_track_follows_is_not_seeded() -> None:
    view, tracks = map_view(projection(1, A), projection(2, B)), track_manager({1: 1})
    assert started(plan(seeder(), view, segmentation({1: A}), tracks)) == [(2, 2)]


def test_a_track_that_is_not_segmented_goes_on() -> None:
    """It was paused, or the segmenter is a new one."""
    p = plan(seeder(), map_view(projection(1, A)), tracks=track_manager({1: 4, 2: 1}))
    assert started(p) == [(2, 1)]


def test_an_object_that_is_hardly_visible_is_not_seeded() -> None:
    view = map_view(projection(1, A), projection(2, rect(0, 40, 19, 41)))
    assert started(plan(seeder(), view)) == [(1, 1)]
    assert started(plan(seeder(), replace(view, absent=frozenset({1})))) == []


def test_an_object_that_a_prompted_track_covers_is_not_seeded() -> None:
    """The track will be associated with it."""
    view = map_view(projection(1, A), projection(2, B))
    for covered, seeded in (
        (A, [(2, 2)]),
        (rect(2, 2, 12, 7), [(2, 2)]),
        (rect(2, 2, 12, 6), [(2, 2), (3, 1)]),
    ):
        p = plan(seeder(), view, segmentation({1: covered}), track_manager({1: 0}))
        assert started(p) == seeded
    p = plan(seeder(), view, segmentation({1: A}), track_manager({1: 3}))
    assert started(p) == [(2, 2), (3, 1)], "a track of another object is in the way of none"


def test_one_of_several_prompted_tracks_is_enough() -> None:
    view, tracks = map_view(projection(1, A), projection(2, B)), track_manager({1: 0, 2: 0})
    p = plan(seeder(), view, segmentation({1: C, 2: A}), tracks)
    assert started(p) == [(3, 2)]


# -- room


def test_no_more_objects_than_may_be_segmented() -> None:
    view = map_view(projection(1, A), projection(2, B), projection(3, C))
    assert started(plan(seeder(max_objects=2), view)) == [(1, 2), (2, 3)]
    p = plan(seeder(max_objects=2), view, segmentation({1: A}), track_manager({1: 1}))
    assert started(p) == [(2, 2)] and p.pause == ()
    p = plan(seeder(max_objects=1), view, segmentation({1: A}), track_manager({1: 1}))
    assert started(p) == [] and p.pause == ()


def gone(misses: dict[int, int], objects: dict[int, int]) -> TrackManager:
    """Tracks that have missed some frames."""
    tracks = track_manager(objects)
    for t, n in misses.items():
        tracks[t].misses = n
    return tracks


def test_tracks_out_of_view_make_room_the_longest_gone_first() -> None:
    tracks = gone({1: 3, 2: 8, 3: 5}, {1: 7, 2: 8, 3: 9})
    followed = segmentation({1: rect(0, 0, 0, 0), 2: rect(0, 0, 0, 0), 3: rect(0, 0, 0, 0)})
    view = map_view(projection(1, A), projection(2, B))
    p = plan(seeder(max_objects=3), view, followed, tracks)
    assert p.pause == (2, 3) and started(p) == [(4, 2), (5, 1)]
    p = plan(seeder(max_objects=4), view, followed, tracks)
    assert p.pause == (2,), "as many as are needed"
    p = plan(seeder(max_objects=9), view, followed, tracks)
    assert p.pause == ()


@pytest.mark.parametrize("why", ["in view", "found", "of no object", "not segmented"])
def test_a_track_that_is_needed_is_not_paused(why: str) -> None:
    tracks = gone({1: 0 if why == "found" else 5}, {1: 0 if why == "of no object" else 3})
    shown = [projection(3, C)] if why == "in view" else []
    view = map_view(projection(1, A), *shown)
    followed = segmentation({} if why == "not segmented" else {1: rect(0, 0, 0, 0)})
    p = plan(seeder(max_objects=1), view, followed, tracks)
    assert p.pause == ()
    assert bool(p.starts) == (why == "not segmented")


def test_nothing_is_paused_where_that_makes_no_room() -> None:
    """People may ask for more objects than are followed of the map."""
    tracks = gone({1: 5}, {1: 7, 2: 0, 3: 0, 4: 0})
    followed = segmentation({i: rect(0, 0, 0, 0) for i in (1, 2, 3, 4)})
    p = plan(seeder(max_objects=2), map_view(projection(1, A)), followed, tracks)
    assert p.pause == () == p.starts


# -- prompts


def waiting(track_id: int, mask: np.ndarray = C) -> TrackStart:
    return TrackStart(Seed(track_id, Mask(mask)), 0, 42, TrackSource.PROMPT)


def test_prompts_wait_for_the_next_frame_and_are_seeded_once() -> None:
    s = seeder(max_objects=1)
    s.add_prompts([waiting(1)])
    s.add_prompts([waiting(2, B)])
    assert s.waiting_ids == {1, 2}
    tracks = track_manager()
    assert [tracks.reserve(), tracks.reserve()] == [1, 2]
    p = plan(s, map_view(projection(1, A)), tracks=tracks)
    assert started(p) == [(3, 1), (1, 0), (2, 0)], "after the map's, and whatever the room"
    assert p.starts[1].class_id == 42 and p.starts[1].source == TrackSource.PROMPT
    assert s.waiting_ids == set() and plan(s, map_view()).starts == ()


def test_a_prompt_that_does_not_fit_the_image_is_left_out() -> None:
    s = seeder()
    outside = Seed(5, Box(np.array([500, 0, 600, 9], np.float32)))
    other = Seed(6, Mask(np.ones((H + 1, W), bool)))
    starts = [TrackStart(seed, 0, 1, TrackSource.PROMPT) for seed in (outside, other)]
    s.add_prompts([*starts, waiting(7)])
    p = plan(s, map_view())
    assert started(p) == [] and s.waiting_ids == {7}, "two prompts have their turn on a frame"
    assert started(plan(s, map_view())) == [(7, 0)] and s.waiting_ids == set()
    assert ["track 5" in p.warnings[0], "track 6" in p.warnings[1]] == [True, True]
    assert "64x48" in p.warnings[0] and len(p.warnings) == 2


def test_waiting_prompts_can_be_withdrawn() -> None:
    s = seeder()
    s.add_prompts([waiting(1), waiting(2)])
    s.discard_prompts([2, 9])
    assert s.waiting_ids == {1} and started(plan(s, map_view())) == [(1, 0)]


# -- a segmenter that doesn't use the image


def test_it_is_given_every_projection_anew() -> None:
    tracks = track_manager({1: 1, 2: 2, 3: 0})
    followed = segmentation({1: C, 2: C, 3: C})
    p = plan(seeder(False), map_view(projection(1, A)), followed, tracks)
    assert [s.object_id for s in p.corrections] == [1, 2]
    masks = [s.prompt.mask for s in p.corrections if isinstance(s.prompt, Mask)]
    assert np.array_equal(masks[0], A) and masks[1].shape == (H, W) and not masks[1].any()
    assert plan(seeder(True), map_view(projection(1, A)), followed, tracks).corrections == ()


def test_without_a_pose_it_keeps_its_masks() -> None:
    p = plan(seeder(False), no_pose(), segmentation({1: C}), track_manager({1: 1}))
    assert p.corrections == ()


def test_it_is_not_given_tracks_that_it_does_not_follow_or_that_pause() -> None:
    tracks = gone({1: 5}, {1: 7, 2: 2, 3: 3})
    followed = segmentation({1: rect(0, 0, 0, 0), 2: B})
    p = plan(
        seeder(False, max_objects=2), map_view(projection(1, A), projection(2, B)), followed, tracks
    )
    assert p.pause == (1,) and [s.object_id for s in p.corrections] == [2]
    assert started(p) == [(4, 1)]
