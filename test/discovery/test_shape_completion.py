from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from vos_ros.config import MappingConfig
from vos_ros.discovery.shape_completion import CompletedRegion, ShapeCompletion
from vos_ros.types import Frame, Intrinsics, MapObject

CONFIG = MappingConfig()
BOX = ([-0.2, -0.1, 1.0], [0.2, 0.1, 1.2])
RIGHT = ([0.02, -0.08, 0.99], [0.18, 0.08, 1.0])  # of its front


@pytest.fixture
def half(make_box: Callable[..., MapObject]) -> MapObject:
    """The left half of the box's front."""
    return make_box(7, [-0.2, -0.1, 1.0], [0.0, 0.1, 1.0])


@pytest.fixture
def frame(camera: Intrinsics, cut_boxes: Callable[..., np.ndarray]) -> Frame:
    depth = cut_boxes([BOX], np.eye(4), camera)
    return Frame(0, 0, np.zeros((*depth.shape, 3), np.uint8), depth, camera, np.eye(4))


@pytest.fixture
def part(camera: Intrinsics, cut_boxes: Callable[..., np.ndarray]) -> CompletedRegion:
    mask = cut_boxes([RIGHT], np.eye(4), camera) > 0
    return CompletedRegion(7, mask, np.ones(mask.shape, np.float32))


def test_an_object_has_its_parts_and_is_the_same_value_until_they_change(
    half: MapObject, frame: Frame, part: CompletedRegion
) -> None:
    completion = ShapeCompletion()
    assert list(completion.completed_objects([half])) == [half]
    completion.add([part], frame, np.eye(4), CONFIG)
    (whole,) = completion.completed_objects([half])
    assert whole is next(completion.completed_objects([half])) and whole.id == 7
    new = whole.points[len(half.points) :]
    assert np.array_equal(whole.points[: len(half.points)], half.points)
    assert new[:, 0].min() > 0 and new[:, 0].max() > 0.15 and np.abs(new[:, 2] - 1.0).max() < 0.01
    assert whole.point_radius >= half.point_radius
    completion.add([part], frame, np.eye(4), CONFIG)
    assert len(next(completion.completed_objects([half])).points) < 1.2 * len(whole.points), (
        "seen twice it is still the same part"
    )


def test_what_the_map_has_learnt_is_no_part_any_more(
    half: MapObject, frame: Frame, part: CompletedRegion, make_box: Callable[..., MapObject]
) -> None:
    completion = ShapeCompletion()
    completion.add([part], frame, np.eye(4), CONFIG)
    some, all_ = (
        make_box(7, [-0.2, -0.1, 1.0], [right, 0.1, 1.0]) for right in (0.08, 0.2)
    )  # its middle moves, it doesn't
    completion.prune_known({7: half}, {7: some})
    (whole,) = completion.completed_objects([some])
    assert whole.points[len(some.points) :, 0].min() > 0.08
    completion.prune_known({7: some}, {7: all_})
    assert list(completion.completed_objects([some])) == [some]


def test_what_is_gone_or_elsewhere_or_another_has_no_parts(
    half: MapObject, frame: Frame, part: CompletedRegion, make_box: Callable[..., MapObject]
) -> None:
    moved = make_box(7, [-0.2, -0.1, 1.3], [0.0, 0.1, 1.3])
    for before, after in (({7: half}, {}), ({7: half}, {7: moved}), ({}, {7: replace(half)})):
        completion = ShapeCompletion()
        completion.add([part], frame, np.eye(4), CONFIG)
        completion.prune_known({7: half}, {7: half, 8: moved})
        assert list(completion.completed_objects([half])) != [half], (
            "another object's change is none of its own"
        )
        completion.prune_known(before, after)
        assert list(completion.completed_objects([half])) == [half]


def test_a_part_that_is_seen_through_was_none(
    half: MapObject, frame: Frame, part: CompletedRegion
) -> None:
    completion = ShapeCompletion()
    completion.add([part], frame, np.eye(4), CONFIG)
    (before,) = completion.completed_objects([half])
    completion.check(frame, np.eye(4), CONFIG)
    assert next(completion.completed_objects([half])) is before, "it is still there"
    assert frame.depth is not None
    completion.check(replace(frame, depth=np.full_like(frame.depth, 0.5)), np.eye(4), CONFIG)
    assert next(completion.completed_objects([half])) is before, "hidden is not gone"
    completion.check(replace(frame, depth=np.full_like(frame.depth, 2.0)), np.eye(4), CONFIG)
    assert list(completion.completed_objects([half])) == [half]


def test_no_pixels_no_part(half: MapObject, frame: Frame, part: CompletedRegion) -> None:
    completion = ShapeCompletion()
    completion.add([replace(part, mask=np.zeros_like(part.mask))], frame, np.eye(4), CONFIG)
    assert list(completion.completed_objects([half])) == [half]
