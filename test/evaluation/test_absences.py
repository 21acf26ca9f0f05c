"""Statements ABSENT, counted on projections and associations written by hand."""

from __future__ import annotations

import math

import numpy as np
import torch

from vos_ros.evaluation.absences import AbsenceCount, Absences, total
from vos_ros.types import Association, AssociationStatus, FrameResult, Projection, Segmentation


def projection(
    i: int, *, free: float = 0.0, occluded: float = 0.0, truncated: float = 0.0, side: int = 20
) -> Projection:
    on = np.ones((side, side), bool)
    return Projection(
        i,
        (60, 60),
        (0, 0, side, side),
        on & False,
        on,
        on.astype(np.float32),
        1.0 - occluded - truncated,
        occluded,
        truncated,
        free,
    )


def result(t: float, projections: tuple[Projection, ...], absent: tuple[int, ...]) -> FrameResult:
    said = tuple(Association(0, i, AssociationStatus.ABSENT, 0.0) for i in absent)
    return FrameResult(
        round(t * 1e9), Segmentation((), torch.ones(1, 2, 2)), (), projections, (), said
    )


def counted(
    projections: tuple[Projection, ...], absent: tuple[int, ...], gone: set[int], frames: int = 12
) -> Absences:
    count = AbsenceCount()
    for k in range(frames):
        count.add(result(k * 0.1, projections, absent if k > 5 else ()), gone)
    return count.figures()


def test_right_and_wrong_statements_and_who_was_due() -> None:
    seen = tuple(projection(i, free=1.0, occluded=1.0) for i in (1, 2, 3))
    told = counted(seen, (1, 3), {1, 2})
    assert (
        told == Absences(right=6, said=12, told=1, due=2) and told.precision == told.recall == 0.5
    )
    assert counted(seen, (), {1, 2}, frames=9) == Absences(), "in view for less than a second"


def test_a_place_that_is_hidden_cut_off_or_small_was_not_in_view() -> None:
    away = (
        projection(1, occluded=0.8, free=0.2),
        projection(2, truncated=0.6, occluded=0.4, free=1.0),
        projection(3, occluded=1.0, free=1.0, side=10),
    )
    assert counted(away, (), {1, 2, 3}).due == 0
    inside = (
        projection(1, occluded=0.8, free=0.5),
        projection(2, truncated=0.4, occluded=0.6, free=1.0),
    )
    assert counted(inside, (2,), {1, 2}) == Absences(6, 6, 1, 2)


def test_sequences_add_up() -> None:
    assert total([Absences(1, 2, 3, 4), Absences(1, 1, 1, 1)]) == Absences(2, 3, 4, 5)
    assert math.isnan(total([]).precision) and math.isnan(total([]).recall)
