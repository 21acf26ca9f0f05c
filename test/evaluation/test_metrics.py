"""Scores against values worked out by hand."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from support.masks import label_image

from vos_ros.evaluation.metrics import (
    FrameScore,
    ObjectScore,
    by_object,
    only_known,
    overlap,
    score_frame,
    summarise,
    switches,
)

image = partial(label_image, (60, 80))


def frame(labels: np.ndarray, truth: np.ndarray, names: dict[int, int]) -> FrameScore:
    return score_frame(overlap(labels, truth), names)


def test_overlap_counts_every_pair() -> None:
    labels, truth = image((7, 0, 10, 0, 10)), image((3, 0, 10, 5, 15), (255, 0, 2, 0, 10))
    counts = overlap(labels, truth)
    assert counts.values.tolist() == [0, 7] and counts.ids.tolist() == [0, 3]
    assert counts.both.tolist() == [[60 * 80 - 150, 50], [40, 40]]
    assert counts.value_area[1] == 80 and counts.total[1] == 100 and counts.id_area[1] == 90
    assert counts.iou()[1, 1] == 40 / (80 + 90 - 40)
    with pytest.raises(ValueError, match=r"80x60 px, ground truth of 80x59"):
        overlap(labels, truth[1:])


def test_a_perfect_frame() -> None:
    truth = image((3, 0, 20, 0, 20), (4, 30, 50, 0, 20))
    got = frame(image((9, 0, 20, 0, 20), (8, 30, 50, 0, 20)), truth, {9: 3, 8: 4})
    assert got == FrameScore({3: ObjectScore(1.0, True, 3), 4: ObjectScore(1.0, True, 4)}, 0)


def test_half_shifted_and_missing() -> None:
    truth = image((3, 0, 20, 0, 20), (4, 30, 50, 0, 20), (5, 0, 10, 60, 79))
    got = frame(image((9, 0, 20, 10, 30)), truth, {9: 3})
    assert got.objects[3] == ObjectScore(200 / 600, False, None)
    assert got.objects[4] == ObjectScore(0.0, False, None)
    assert 5 not in got.objects, "190 pixels do not count"
    assert got.false_positives == 1


def test_two_labels_of_one_id_are_one_mask_but_two_instances() -> None:
    truth = image((3, 0, 20, 0, 40))
    got = frame(image((1, 0, 20, 0, 30), (2, 0, 20, 30, 40)), truth, {1: 3, 2: 3})
    assert got.objects[3] == ObjectScore(1.0, True, 3)
    assert got.false_positives == 1, "the smaller piece has IoU 0.25 by itself"


def test_the_first_of_two_halves_speaks() -> None:
    truth = image((3, 0, 20, 0, 40))
    labels = image((1, 0, 20, 0, 20), (2, 0, 20, 20, 40))
    assert frame(labels, truth, {2: 5, 1: 3}).objects[3].named == 5
    assert frame(labels, truth, {1: 3, 2: 5}).objects[3].named == 3


def test_what_is_no_false_positive() -> None:
    truth = image((255, 0, 30, 0, 30), (6, 40, 50, 0, 19), (3, 0, 20, 40, 70))
    on_ignored = frame(image((1, 0, 30, 0, 40)), truth, {1: 3})
    assert on_ignored.false_positives == 0
    too_small = frame(
        image((1, 40, 53, 0, 19)), truth, {1: 6}
    )  # 247 px, 190 on the object that doesn't count
    assert too_small.false_positives == 0
    under_200 = frame(image((1, 40, 49, 40, 62)), truth, {1: 3})
    assert under_200.false_positives == 0
    unnamed = frame(image((1, 30, 60, 40, 70)), truth, {1: 0})
    assert unnamed.false_positives == 0
    elsewhere = frame(image((1, 30, 60, 40, 70)), truth, {1: 6})
    assert elsewhere.false_positives == 1
    assert (
        frame(image((1, 30, 60, 40, 70)), truth, only_known({1: 99}, {3, 6})).false_positives == 0
    )


def test_switches_follow_the_names() -> None:
    assert switches([3, 3, 4, 4, 3]) == 2
    assert switches([3, 0, 3]) == 0
    assert switches([3, 0, 4]) == 1
    assert switches([0, 3, 3]) == 1
    assert switches([]) == 0


def test_summary_and_table() -> None:
    frames = [
        FrameScore({1: ObjectScore(1.0, True, 1), 2: ObjectScore(0.5, True, 1)}, 1),
        FrameScore({1: ObjectScore(0.6, True, 2)}, 0),
        FrameScore({1: ObjectScore(0.0, False, None)}, 0),
    ]
    got = summarise(frames)
    assert got["objects_counted"] == 4 and got["id_switches"] == 1
    assert got["mean_iou"] == pytest.approx(2.1 / 4)
    assert got["j_mean"] == pytest.approx((1.6 / 3 + 0.5) / 2)
    assert got["association_accuracy"] == pytest.approx(1 / 3)
    assert got["association_precision"] == pytest.approx(3 / 4) and got[
        "association_recall"
    ] == pytest.approx(3 / 4)
    assert got["association_f1"] == pytest.approx(6 / 8)
    table = by_object(frames)
    assert (
        table[1]["frames"] == 3
        and table[1]["association_accuracy"] == 0.5
        and table[2]["recall"] == 1.0
    )
    assert summarise([])["mean_iou"] == 0.0


def test_an_object_never_touched_has_no_accuracy() -> None:
    assert np.isnan(
        by_object([FrameScore({1: ObjectScore(0.0, False, None)}, 0)])[1]["association_accuracy"]
    )
