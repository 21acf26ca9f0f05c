"""Which depth belongs to which image, and what was missing."""

from __future__ import annotations

import pytest

from vos_ros.sources.sync import MissingDataCounts, StampMatcher


def matcher(slop_ns: int, *stamps: int) -> StampMatcher[str]:
    out: StampMatcher[str] = StampMatcher(slop_ns)
    for stamp in stamps:
        out.add(stamp, f"d{stamp}")
    return out


def test_the_same_stamp_comes_first_then_the_nearest() -> None:
    m = matcher(20, 100, 115, 140)
    assert m.take(100) == "d100"
    assert m.take(108, reserved=(115,)) is None, "115 has an image of its own to come"
    assert m.take(115, reserved=(115,)) == "d115"
    assert m.take(125) == "d140"
    assert m.take(200) is None and m.unmatched == 0


def test_of_two_within_the_slop_the_nearer_one_is_taken() -> None:
    assert matcher(20, 90, 105).take(100) == "d105"
    assert matcher(20, 95, 110).take(100) == "d95"


@pytest.mark.parametrize(("stamp", "found"), [(80, True), (120, True), (79, False), (121, False)])
def test_the_slop_is_included(stamp: int, found: bool) -> None:
    assert (matcher(20, stamp).take(100) is not None) == found


def test_no_later_candidate_is_better() -> None:
    m = matcher(20, 100, 140)
    assert m.settled(100), "the same stamp is there"
    assert m.settled(110) and m.settled(120), "candidates are past the slop"
    assert not m.settled(121) and not matcher(20).settled(100)


def test_a_candidate_serves_once_and_those_passed_over_are_counted() -> None:
    m = matcher(10, 0, 5, 100)
    assert m.take(3) == "d5"
    assert m.take(6) == "d0"
    m.add(50, "d50")
    assert m.take(100) == "d100"
    assert (m.unmatched, len(m)) == (1, 0)


def test_candidates_within_the_slop_are_kept() -> None:
    m = matcher(10, 0, 1)
    assert m.take(11) == "d1" and (m.unmatched, len(m)) == (1, 0)


def test_a_candidate_with_the_same_stamp_is_replaced() -> None:
    m = matcher(10, 5)
    m.add(5, "other")
    assert len(m) == 1 and m.take(5) == "other" and m.take(5) is None


def test_missing_data_is_counted_by_reason_with_the_first_example() -> None:
    counts = MissingDataCounts()
    counts.add("no depth", count=0)
    counts.add("jump")
    counts.add("no pose", "frame 3")
    counts.add("no pose", "frame 4", count=2)
    assert counts.lines() == ["3 x no pose (first: frame 3)", "1 x jump"]
    assert counts.counts == {"no pose": 3, "jump": 1}
