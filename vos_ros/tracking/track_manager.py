"""The life of tracks: tentative -> confirmed -> occluded -> lost -> recovered, in seconds of the images' clock."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vos_ros.config import TrackingConfig
from vos_ros.types import MAX_LABEL, MapChange, TrackSource, TrackState


@dataclass(eq=False, slots=True)
class TrackRecord:
    """One track's history. ``map_object_id`` is the object it is held to be, 0 = none. Times are image stamps in ns. ``confirmed``: it
    once was. ``recovered``: in this frame it agrees with its object for the first time since it was lost."""

    track_id: int
    label_value: int
    class_id: int
    source: TrackSource
    map_object_id: int
    born_ns: int
    state: TrackState = TrackState.TENTATIVE
    age_frames: int = 0
    misses: int = 0
    n_observations: int = 0
    agreed_since_ns: int | None = None
    missing_since_ns: int | None = None
    other_object: int = 0
    other_since_ns: int = 0
    confirmed: bool = False
    was_lost: bool = False
    recovered: bool = False


class TrackManager:
    """All live tracks of a session. Ids grow from 1 and are never reused; label values are stable over a track's life."""

    def __init__(self, config: TrackingConfig) -> None:
        self._config = config
        self._records: dict[int, TrackRecord] = {}
        self._last_id = 0

    def __iter__(self) -> Iterator[TrackRecord]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, track_id: int) -> bool:
        return track_id in self._records

    def __getitem__(self, track_id: int) -> TrackRecord:
        return self._records[track_id]

    def reserve(self) -> int:
        """The next track id."""
        self._last_id += 1
        return self._last_id

    def start(
        self,
        track_id: int,
        stamp_ns: int,
        *,
        map_object_id: int,
        class_id: int,
        source: TrackSource,
    ) -> TrackRecord:
        """A new track under a reserved id."""
        used = {r.label_value for r in self}
        value = (track_id - 1) % MAX_LABEL + 1
        while value in used:  # only after 65534 tracks in one session
            value = value % MAX_LABEL + 1
        record = TrackRecord(track_id, value, class_id, source, map_object_id, stamp_ns)
        self._records[track_id] = record
        return record

    def remove(self, track_ids: Iterable[int]) -> None:
        """Ends tracks."""
        for t in track_ids:
            del self._records[t]

    def lost_proposals(self) -> list[int]:
        """Proposed tracks of no map object that are lost."""
        return [
            r.track_id
            for r in self
            if r.source == TrackSource.PROPOSAL
            and not r.map_object_id
            and r.state == TrackState.LOST
        ]

    def lose(self, track_ids: Iterable[int], stamp_ns: int) -> None:
        """Tracks that turned out to follow something else are lost."""
        for t in track_ids:
            r = self._records[t]
            r.state, r.was_lost, r.agreed_since_ns = TrackState.LOST, True, None
            r.missing_since_ns = stamp_ns if r.missing_since_ns is None else r.missing_since_ns

    def given_up(self, stamp_ns: int, after_s: float) -> list[int]:
        """Proposed tracks that no mapper has made an object of, and that have been missing for longer than ``after_s``."""
        return [
            r.track_id
            for r in self
            if r.source == TrackSource.PROPOSAL
            and not r.map_object_id
            and r.missing_since_ns is not None
            and stamp_ns - r.missing_since_ns > after_s * 1e9
        ]

    def followed_objects(self) -> dict[int, int]:
        """map object id -> track id."""
        return {r.map_object_id: r.track_id for r in self if r.map_object_id}

    def follow_map(self, change: MapChange) -> tuple[int, ...]:
        """Rename tracks' objects after a change of the map, and return the tracks that must end.

        A track ends where its object is gone, or became one with the object of an older track; all
        tracks of map objects end in a new session, in which ids mean other objects.
        """
        bound = [r for r in self if r.map_object_id]
        if change.new_session:
            return tuple(r.track_id for r in bound)
        deleted = {o.id for o in change.deleted}
        ended, claimed = [], set()
        for r in bound:
            r.map_object_id = change.merged.get(r.map_object_id, r.map_object_id)
            if r.map_object_id in deleted or r.map_object_id in claimed:
                ended.append(r.track_id)
            claimed.add(r.map_object_id)
        return tuple(ended)

    def advance(
        self, track_id: int, stamp_ns: int, *, area_px: int, agreed_object: int, expected: bool
    ) -> None:
        """One frame of a track's life.

        ``area_px``: its pixels in this frame. ``agreed_object``: the map object it matched with enough score, 0 = none. ``expected``: it
        should be seen in this frame (its object's projection is visible; always true where no map object predicts it).
        """
        r = self._records[track_id]
        r.age_frames += 1
        r.recovered = False
        if area_px < self._config.min_px:
            self._missed(r, stamp_ns, expected)
            return
        r.misses, r.missing_since_ns = 0, None
        if r.state in (TrackState.OCCLUDED, TrackState.LOST):
            r.state = TrackState.CONFIRMED if r.confirmed else TrackState.TENTATIVE
        if agreed_object:
            r.n_observations += 1
        self._rebind(r, stamp_ns, agreed_object)
        r.recovered = r.was_lost and agreed_object == r.map_object_id
        r.was_lost &= not r.recovered
        if r.map_object_id and agreed_object != r.map_object_id:
            r.agreed_since_ns = None
            return
        # a track of no map object (a prompt) confirms by being seen
        r.agreed_since_ns = stamp_ns if r.agreed_since_ns is None else r.agreed_since_ns
        if (
            r.state == TrackState.TENTATIVE
            and stamp_ns - r.agreed_since_ns >= self._config.confirm_s * 1e9
        ):
            r.state, r.confirmed = TrackState.CONFIRMED, True

    def _missed(self, r: TrackRecord, stamp_ns: int, expected: bool) -> None:
        r.misses += 1
        r.agreed_since_ns, r.other_object = None, 0
        if not expected:
            r.state, r.missing_since_ns = TrackState.OCCLUDED, None
            return
        r.missing_since_ns = stamp_ns if r.missing_since_ns is None else r.missing_since_ns
        if stamp_ns - r.missing_since_ns >= self._config.lost_s * 1e9:
            r.state, r.was_lost = TrackState.LOST, True
        elif r.state != TrackState.LOST:
            r.state = TrackState.OCCLUDED

    def _rebind(self, r: TrackRecord, stamp_ns: int, agreed_object: int) -> None:
        """A track changes its object only after it has agreed with the other one, and no third, for confirm_s."""
        if agreed_object in (0, r.map_object_id):
            r.other_object = 0
            return
        if agreed_object != r.other_object:
            r.other_object, r.other_since_ns = agreed_object, stamp_ns
        if (
            stamp_ns - r.other_since_ns >= self._config.confirm_s * 1e9
            and agreed_object not in self.followed_objects()
        ):
            r.map_object_id, r.other_object = agreed_object, 0
