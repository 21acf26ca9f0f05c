"""Stages: the parts of a session, and what a restart makes new."""

from __future__ import annotations

from dataclasses import fields

import pytest
from support.pipeline_values import (
    FakeSegmenter,
    config,
    frame,
    instance_masks,
    map_object,
    map_view,
    rect,
    track_manager,
)

from vos_ros.association.assignment import HungarianAssociator, SeedAssociator
from vos_ros.discovery.proposals import no_proposals
from vos_ros.pipeline.plan import Restart, TrackStart
from vos_ros.pipeline.stages import Stages
from vos_ros.types import MapChange, Mask, Seed, TrackSource

MASK = rect(4, 4, 24, 24)
NULL = config(segmentation__method="null")


def changed(before: Stages, after: Stages) -> set[str]:
    """Names of the parts that are new."""
    return {f.name for f in fields(Stages) if getattr(before, f.name) is not getattr(after, f.name)}


def test_the_configured_stages() -> None:
    stages = Stages.from_config(NULL)
    assert not stages.segmenter.uses_image and stages.segmenter.object_ids == ()
    assert type(stages.associator) is HungarianAssociator and stages.replacements == {}


def test_twins_replace_stages() -> None:
    segmenter, associator = FakeSegmenter(), SeedAssociator()
    stages = Stages.from_config(NULL, segmenter=segmenter, associator=associator)
    assert stages.segmenter is segmenter and stages.associator is associator
    asked = []

    def proposer(*args):
        asked.append(args)
        return no_proposals(*args)

    stages = Stages.from_config(NULL, segmenter=segmenter, proposer=proposer)
    stages.discovery.plan(frame(), map_view(), instance_masks({}), track_manager())
    assert len(asked) == 1


def test_none_replaces_nothing() -> None:
    stages = Stages.from_config(NULL, segmenter=None, associator=None, proposer=None)
    assert not stages.segmenter.uses_image and type(stages.associator) is HungarianAssociator


def test_a_given_segmenter_begins_without_objects() -> None:
    segmenter = FakeSegmenter(given={3: MASK, 4: MASK})
    Stages.from_config(NULL, segmenter=segmenter)
    assert segmenter.object_ids == () and segmenter.done == [("drop", (3, 4))]
    Stages.from_config(NULL, segmenter=segmenter)
    assert len(segmenter.done) == 1


@pytest.mark.parametrize("uses_image", [True, False])
def test_the_stages_know_whether_the_segmenter_uses_the_image(uses_image: bool) -> None:
    c = config(tracking__segmenter_update_interval=1)
    stages = Stages.from_config(c, segmenter=FakeSegmenter(uses_image=uses_image))
    tracks, masks = track_manager({1: 1}), instance_masks({1: MASK})
    assert bool(stages.teacher.plan(map_view(), masks, tracks).corrections) == uses_image


def test_a_restart_makes_new_what_it_says() -> None:
    stages = Stages.from_config(NULL)
    assert stages.restarted(Restart.NOTHING) is stages
    assert changed(stages, stages.restarted(Restart.PLACES)) == {"mask_fusion"}
    assert changed(stages, stages.restarted(Restart.SEGMENTER)) == {
        "segmenter",
        "pose_refiner",
        "mask_fusion",
        "teacher",
    }
    kept = {"config", "replacements", "input_checker"}
    everything = {f.name for f in fields(Stages)}
    new = changed(stages, stages.restarted(Restart.SESSION))
    assert new | kept >= everything and "input_checker" not in new


def test_replacements_outlive_a_session_and_are_emptied() -> None:
    segmenter, associator = FakeSegmenter(), SeedAssociator()
    stages = Stages.from_config(NULL, segmenter=segmenter, associator=associator)
    for restart in (Restart.SEGMENTER, Restart.SESSION):
        segmenter.given[3] = MASK
        again = stages.restarted(restart)
        assert again.segmenter is segmenter and again.associator is associator
        assert segmenter.object_ids == ()


def test_prompts_wait_through_a_new_segmenter_and_not_through_a_new_session() -> None:
    stages = Stages.from_config(NULL)
    stages.seeder.add_prompts([TrackStart(Seed(1, Mask(MASK)), 0, 1, TrackSource.PROMPT)])
    assert stages.restarted(Restart.SEGMENTER).seeder.waiting_ids == {1}
    assert stages.restarted(Restart.SESSION).seeder.waiting_ids == set()


def test_every_stage_that_remembers_objects_follows_the_map() -> None:
    stages = Stages.from_config(config(), segmenter=FakeSegmenter())
    seen: list[str] = []
    for name in ("evidence_collector", "map_checker", "discovery"):
        stage = getattr(stages, name)
        stage.follow_map = lambda change, name=name: seen.append(f"{name} {change.reason}")
    stages.follow_map(MapChange(reason="r", added=(map_object(1, MASK),)))
    assert seen == ["evidence_collector r", "map_checker r", "discovery r"]


def test_settings_reach_their_stages() -> None:
    c = config(
        proposals__give_up_s=2.0,
        tracking__segmenter_update_interval=2,
        tracking__max_objects=1,
        mapping__depth_tolerance_m=0.2,
    )
    stages = Stages.from_config(c, segmenter=FakeSegmenter())
    tracks, masks = track_manager({1: 1}, source=TrackSource.PROPOSAL), instance_masks({1: MASK})
    plans = [stages.teacher.plan(map_view(), masks, tracks).corrections for _ in range(2)]
    assert [len(p) for p in plans] == [0, 1]
    tracks[1].map_object_id, tracks[1].missing_since_ns = 0, 0
    assert stages.input_checker.check(frame(2.0), tracks)[1].end == ()
    assert stages.input_checker.check(frame(2.1), tracks)[1].end == (1,)
