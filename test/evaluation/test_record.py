"""What is counted of a sequence whose names are written by hand."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np

from vos_ros.evaluation.identity_metrics import Return
from vos_ros.evaluation.metrics import overlap
from vos_ros.evaluation.record import Mixed, Record

BLOCK = {1: (0, 0), 2: (0, 20), 3: (20, 0), 4: (20, 20)}


def picture(shown: Mapping[int, int]) -> np.ndarray:
    """40x40, each place 1..4 with a 20x20 block of its value."""
    out = np.zeros((40, 40), np.uint8)
    for place, value in shown.items():
        y, x = BLOCK[place]
        out[y : y + 20, x : x + 20] = value
    return out


def recorded(
    names: list[dict[int, int]],
    alike: Mapping[int, str],
    mapped: tuple[int, ...] = (1, 2, 3),
    step_s: float = 1.0,
) -> Record:
    """In frame t the objects of ``names[t]`` are in view, each with an instance of its own that is
    named as told.
    """
    record = Record(alike)
    for t, named in enumerate(names):
        truth = picture({o: o for o in named})
        labels = picture({o: 10 + o for o in named})
        record.add(
            round(t * step_s * 1e9),
            overlap(labels, truth),
            {10 + o: n for o, n in named.items()},
            mapped,
        )
    return record


def test_look_alikes_that_swap_are_counted_within_their_group() -> None:
    names = [{1: 1, 2: 2, 3: 3}, {1: 2, 2: 1, 3: 1}, {1: 0, 2: 1, 3: 3}, {1: 1, 2: 2, 3: 3}]
    record = recorded(names, {1: "mug", 2: "mug", 3: "chair"})
    assert record.mixed() == {"chair": Mixed(0, 0, 4), "mug": Mixed(4, 3, 8)}
    figures = record.figures()
    assert (
        figures["alike_swaps"] == 4 and figures["alike_wrong"] == 3 and figures["id_switches"] == 6
    )


def test_what_the_map_lacks_is_no_miss_but_naming_it_is_false() -> None:
    honest = recorded([{1: 1, 4: 0}] * 3, {}).figures()
    assert honest["f1"] == honest["idf1"] == 1.0 and honest["id_switches"] == 0
    wrong = recorded([{1: 1, 4: 2}] * 3, {}).figures()
    assert wrong["recall"] == 1.0 and wrong["precision"] == 0.5 and wrong["idf1"] < 1.0
    assert recorded([{1: 1, 4: 0}] * 3, {}, mapped=(1, 4)).figures()["recall"] == 0.5


def test_returns_count_from_before_the_first_frame() -> None:
    record = recorded([{1: 1}, {1: 1, 2: 0}, {1: 1, 2: 2}], {}, step_s=0.5)
    assert record.returns() == {}
    record.before({2: -4.0, 3: -9.0})
    assert record.returns() == {2: [Return(-4.0, 0.5, 0.5)]}
    assert record.figures()["returns_recognised"] == 1.0 and math.isclose(
        float(record.figures()["reidentify_s_p50"]), 0.5
    )
