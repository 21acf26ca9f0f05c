from __future__ import annotations

import math

import pytest
from support.association import candidate_pairs, frame_evidence, map_object

from vos_ros.association.terms.class_conflict import ClassConflict


@pytest.mark.parametrize(
    ("own", "other", "conflict"),
    [(1, 2, 1.0), (2, 2, 0.0), (0, 2, math.nan), (1, 0, math.nan), (0, 0, math.nan)],
)
def test_classes_conflict_where_both_are_known_and_differ(
    own: int, other: int, conflict: float
) -> None:
    frame = frame_evidence({}, track_classes={1: own}, objects={11: map_object(11, other)})
    values = ClassConflict().values(candidate_pairs(1, frame))
    assert values == pytest.approx([conflict], nan_ok=True)


def test_each_pair_has_its_own_classes() -> None:
    objects = {11: map_object(11, 5), 12: map_object(12, 6)}
    frame = frame_evidence({}, track_classes={1: 5, 2: 5, 3: 5}, objects=objects)
    values = ClassConflict().values(candidate_pairs(3, frame))
    assert values == pytest.approx([0.0, 1.0, math.nan], nan_ok=True), "object 13 is not known"
