"""The life of tracks: tentative, confirmed, occluded, lost, recovered.

Durations are seconds of the images' clock, whatever the frame rate is.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from vos_ros.config import TrackingConfig
from vos_ros.types import MAX_LABEL, MapChange, TrackSource, TrackState


@dataclass(eq=False, slots=True, kw_only=True)
class TrackRecord:
    """Hold the state and history of one track. Times are stamps of images, ns."""

    track_id: int
    """Id, never used again in a session."""
    label_value: int
    """Value in the label image, the same over the life of the track."""
    class_id: int
    """Class that came with its prompt or its object, 0 unknown."""
    source: TrackSource
    """What started it."""
    map_object_id: int
    """Map object that it is matched to, 0 none."""
    state: TrackState = TrackState.TENTATIVE
    """State after the last frame."""
    age_frames: int = 0
    """Frames since it started."""
    misses: int = 0
    """Frames since it last had enough pixels."""
    n_observations: int = 0
    """Frames in which it had enough pixels and matched an object."""
    matched_since_ns: int | None = None
    """Start of its unbroken match with its object; of its visibility, where it has none."""
    missing_since_ns: int | None = None
    """Since when it has been missed although its object should be visible."""
    other_object_id: int = 0
    """Another object that it matches, 0 none."""
    other_since_ns: int = 0
    """Start of its unbroken match with that one."""
    confirmed: bool = False
    """Whether it ever was confirmed."""
    was_lost: bool = False
    """Whether it was lost and has not matched its object since."""
    recovered: bool = False
    """Whether it matches its object in this frame for the first time since it was lost."""


class TrackManager:
    """Hold the live tracks of a session. Ids grow from 1 and are never used again."""

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
        """Return the next track id."""
        self._last_id += 1
        return self._last_id

    def start(
        self, track_id: int, *, map_object_id: int, class_id: int, source: TrackSource
    ) -> TrackRecord:
        """Start a track under a reserved id.

        Args:
            track_id: from ``reserve``.
            map_object_id: map object that it starts from, 0 none.
            class_id: its class, 0 unknown.
            source: what starts it.
        """
        used = {r.label_value for r in self}
        value = (track_id - 1) % MAX_LABEL + 1
        while value in used:  # only after 65534 tracks in one session
            value = value % MAX_LABEL + 1
        record = TrackRecord(
            track_id=track_id,
            label_value=value,
            class_id=class_id,
            source=source,
            map_object_id=map_object_id,
        )
        self._records[track_id] = record
        return record

    def remove(self, track_ids: Iterable[int]) -> None:
        """End tracks. Raises KeyError: an id is unknown."""
        for t in track_ids:
            del self._records[t]

    def lost_proposals(self) -> list[int]:
        """Return the lost tracks among proposed ones without map object."""
        return [r.track_id for r in self._proposals() if r.state == TrackState.LOST]

    def expired_proposals(self, stamp_ns: int, max_missing_s: float) -> list[int]:
        """Return the proposed tracks without map object that are missing for longer than that."""
        return [
            r.track_id
            for r in self._proposals()
            if r.missing_since_ns is not None
            and stamp_ns - r.missing_since_ns > max_missing_s * 1e9
        ]

    def _proposals(self) -> Iterator[TrackRecord]:
        """Yield the proposed tracks that are no map object so far."""
        return (r for r in self if r.source == TrackSource.PROPOSAL and not r.map_object_id)

    def mark_lost(self, track_ids: Iterable[int], stamp_ns: int) -> None:
        """Set the state of tracks to LOST: they turned out to follow something else."""
        for t in track_ids:
            r = self._records[t]
            r.state, r.was_lost, r.matched_since_ns = TrackState.LOST, True, None
            r.missing_since_ns = stamp_ns if r.missing_since_ns is None else r.missing_since_ns

    def track_by_object(self) -> dict[int, int]:
        """Return map object id -> id of the track that is matched to it."""
        return {r.map_object_id: r.track_id for r in self if r.map_object_id}

    def follow_map(self, change: MapChange) -> tuple[int, ...]:
        """Rename tracks' objects after a change of the map, and return the tracks that must end.

        A track ends if its object was deleted, or merged with the object of an older track. In a
        new session ids mean other objects, so that all tracks of map objects end.
        """
        matched = [r for r in self if r.map_object_id]
        if change.new_session:
            return tuple(r.track_id for r in matched)
        deleted = {o.id for o in change.deleted}
        ended, claimed = [], set()
        for r in matched:
            r.map_object_id = change.merged.get(r.map_object_id, r.map_object_id)
            if r.map_object_id in deleted or r.map_object_id in claimed:
                ended.append(r.track_id)
            claimed.add(r.map_object_id)
        return tuple(ended)

    def advance(
        self, track_id: int, stamp_ns: int, *, area_px: int, matched_object: int, expected: bool
    ) -> None:
        """Advance a track by one frame.

        Args:
            track_id: the track.
            stamp_ns: stamp of the frame.
            area_px: number of its pixels.
            matched_object: map object that it matches with enough score, 0 none.
            expected: whether it should be visible: its object's projection is, or it has no
                object.
        """
        r = self._records[track_id]
        r.age_frames += 1
        r.recovered = False
        if area_px < self._config.min_px:
            self._miss(r, stamp_ns, expected)
            return
        r.misses, r.missing_since_ns = 0, None
        if r.state in (TrackState.OCCLUDED, TrackState.LOST):
            r.state = TrackState.CONFIRMED if r.confirmed else TrackState.TENTATIVE
        if matched_object:
            r.n_observations += 1
        self._change_object(r, stamp_ns, matched_object)
        r.recovered = r.was_lost and matched_object == r.map_object_id
        r.was_lost &= not r.recovered
        if r.map_object_id and matched_object != r.map_object_id:
            r.matched_since_ns = None
            return
        # a track without map object (from a prompt) is confirmed by being visible
        r.matched_since_ns = stamp_ns if r.matched_since_ns is None else r.matched_since_ns
        long_enough = stamp_ns - r.matched_since_ns >= self._config.confirm_s * 1e9
        if r.state == TrackState.TENTATIVE and long_enough:
            r.state, r.confirmed = TrackState.CONFIRMED, True

    def _miss(self, r: TrackRecord, stamp_ns: int, expected: bool) -> None:
        """Advance a track that has too few pixels."""
        r.misses += 1
        r.matched_since_ns, r.other_object_id = None, 0
        if not expected:
            r.state, r.missing_since_ns = TrackState.OCCLUDED, None
            return
        r.missing_since_ns = stamp_ns if r.missing_since_ns is None else r.missing_since_ns
        if stamp_ns - r.missing_since_ns >= self._config.lost_s * 1e9:
            r.state, r.was_lost = TrackState.LOST, True
        elif r.state != TrackState.LOST:
            r.state = TrackState.OCCLUDED

    def _change_object(self, r: TrackRecord, stamp_ns: int, matched_object: int) -> None:
        """Change a track's object after it matched another one, and no third, for confirm_s.

        An object that another track is matched to is not taken.
        """
        if matched_object in (0, r.map_object_id):
            r.other_object_id = 0
            return
        if matched_object != r.other_object_id:
            r.other_object_id, r.other_since_ns = matched_object, stamp_ns
        long_enough = stamp_ns - r.other_since_ns >= self._config.confirm_s * 1e9
        if long_enough and matched_object not in self.track_by_object():
            r.map_object_id, r.other_object_id = matched_object, 0
