from __future__ import annotations

import math

import numpy as np
import pytest

from vos_ros.evaluation.identity_metrics import (
    Return,
    Sightings,
    calibration,
    hota,
    idf1,
    returns,
    sightings,
)
from vos_ros.evaluation.metrics import overlap


def drawn(seed: int, frames: int = 40) -> list[Sightings]:
    """Objects that come and go, names that are mostly right, swap, repeat never within a frame, and
    are invented now and then.
    """
    rng = np.random.default_rng(seed)
    out = []
    for t in range(frames):
        truth = np.flatnonzero(rng.uniform(size=6) < 0.8) + 1
        names = {
            int(i) if rng.uniform() < 0.9 else int(rng.integers(1, 9))
            for i in truth
            if rng.uniform() < 0.9
        }
        names |= {7} if t % 5 == 0 else set()
        given = np.array(sorted(names), np.int64)
        iou = np.where(
            truth[:, None] == given[None],
            rng.uniform(0.3, 1.0, (len(truth), len(given))),
            rng.uniform(0.0, 0.2, (len(truth), len(given))),
        )
        out.append(Sightings(truth.astype(np.int64), given, iou))
    return out


# What trackeval 1.3.0 says of ``drawn``: the means of HOTA, DetA and AssA over its thresholds, and
# IDF1. The package itself can't be required: it brings another OpenCV along.
TRACKEVAL = {
    0: (0.471413714, 0.45476168, 0.489383374, 0.586956522),
    1: (0.505186096, 0.49152148, 0.519440888, 0.678756477),
    2: (0.472703155, 0.458426299, 0.48838482, 0.59400545),
    3: (0.487787235, 0.479277373, 0.497476852, 0.653295129),
}


@pytest.mark.parametrize("seed", TRACKEVAL)
def test_idf1_and_hota_are_those_of_trackeval(seed: int) -> None:
    frames = drawn(seed)
    ours = hota(frames)
    assert (ours["hota"], ours["deta"], ours["assa"], idf1(frames)) == pytest.approx(
        TRACKEVAL[seed], abs=1e-8
    )


def test_right_names_are_worth_one_and_a_swap_half() -> None:
    one = [Sightings(np.array([1, 2]), np.array([1, 2]), np.eye(2))] * 10
    swapped = one[:5] + [Sightings(np.array([1, 2]), np.array([1, 2]), np.eye(2)[::-1])] * 5
    assert idf1(one) == 1.0 and hota(one) == {
        "hota": pytest.approx(1.0),
        "deta": 1.0,
        "assa": pytest.approx(1.0),
    }
    assert (
        idf1(swapped) == 0.5
        and hota(swapped)["deta"] == 1.0
        and hota(swapped)["assa"] == pytest.approx(1 / 3)
    )


def test_nothing_seen_and_nothing_said() -> None:
    nothing = [Sightings(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 0)))]
    silent = [Sightings(np.array([1]), np.zeros(0, np.int64), np.zeros((1, 0)))]
    assert idf1(nothing) == 1.0 and idf1(silent) == 0.0 and hota(silent)["hota"] == 0.0


def test_what_does_not_count_is_left_out() -> None:
    truth, labels = np.zeros((60, 60), np.uint8), np.zeros((60, 60), np.uint16)
    truth[:20, :20], labels[:20, :20] = 5, 1  # counted, named
    truth[:20, 30:35], labels[:20, 30:36] = (
        6,
        2,
    )  # 100 px: too small to count, and so is the instance on it
    truth[30:50, :20], labels[30:50, :20] = 255, 3  # ignored
    labels[30:50, 30:60] = 4  # on nothing, without a name
    labels[55:, :50] = 7  # a second instance of the name 5, smaller
    f = sightings(overlap(labels, truth), {1: 5, 2: 6, 3: 9, 4: 0, 7: 5})
    assert f.true_ids.tolist() == [5] and sorted(f.names.tolist()) == [-5, 5]
    assert f.iou[0, f.names.tolist().index(5)] == 1.0


def test_calibration_measures_the_gap_between_scores_and_what_is_right() -> None:
    c = calibration([0.95] * 10 + [0.55] * 10, [True] * 9 + [False] + [True] * 5 + [False] * 5)
    assert c.count[[5, 9]].tolist() == [10, 10] and c.right[[5, 9]].tolist() == [0.5, 0.9]
    assert c.ece == pytest.approx(0.05)
    assert math.isnan(calibration([], []).ece) and calibration([1.0], [True]).ece == 0.0


def test_the_time_to_recognise_what_returns() -> None:
    stamps = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]
    seen = [True, True, False, False, True, True, True, False, True]
    two = returns(
        stamps, seen, [True, True, False, False, False, False, True, False, True], away_s=2.0
    )
    assert two == [Return(1.0, 4.0, 2.0), Return(6.0, 8.0, 0.0)]
    assert returns(stamps, seen, [True] * 9, away_s=3.0) == [Return(1.0, 4.0, 0.0)]
    assert [r.wait_s for r in returns(stamps, seen, [True, True, *[False] * 7], away_s=2.0)] == [
        math.inf,
        math.inf,
    ]
    assert returns(stamps, [True] * 9, [True] * 9, away_s=2.0) == []


@pytest.mark.parametrize(("on_it_px", "kept"), [(149, False), (111, False), (110, True)])
def test_an_instance_that_lies_mostly_on_a_small_object_is_left_out(
    on_it_px: int, kept: bool
) -> None:
    """The object has 150 px: too few to count. The instance has 220 px, large enough to count."""
    truth, labels = np.zeros((30, 40), np.uint8), np.zeros((30, 40), np.uint16)
    truth.flat[:150] = 4
    labels.flat[150 - on_it_px : 370 - on_it_px] = 9
    found = sightings(overlap(labels, truth), {9: 7})
    assert found.true_ids.size == 0
    assert found.names.tolist() == ([7] if kept else [])
