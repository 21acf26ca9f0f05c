"""SegmenterPlan and the starts of prompts."""

from __future__ import annotations

import numpy as np
import pytest
from support.pipeline_values import H, W, rect, track_manager

from vos_ros.pipeline.plan import Restart, SegmenterPlan, TrackStart, prompted_starts
from vos_ros.types import Box, Mask, Seed, TrackSource


def test_an_empty_plan_asks_for_nothing() -> None:
    plan = SegmenterPlan()
    assert plan.restart == Restart.NOTHING
    assert plan.starts == plan.corrections == plan.pause == plan.lost == plan.end == ()
    assert plan.warnings == ()


def test_restarts_are_ordered_by_how_much_starts_over() -> None:
    assert Restart.NOTHING < Restart.PLACES < Restart.SEGMENTER < Restart.SESSION


def test_a_start_names_its_track() -> None:
    assert TrackStart(Seed(7, Mask(rect(0, 0, 2, 2))), 3, 4, TrackSource.MAP).track_id == 7


def test_prompts_become_tracks_under_new_ids() -> None:
    tracks, mask = track_manager({1: 0}), Mask(rect(0, 0, 9, 9))
    a, b = prompted_starts([(mask, 42), (mask, 0)], (H, W), tracks, 9)
    assert (a.track_id, a.class_id, a.map_object_id, a.source) == (2, 42, 0, TrackSource.PROMPT)
    assert (b.track_id, b.class_id) == (3, 0) and a.seed.prompt is mask
    assert len(tracks) == 1, "reserved, not started"


def test_where_one_prompt_is_wrong_no_id_is_reserved() -> None:
    tracks, outside = track_manager(), Box(np.array([500, 0, 600, 9], np.float32))
    with pytest.raises(ValueError, match="64x48"):
        prompted_starts([(Mask(rect(0, 0, 9, 9)), 1), (outside, 1)], (H, W), tracks, 9)
    assert tracks.reserve() == 1
    (start,) = prompted_starts([(outside, 1)], None, tracks, 9)  # the size is not known yet
    assert start.track_id == 2
