"""When two objects are one: similarity, votes, and what counts against it."""

from __future__ import annotations

import numpy as np
import pytest
from support.mapper_run import box_surface

from vos_ros.reference_mapper.config import ModelConfig, RulesConfig
from vos_ros.reference_mapper.joining import JoiningStage, Similarity, ordered_pair, similarity
from vos_ros.reference_mapper.model import ObjectModel, new_model

MODEL, RULES = ModelConfig(), RulesConfig()


def model_of(points: np.ndarray, object_id: int = 1, frames: int = 10) -> ObjectModel:
    model = new_model(points, 0, MODEL)
    for k in range(frames):
        model = model.with_match(k, MODEL).with_measurement(points, np.eye(6), k, MODEL)
    return ObjectModel(
        id=object_id,
        grid=model.grid,
        first_ns=0,
        last_ns=frames,
        observations=frames,
    )


@pytest.mark.parametrize(
    ("shared", "boxes_overlap", "contained", "co_observed", "new_is_known", "known_are_one"),
    [
        (0.4, False, False, False, True, False),  # enough surface for a new object
        (0.39, False, False, False, False, False),
        (0.39, True, False, False, True, False),  # some surface and similar boxes
        (0.0, True, False, False, False, False),  # boxes alone
        (0.4, True, False, False, True, True),
        (0.79, True, False, True, False, False),  # matched in different places of the image
        (0.8, True, False, True, True, True),
        (0.9, False, False, True, False, False),
        (0.1, False, True, True, True, True),  # a body in a body
    ],
)
def test_what_makes_two_objects_one(
    shared: float,
    boxes_overlap: bool,
    contained: bool,
    co_observed: bool,
    new_is_known: bool,
    known_are_one: bool,
) -> None:
    similar = Similarity(shared, boxes_overlap, contained)
    assert similar.new_is_known(co_observed, RULES) == new_is_known
    assert similar.known_are_one(co_observed, RULES) == known_are_one


def test_similarity_of_surfaces_and_boxes() -> None:
    box = model_of(box_surface((0, 0, 1), (0.3, 0.3, 0.1), count=4000))
    apart = model_of(box_surface((1, 0, 1), (0.3, 0.3, 0.1), count=4000))
    assert similarity(box, apart, MODEL, RULES) == Similarity(0.0, boxes_overlap=False)
    same = similarity(box, box, MODEL, RULES)
    assert same == Similarity(1.0, boxes_overlap=True, contained=True)
    corner = box.grid.means()[:, 0] < -0.09
    part = box.with_grid(box.grid.select(corner))
    assert similarity(part, box, MODEL, RULES) == Similarity(1.0, False, contained=True)
    card = model_of(box_surface((0, 0, 1.05), (0.12, 0.12, 0.002), count=600))
    on_top = similarity(card, box, MODEL, RULES)
    assert on_top.shared > 0.95 and not on_top.contained, "a card is no body"


def test_merges_are_due_after_enough_frames_none_of_which_matched_both() -> None:
    stage = JoiningStage(MODEL, RULES)
    for _ in range(4):
        stage.count_merges({(1, 2), (3, 4)}, {1})
    assert not stage.is_due((1, 2))
    stage.count_merges({(1, 2)}, {1, 3})  # one of both may be matched
    assert stage.is_due((1, 2)) and not stage.is_due((3, 4))
    stage.count_merges((), {1, 2})
    assert not stage.is_due((1, 2))
    stage.count_merges({(3, 4)}, ())
    assert stage.is_due((3, 4)), "the other pair's votes stay"


def test_evidence_of_an_object_goes_with_it_and_all_of_it_on_a_break() -> None:
    stage = JoiningStage(MODEL, RULES)
    for _ in range(5):
        stage.count_merges({(1, 2), (3, 4)}, ())
    stage.remove(2)
    assert not stage.is_due((1, 2)) and stage.is_due((3, 4))
    stage.reset()
    assert not stage.is_due((3, 4))


def test_objects_matched_together_need_more_to_be_one() -> None:
    """Two cards that overlap by half; frames that matched both count against the rarer one's."""
    rules = RulesConfig(join_box_iou=0.3)
    cards = [box_surface((x, 0, 1), (0.2, 0.1, 0.002), count=3000) for x in (0.0, 0.1)]
    often, seldom = model_of(cards[0], 1, frames=20), model_of(cards[1], 2, frames=8)
    similar = similarity(often, seldom, MODEL, rules)
    assert similar.boxes_overlap and not similar.contained
    assert rules.join_overlap <= similar.shared < rules.join_overlap_co_observed
    stage = JoiningStage(MODEL, rules)
    for _ in range(4):
        stage.count_matches({2, 1, 9})
    assert stage.have_grown_together(often, seldom), "half of the frames are no majority"
    stage.count_matches({1, 9})
    assert stage.have_grown_together(often, seldom)
    stage.count_matches({1, 2})
    assert not stage.have_grown_together(often, seldom)
    assert not stage.have_grown_together(seldom, often)
    stage.reset()
    assert stage.have_grown_together(often, seldom)


def test_pairs_have_the_lower_id_first() -> None:
    assert ordered_pair(7, 3) == ordered_pair(3, 7) == (3, 7)
