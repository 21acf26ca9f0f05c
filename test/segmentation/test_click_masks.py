"""One method makes masks of clicks, another follows (``segmentation.seed_with``)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest

from vos_ros.config import SegmentationConfig
from vos_ros.segmentation.click_masks import ClickMasks
from vos_ros.segmentation.interface import VideoSegmenter
from vos_ros.segmentation.methods.null.segmenter import NullSegmenter
from vos_ros.segmentation.methods.one_point.segmenter import OnePoint
from vos_ros.segmentation.registry import create
from vos_ros.types import Box, Frame, Mask, Points, Seed, Segmentation

H, W = 60, 80


class Counting(OnePoint):
    """Keeps the ids of the seeds that it is given."""

    def __init__(self) -> None:
        super().__init__(method("one_point"))
        self.given: list[int] = []

    def seed(self, frame: Frame, seeds: Sequence[Seed]) -> Segmentation:
        self.given += [s.object_id for s in seeds]
        return super().seed(frame, seeds)


@pytest.fixture
def frame(make_frame: Callable[..., Frame]) -> Frame:
    """Two halves of one colour, 1 m and 2 m away: the depth alone tells them apart."""
    depth = np.full((H, W), 1.0, np.float32)
    depth[:, W // 2 :] = 2.0
    return make_frame(0, H, W, rgb=np.full((H, W, 3), 120, np.uint8), depth=depth)


def click(x: float, y: float) -> Points:
    return Points(np.float32([[x, y]]), np.array([True]))


def method(name: str, seed_with: str = "") -> SegmentationConfig:
    return replace(SegmentationConfig(), method=name, seed_with=seed_with)


def test_clicks_become_the_masks_that_the_other_method_makes(frame: Frame) -> None:
    segmenter = ClickMasks(NullSegmenter(method("null")), OnePoint(method("one_point")))
    seeds = [Seed(5, click(20, 30)), Seed(9, click(70, 30))]
    labels = segmenter.seed(frame, seeds).labels()
    own = create(method("one_point")).seed(frame, seeds).labels()
    assert segmenter.object_ids == (5, 9)
    np.testing.assert_array_equal(labels, own)
    assert labels[30, 70] == 9 and not (labels[:, : W // 2 - 2] == 9).any()
    moved = segmenter.update(frame, [Seed(5, click(20, 50))]).labels()
    assert moved[50, 20] == 5
    segmenter.drop([5])
    assert segmenter.object_ids == (9,)
    segmenter.seed(frame, [Seed(5, click(20, 30))])


def test_the_other_method_is_given_clicks_alone_and_follows_nothing(frame: Frame) -> None:
    seeder = Counting()
    segmenter = ClickMasks(NullSegmenter(method("null")), seeder)
    mask = np.zeros((H, W), bool)
    mask[10:20, 10:20] = True
    segmenter.seed(frame, [Seed(1, Mask(mask)), Seed(2, Box(np.float32([30, 30, 50, 50])))])
    segmenter.step(replace(frame, index=1))
    assert seeder.given == []
    segmenter.seed(frame, [Seed(3, click(20, 50)), Seed(4, click(70, 30))])
    assert seeder.given == [3, 4] and seeder.object_ids == ()


def test_wrong_clicks_add_nothing(frame: Frame) -> None:
    segmenter = ClickMasks(NullSegmenter(method("null")), OnePoint(method("one_point")))
    segmenter.seed(frame, [Seed(1, click(20, 30))])
    with pytest.raises(ValueError, match="followed already"):
        segmenter.seed(frame, [Seed(1, click(20, 30))])
    with pytest.raises(ValueError, match="outside"):
        segmenter.seed(frame, [Seed(2, click(70, 30)), Seed(3, click(200, 30))])
    assert segmenter.object_ids == (1,)


def test_the_configuration_chooses_both_methods() -> None:
    def kind(config: SegmentationConfig) -> type[VideoSegmenter]:
        return type(create(config))

    assert kind(method("template", "one_point")) is ClickMasks
    assert kind(method("one_point", "one_point")) is OnePoint
    assert kind(method("null", "one_point")) is NullSegmenter, "it stands in without networks"
    with pytest.raises(ValueError, match="unknown segmentation method 'one_pint'"):
        create(method("template", "one_pint"))
