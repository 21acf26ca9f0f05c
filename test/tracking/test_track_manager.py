from __future__ import annotations

import pytest

from vos_ros.config import TrackingConfig
from vos_ros.tracking.track_manager import TrackManager, TrackRecord
from vos_ros.types import MAX_LABEL, TrackSource, TrackState

CONFIG = TrackingConfig(confirm_s=0.3, lost_s=1.0, min_px=12)
S = TrackState


class Clock:
    """Feeds one track at a frame rate; ``run`` gives the state after each frame."""

    def __init__(
        self, rate_hz: float, *, map_object_id: int = 7, config: TrackingConfig = CONFIG
    ) -> None:
        self.book, self.step_ns, self.now_ns = (
            TrackManager(config),
            round(1e9 / rate_hz),
            1_000_000_000,
        )
        self.track = self.book.start(
            self.book.reserve(),
            self.now_ns,
            map_object_id=map_object_id,
            class_id=3,
            source=TrackSource.MAP,
        )

    def run(
        self, seconds: float, *, area: int = 100, agreed: int | None = None, expected: bool = True
    ) -> list[TrackState]:
        states = []
        for _ in range(max(1, round(seconds * 1e9 / self.step_ns))):
            self.book.advance(
                self.track.track_id,
                self.now_ns,
                area_px=area,
                agreed_object=self.track.map_object_id if agreed is None else agreed,
                expected=expected,
            )
            states.append(self.track.state)
            self.now_ns += self.step_ns
        return states


@pytest.mark.parametrize("rate_hz", [5.0, 10.0, 30.0, 100.0])
def test_the_life_of_a_track_is_counted_in_seconds(rate_hz: float) -> None:
    clock = Clock(rate_hz)
    states = clock.run(1.0)
    confirmed_after = states.index(S.CONFIRMED) / rate_hz
    assert 0.3 - 1e-6 <= confirmed_after <= 0.3 + 1 / rate_hz
    gone = clock.run(2.0, area=0, agreed=0)
    assert gone[0] == S.OCCLUDED and set(gone) == {S.OCCLUDED, S.LOST}
    assert 1.0 - 1e-6 <= gone.index(S.LOST) / rate_hz <= 1.0 + 1 / rate_hz
    assert clock.track.misses == len(gone)


def test_a_tentative_track_needs_unbroken_agreement() -> None:
    clock = Clock(10.0)
    for _ in range(5):
        assert set(clock.run(0.3)) == {S.TENTATIVE}
        clock.run(0.1, agreed=0)
    assert S.CONFIRMED in clock.run(0.5)


def test_a_tentative_track_is_not_confirmed_by_a_missed_frame() -> None:
    clock = Clock(10.0)
    clock.run(0.1)
    assert clock.run(0.1, area=3) == [S.OCCLUDED]
    assert clock.run(0.3) == [S.TENTATIVE] * 3
    assert S.CONFIRMED in clock.run(0.3)


def test_a_confirmed_track_comes_back_confirmed_from_behind_something() -> None:
    clock = Clock(10.0)
    clock.run(1.0)
    assert set(clock.run(5.0, area=0, agreed=0, expected=False)) == {
        S.OCCLUDED
    }  # never lost where nothing should be seen
    assert clock.run(0.1) == [S.CONFIRMED]
    assert not clock.track.recovered and clock.track.misses == 0


def test_being_lost_needs_unbroken_absence_where_it_should_be_seen() -> None:
    clock = Clock(10.0)
    clock.run(1.0)
    for _ in range(4):
        assert S.LOST not in clock.run(0.8, area=0, agreed=0)
        clock.run(0.1, area=0, agreed=0, expected=False)
    assert S.LOST in clock.run(1.5, area=0, agreed=0)


def test_a_lost_track_is_recovered_once_and_only_by_its_own_object() -> None:
    clock = Clock(10.0)
    clock.run(1.0)
    clock.run(2.0, area=0, agreed=0)
    clock.run(0.2, agreed=0)
    assert not clock.track.recovered  # seen, but not known as its object
    clock.run(0.1)
    assert clock.track.recovered
    clock.run(0.1)
    assert not clock.track.recovered


def test_a_track_of_no_object_is_confirmed_by_being_seen() -> None:
    clock = Clock(10.0, map_object_id=0)
    states = clock.run(0.6, agreed=0)
    assert states.index(S.CONFIRMED) == 3
    assert clock.track.n_observations == 0


def test_a_track_changes_its_object_only_after_confirm_s() -> None:
    clock = Clock(10.0)
    clock.run(0.5)
    clock.run(0.3, agreed=8)
    assert clock.track.map_object_id == 7
    clock.run(0.1, agreed=8)
    assert clock.track.map_object_id == 8


@pytest.mark.parametrize(
    "between", [{"agreed": 0}, {"agreed": 7}, {"agreed": 9}, {"area": 0, "agreed": 0}]
)
def test_an_interrupted_agreement_with_another_object_starts_over(between: dict[str, int]) -> None:
    clock = Clock(10.0)
    clock.run(0.2, agreed=8)
    clock.run(0.1, **between)
    clock.run(0.3, agreed=8)
    assert clock.track.map_object_id == 7
    clock.run(0.1, agreed=8)
    assert clock.track.map_object_id == 8


def test_an_object_that_a_track_follows_is_not_taken_by_another() -> None:
    clock = Clock(10.0)
    book = clock.book
    book.start(book.reserve(), 0, map_object_id=8, class_id=1, source=TrackSource.MAP)
    clock.run(2.0, agreed=8)
    assert clock.track.map_object_id == 7
    assert book.followed_objects() == {7: 1, 8: 2}


def test_ages_and_observations_count_frames() -> None:
    clock = Clock(10.0)
    clock.run(0.5)
    clock.run(0.2, agreed=0)
    clock.run(0.3, area=2)
    assert (clock.track.age_frames, clock.track.n_observations, clock.track.misses) == (10, 5, 3)


def started(book: TrackManager) -> TrackRecord:
    return book.start(book.reserve(), 0, map_object_id=0, class_id=0, source=TrackSource.PROMPT)


def test_ids_are_never_used_again_and_label_values_are_unique() -> None:
    book = TrackManager(CONFIG)
    records = [started(book) for _ in range(50)]
    book.remove([r.track_id for r in records[10:40]])
    later = [started(book) for _ in range(50)]
    ids = [r.track_id for r in (*records, *later)]
    assert ids == list(range(1, 101)) and len(book) == 70
    assert len({r.label_value for r in book}) == len(book)
    assert 10 not in {r.track_id for r in later} and records[20].track_id not in book


def test_label_values_fit_16_bits_after_many_tracks_and_stay_with_their_track() -> None:
    book = TrackManager(CONFIG)
    kept = started(book)
    for _ in range(MAX_LABEL - 2):
        book.reserve()
    last, wrapped = started(book), started(book)
    assert (kept.label_value, last.label_value) == (1, MAX_LABEL)
    assert wrapped.label_value == 2  # 1 is still in use
    assert wrapped.track_id == MAX_LABEL + 1
    assert kept.label_value == 1


def test_unknown_tracks_are_key_errors() -> None:
    book = TrackManager(CONFIG)
    with pytest.raises(KeyError):
        book[3]
    with pytest.raises(KeyError):
        book.remove([3])


def proposed(map_object_id: int = 0) -> Clock:
    clock = Clock(10.0, map_object_id=map_object_id)
    clock.track.source = TrackSource.PROPOSAL
    return clock


def test_a_proposed_track_is_lost_when_unseen_and_given_up_later() -> None:
    clock = proposed()
    clock.run(1.0)
    assert clock.book.lost_proposals() == [] == clock.book.given_up(clock.now_ns, 0.0)
    clock.run(1.5, area=0)
    assert clock.book.lost_proposals() == [1]
    assert clock.book.given_up(clock.now_ns, 2.0) == [] and clock.book.given_up(
        clock.now_ns + 10**9, 2.0
    ) == [1]
    clock.run(0.1)
    assert clock.book.lost_proposals() == [] and clock.track.state == S.CONFIRMED


def test_a_track_that_is_said_to_be_astray_is_lost_at_once_and_comes_back() -> None:
    clock = proposed()
    clock.run(1.0)
    clock.book.lose([1], clock.now_ns)
    assert clock.track.state == S.LOST and clock.book.lost_proposals() == [1]
    assert clock.book.given_up(clock.now_ns + 3 * 10**9, 2.0) == [1]
    assert (
        clock.run(0.1) == [S.CONFIRMED] and clock.book.given_up(clock.now_ns + 3 * 10**9, 2.0) == []
    )


def test_tracks_of_the_map_and_prompts_are_never_given_up() -> None:
    for clock in (proposed(map_object_id=7), Clock(10.0), Clock(10.0, map_object_id=0)):
        clock.run(3.0, area=0)
        assert clock.book.lost_proposals() == [] == clock.book.given_up(clock.now_ns, 0.1)
