"""Who has lost a change of the map is sent all of it."""

from __future__ import annotations

from vos_ros.reference_mapper.revision_tracker import RevisionTracker


def told(*revisions: int) -> RevisionTracker:
    """A snapshot at 0 s, then changes 0.1 s apart."""
    audience = RevisionTracker(2.0)
    for k, revision in enumerate(revisions):
        audience.published(revision, k == 0, 0.1 * k)
    return audience


def test_who_keeps_up_is_not_behind_however_slow() -> None:
    audience = told(1, 2, 3)
    assert not audience.is_behind(1, 1.0), "what was just published may be under way"
    assert not audience.is_behind(2, 2.1) and not audience.is_behind(3, 50.0)


def test_who_lost_a_change_is_behind_and_it_is_said_once_in_a_while() -> None:
    audience = told(1, 2, 3)
    assert (
        audience.is_behind(1, 2.2) and not audience.is_behind(1, 3.0) and audience.is_behind(1, 4.3)
    )


def test_a_whole_map_is_given_its_time() -> None:
    audience = told(1, 2, 3)
    audience.published(4, True, 3.0)
    assert not audience.is_behind(1, 4.9) and audience.is_behind(1, 5.1)
    assert not audience.is_behind(4, 90.0)


def test_who_has_no_map_is_behind() -> None:
    assert told(7).is_behind(0, 2.5)
