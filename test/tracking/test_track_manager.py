from __future__ import annotations

import pytest
from support.association import map_object

from vos_ros.config import TrackingConfig
from vos_ros.tracking.track_manager import TrackManager, TrackRecord
from vos_ros.types import MAX_LABEL, MapChange, TrackSource, TrackState

CONFIG = TrackingConfig(confirm_s=0.3, lost_s=1.0, min_px=12)
SECOND = 10**9
S = TrackState


class Clock:
    """Feed one track at a frame rate; ``run`` gives the state after each frame."""

    def __init__(
        self,
        rate_hz: float = 10.0,
        *,
        map_object_id: int = 7,
        config: TrackingConfig = CONFIG,
        source: TrackSource = TrackSource.MAP,
    ) -> None:
        self.tracks = TrackManager(config)
        self.step_ns, self.now_ns = round(1e9 / rate_hz), SECOND
        self.track = started(self.tracks, map_object_id, source)

    def run(
        self, seconds: float, *, area: int = 100, matched: int | None = None, expected: bool = True
    ) -> list[TrackState]:
        """Without ``matched`` the track matches its own object."""
        states = []
        for _ in range(max(1, round(seconds * 1e9 / self.step_ns))):
            self.tracks.advance(
                self.track.track_id,
                self.now_ns,
                area_px=area,
                matched_object=self.track.map_object_id if matched is None else matched,
                expected=expected,
            )
            states.append(self.track.state)
            self.now_ns += self.step_ns
        return states

    def frame(self, **values: int) -> TrackState:
        """One frame."""
        return self.run(0.0, **values)[0]

    def miss(self, seconds: float, expected: bool = True) -> list[TrackState]:
        """Frames in which it has no pixels."""
        return self.run(seconds, area=0, matched=0, expected=expected)


def started(
    tracks: TrackManager, map_object_id: int = 0, source: TrackSource = TrackSource.PROMPT
) -> TrackRecord:
    return tracks.start(tracks.reserve(), map_object_id=map_object_id, class_id=3, source=source)


def confirmed(**values: object) -> Clock:
    clock = Clock(**values)  # type: ignore[arg-type]
    assert clock.run(1.0)[-1] == S.CONFIRMED
    return clock


# -- states ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate_hz", [5.0, 10.0, 30.0, 100.0])
def test_the_life_of_a_track_is_counted_in_seconds(rate_hz: float) -> None:
    clock = Clock(rate_hz)
    states = clock.run(1.0)
    confirmed_after = states.index(S.CONFIRMED) / rate_hz
    assert 0.3 - 1e-6 <= confirmed_after <= 0.3 + 1 / rate_hz
    gone = clock.miss(2.0)
    assert gone[0] == S.OCCLUDED and set(gone) == {S.OCCLUDED, S.LOST}
    assert 1.0 - 1e-6 <= gone.index(S.LOST) / rate_hz <= 1.0 + 1 / rate_hz
    assert clock.track.misses == len(gone)


def test_a_track_is_confirmed_at_confirm_s_exactly() -> None:
    clock = Clock(10.0)
    assert clock.run(0.4) == [S.TENTATIVE, S.TENTATIVE, S.TENTATIVE, S.CONFIRMED]


def test_a_track_is_lost_at_lost_s_exactly() -> None:
    clock = confirmed()
    assert clock.miss(1.1) == [S.OCCLUDED] * 10 + [S.LOST]


def test_a_confirmed_track_stays_confirmed_without_a_match() -> None:
    clock = confirmed()
    assert set(clock.run(3.0, matched=0)) == {S.CONFIRMED}


@pytest.mark.parametrize(("area", "missed"), [(11, True), (12, False)])
def test_a_track_is_missed_below_min_px(area: int, missed: bool) -> None:
    clock = confirmed()
    assert clock.frame(area=area) == (S.OCCLUDED if missed else S.CONFIRMED)
    assert clock.track.misses == int(missed)


def test_a_tentative_track_needs_an_unbroken_match() -> None:
    clock = Clock()
    for _ in range(5):
        assert set(clock.run(0.3)) == {S.TENTATIVE}
        clock.frame(matched=0)
    assert clock.run(0.4)[-1] == S.CONFIRMED


def test_a_missed_frame_breaks_the_match_of_a_tentative_track() -> None:
    clock = Clock()
    clock.run(0.3)
    assert clock.frame(area=3) == S.OCCLUDED
    assert clock.run(0.4) == [S.TENTATIVE] * 3 + [S.CONFIRMED]


def test_a_confirmed_track_comes_back_confirmed_from_occlusion() -> None:
    clock = confirmed()
    assert set(clock.miss(5.0, expected=False)) == {S.OCCLUDED}, "never lost where it is hidden"
    assert clock.frame() == S.CONFIRMED
    assert not clock.track.recovered and clock.track.misses == 0


def test_a_confirmed_track_comes_back_confirmed_from_being_lost() -> None:
    clock = confirmed()
    assert clock.miss(2.0)[-1] == S.LOST
    assert clock.frame(matched=0) == S.CONFIRMED


def test_a_tentative_track_comes_back_tentative_from_being_lost() -> None:
    clock = Clock()
    assert clock.miss(2.0)[-1] == S.LOST
    assert clock.frame() == S.TENTATIVE


def test_being_lost_needs_an_unbroken_time_in_which_it_is_expected() -> None:
    clock = confirmed()
    for _ in range(4):
        assert S.LOST not in clock.miss(0.8)
        clock.miss(0.1, expected=False)
    assert S.LOST in clock.miss(1.5)


def test_a_frame_with_pixels_starts_the_time_to_be_lost_again() -> None:
    clock = confirmed()
    for _ in range(4):
        assert S.LOST not in clock.miss(0.8)
        clock.frame()
    assert clock.track.missing_since_ns is None


def test_a_lost_track_is_occluded_where_it_is_no_longer_expected() -> None:
    clock = confirmed()
    assert clock.miss(2.0)[-1] == S.LOST
    assert clock.miss(0.1, expected=False) == [S.OCCLUDED]
    assert clock.miss(1.0)[:2] == [S.OCCLUDED, S.OCCLUDED], "it takes lost_s again"


def test_a_lost_track_stays_lost_while_it_is_missed() -> None:
    clock = confirmed()
    clock.tracks.mark_lost([1], clock.now_ns)
    assert clock.miss(0.5) == [S.LOST] * 5


@pytest.mark.parametrize("lost", ["missed", "marked"])
def test_a_lost_track_is_recovered_once_and_by_its_own_object_alone(lost: str) -> None:
    clock = confirmed()
    if lost == "missed":
        clock.miss(2.0)
    else:
        clock.tracks.mark_lost([1], clock.now_ns)
    clock.frame(matched=0)
    assert not clock.track.recovered, "visible, but no match"
    clock.frame(matched=8)
    assert not clock.track.recovered, "another object"
    clock.frame()
    assert clock.track.recovered
    clock.frame()
    assert not clock.track.recovered


def test_a_recovered_track_that_is_missed_is_not_recovered_in_that_frame() -> None:
    clock = confirmed()
    clock.miss(2.0)
    clock.frame()
    clock.miss(0.1)
    assert not clock.track.recovered


def test_an_occluded_track_is_not_recovered() -> None:
    clock = confirmed()
    clock.miss(0.5)
    clock.frame()
    assert not clock.track.recovered


def test_a_track_without_object_is_confirmed_by_being_visible() -> None:
    clock = Clock(map_object_id=0)
    assert clock.run(0.4, matched=0) == [S.TENTATIVE] * 3 + [S.CONFIRMED]
    assert clock.track.n_observations == 0


# -- objects ---------------------------------------------------------------------------------------


def test_a_track_changes_its_object_at_confirm_s_exactly() -> None:
    clock = confirmed()
    objects = []
    for _ in range(4):
        clock.frame(matched=8)
        objects.append(clock.track.map_object_id)
    assert objects == [7, 7, 7, 8]


@pytest.mark.parametrize("object_id", [1, 8])
def test_a_track_without_object_gets_one_after_confirm_s(object_id: int) -> None:
    clock = Clock(map_object_id=0)
    clock.run(0.3, matched=object_id)
    assert clock.track.map_object_id == 0
    clock.frame(matched=object_id)
    assert clock.track.map_object_id == object_id


@pytest.mark.parametrize(
    "between", [{"matched": 0}, {"matched": 7}, {"matched": 9}, {"area": 0, "matched": 0}]
)
def test_an_interrupted_match_with_another_object_starts_again(between: dict[str, int]) -> None:
    clock = Clock()
    clock.run(0.2, matched=8)
    clock.frame(**between)
    clock.run(0.3, matched=8)
    assert clock.track.map_object_id == 7
    clock.frame(matched=8)
    assert clock.track.map_object_id == 8


@pytest.mark.parametrize("first", [1, 7])
def test_a_changed_object_must_be_matched_again_to_change_back(first: int) -> None:
    clock = Clock(map_object_id=first)
    clock.run(0.4, matched=8)
    clock.run(0.3, matched=first)
    assert clock.track.map_object_id == 8
    clock.frame(matched=first)
    assert clock.track.map_object_id == first


def test_another_object_does_not_confirm_a_track() -> None:
    clock = Clock()
    assert set(clock.run(0.3, matched=8)) == {S.TENTATIVE}
    assert clock.run(0.4, matched=8) == [S.TENTATIVE] * 3 + [S.CONFIRMED], "now it is its own"


def test_the_object_of_a_track_is_not_taken_by_another() -> None:
    clock = Clock()
    other = started(clock.tracks, 8)
    clock.run(2.0, matched=8)
    assert clock.track.map_object_id == 7
    assert clock.tracks.track_by_object() == {7: 1, 8: 2}
    clock.tracks.remove([other.track_id])
    clock.frame(matched=8)
    assert clock.track.map_object_id == 8, "it has matched it long enough"


def test_tracks_without_object_are_no_track_of_object_0() -> None:
    tracks = TrackManager(CONFIG)
    started(tracks, 0)
    assert tracks.track_by_object() == {}


def test_ages_observations_and_misses_count_frames() -> None:
    clock = Clock()
    clock.run(0.5)
    clock.run(0.2, matched=0)
    clock.frame(matched=9)
    clock.run(0.3, area=2)
    track = clock.track
    assert (track.age_frames, track.n_observations, track.misses) == (11, 6, 3)


# -- ids -------------------------------------------------------------------------------------------


def test_a_track_starts_tentative_with_what_is_known_of_it() -> None:
    track = TrackManager(CONFIG).start(5, map_object_id=7, class_id=3, source=TrackSource.PROPOSAL)
    assert (track.track_id, track.map_object_id, track.class_id) == (5, 7, 3)
    assert (track.source, track.state, track.label_value) == (TrackSource.PROPOSAL, S.TENTATIVE, 5)


def test_ids_are_never_used_again_and_label_values_are_unique() -> None:
    tracks = TrackManager(CONFIG)
    records = [started(tracks) for _ in range(50)]
    tracks.remove([r.track_id for r in records[10:40]])
    later = [started(tracks) for _ in range(50)]
    ids = [r.track_id for r in (*records, *later)]
    assert ids == list(range(1, 101)) and len(tracks) == 70
    assert len({r.label_value for r in tracks}) == len(tracks)
    assert 10 not in {r.track_id for r in later} and records[20].track_id not in tracks
    assert records[0].track_id in tracks and tracks[1] is records[0]


def test_label_values_fit_16_bits_after_many_tracks_and_stay_with_their_track() -> None:
    tracks = TrackManager(CONFIG)
    kept = [started(tracks), started(tracks)]
    for _ in range(MAX_LABEL - 3):
        tracks.reserve()
    last, wrapped = started(tracks), started(tracks)
    assert last.label_value == MAX_LABEL
    assert wrapped.label_value == 3  # 1 and 2 are still in use
    assert wrapped.track_id == MAX_LABEL + 1
    assert [r.label_value for r in kept] == [1, 2]


def test_unknown_tracks_are_key_errors() -> None:
    tracks = TrackManager(CONFIG)
    with pytest.raises(KeyError):
        tracks[3]
    with pytest.raises(KeyError):
        tracks.remove([3])


# -- proposals -------------------------------------------------------------------------------------


def proposed(map_object_id: int = 0) -> Clock:
    return Clock(map_object_id=map_object_id, source=TrackSource.PROPOSAL)


def test_a_proposed_track_is_lost_when_missed_and_expires_later() -> None:
    clock = proposed()
    clock.run(1.0)
    assert clock.tracks.lost_proposals() == [] == clock.tracks.expired_proposals(clock.now_ns, 0.0)
    missing_since_ns = clock.now_ns
    clock.miss(1.5)
    assert clock.tracks.lost_proposals() == [1]
    assert clock.tracks.expired_proposals(missing_since_ns + 2 * SECOND, 2.0) == []
    assert clock.tracks.expired_proposals(missing_since_ns + 2 * SECOND + 1, 2.0) == [1]
    clock.frame()
    assert clock.tracks.lost_proposals() == [] and clock.track.state == S.CONFIRMED
    assert clock.tracks.expired_proposals(clock.now_ns + 9 * SECOND, 2.0) == []


def test_a_track_that_is_marked_lost_is_lost_at_once_and_comes_back() -> None:
    clock = proposed()
    clock.run(1.0)
    clock.tracks.mark_lost([1], clock.now_ns)
    assert clock.track.state == S.LOST and clock.tracks.lost_proposals() == [1]
    assert clock.tracks.expired_proposals(clock.now_ns + 2 * SECOND, 2.0) == []
    assert clock.tracks.expired_proposals(clock.now_ns + 3 * SECOND, 2.0) == [1]
    assert clock.frame() == S.CONFIRMED
    assert clock.tracks.expired_proposals(clock.now_ns + 3 * SECOND, 2.0) == []


def test_a_track_that_was_missing_before_it_is_marked_lost_is_missing_since_then() -> None:
    clock = proposed()
    first_missed_ns = clock.now_ns
    clock.miss(0.5)
    clock.tracks.mark_lost([1], clock.now_ns)
    assert clock.tracks.expired_proposals(first_missed_ns + SECOND + 1, 1.0) == [1]


def test_a_tentative_track_that_is_marked_lost_needs_an_unbroken_match_again() -> None:
    clock = proposed()
    clock.run(0.3)
    clock.tracks.mark_lost([1], clock.now_ns)
    assert clock.run(0.4) == [S.TENTATIVE] * 3 + [S.CONFIRMED]


@pytest.mark.parametrize(
    "clock",
    [proposed(map_object_id=7), Clock(), Clock(map_object_id=0)],
    ids=["proposal with object", "map", "prompt"],
)
def test_only_proposals_without_object_expire(clock: Clock) -> None:
    clock.miss(3.0)
    assert clock.track.state == S.LOST
    assert clock.tracks.lost_proposals() == [] == clock.tracks.expired_proposals(clock.now_ns, 0.1)


# -- changes of the map ----------------------------------------------------------------------------


def following(*object_ids: int) -> TrackManager:
    tracks = TrackManager(CONFIG)
    for i in object_ids:
        started(tracks, i)
    return tracks


def test_the_track_of_a_deleted_object_ends() -> None:
    tracks = following(7, 0, 8)
    assert tracks.follow_map(MapChange(deleted=(map_object(7),))) == (1,)
    assert [r.map_object_id for r in tracks] == [7, 0, 8], "ending it is not done here"


def test_the_track_of_a_merged_object_has_the_object_that_it_became() -> None:
    tracks = following(7, 8)
    change = MapChange(merged={7: 9}, deleted=(map_object(7),))
    assert tracks.follow_map(change) == ()
    assert tracks.track_by_object() == {9: 1, 8: 2}


def test_of_two_tracks_whose_objects_became_one_the_older_stays() -> None:
    tracks = following(7, 8, 5)
    assert tracks.follow_map(MapChange(merged={7: 8})) == (2,)
    tracks = following(7, 8, 5)
    assert tracks.follow_map(MapChange(merged={8: 7})) == (2,)
    tracks = following(0, 0)
    assert tracks.follow_map(MapChange()) == (), "tracks without object have none in common"


def test_in_a_new_session_of_the_map_all_tracks_of_objects_end() -> None:
    tracks = following(7, 0, 8)
    assert tracks.follow_map(MapChange(new_session=True)) == (1, 3)
