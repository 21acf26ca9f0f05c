"""Where the map and the tracks count objects differently: two of the map that are one (MERGE), one of the map that is two (SPLIT)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from vos_ros.association.interface import Evidence
from vos_ros.config import AssociationConfig

_Key = tuple[int, int, int]


@dataclass(slots=True)
class _Case:
    """What a statement rests on: frames that spoke for it since ``since_ns``, and the last of them."""

    since_ns: int
    last_ns: int
    frames: int = 0


class _Cases:
    """Statements that frames speak for or against; one that a frame speaks against starts over."""

    def __init__(self, config: AssociationConfig) -> None:
        self._config = config
        self._cases: dict[_Key, _Case] = {}

    def observe(self, held: Iterable[_Key], refuted: Iterable[_Key], stamp_ns: int) -> list[_Key]:
        """One frame; returns what it holds and enough frames before it have held too. A statement that no frame has held for as long as it
        takes to make one is forgotten."""
        for k in refuted:
            self._cases.pop(k, None)
        patience = max(self._config.identity_s, 1.0) * 1e9
        self._cases = {k: c for k, c in self._cases.items() if stamp_ns - c.last_ns <= patience}
        sure = []
        for k in held:
            case = self._cases.setdefault(k, _Case(stamp_ns, stamp_ns))
            case.frames, case.last_ns = case.frames + 1, stamp_ns
            if (
                case.frames >= self._config.identity_frames
                and stamp_ns - case.since_ns >= self._config.identity_s * 1e9
            ):
                sure.append(k)
        return sure


class MergeSplitDetector:
    """Watches pairs of map objects that one track explains, and pairs of tracks that one map object explains.

    MERGE: one track covers the measured surfaces of both objects (``identity_share`` of each at least). SPLIT: a track that is no object
    of the map lies inside an object (``identity_share`` of its pixels, by depth) that another track is held to be. Both are said after
    ``identity_s`` and ``identity_frames`` frames; a frame that shows otherwise starts the count again. Both need depth: in the image
    alone, what is in front of an object looks like a part of it.
    """

    def __init__(self, config: AssociationConfig) -> None:
        self._config = config
        self._merges = _Cases(config)
        self._splits = _Cases(config)

    def observe(
        self, pairs: Sequence[Evidence], bound: Mapping[int, int], stamp_ns: int
    ) -> tuple[dict[int, set[int]], dict[int, set[int]]]:
        """One frame: the other map objects by track (MERGE), and the other tracks by track (SPLIT), of the track that is held to be the
        object. ``pairs`` are all whose masks meet; ``bound`` says what each track is held to be, 0 none."""
        share = self._config.identity_share
        covering: dict[int, list[Evidence]] = defaultdict(list)
        inside: dict[int, list[Evidence]] = defaultdict(list)
        for e in pairs:
            if e.surface_px >= self._config.absent_px:
                covering[e.track_id].append(e)
            if e.depth_inlier_ratio == e.depth_inlier_ratio:
                inside[e.map_object_id].append(e)
        one: list[_Key] = []
        two: list[_Key] = []
        for track, held in covering.items():
            for a, b in combinations(sorted(held, key=lambda e: e.map_object_id), 2):
                key = (track, a.map_object_id, b.map_object_id)
                (one if min(a.surface_covered, b.surface_covered) >= share else two).append(key)
        merged: dict[int, set[int]] = defaultdict(set)
        for track, a_id, b_id in self._merges.observe(one, two, stamp_ns):
            merged[track] |= {a_id, b_id} - {bound.get(track, 0)}
        part: list[_Key] = []
        apart: list[_Key] = []
        for object_id, held in inside.items():
            owner = next(
                (
                    e
                    for e in held
                    if bound.get(e.track_id) == object_id and e.depth_inlier_ratio >= share
                ),
                None,
            )
            for e in held:
                if owner is not None and not bound.get(e.track_id):
                    (part if e.depth_inlier_ratio >= share else apart).append(
                        (object_id, owner.track_id, e.track_id)
                    )
        split: dict[int, set[int]] = defaultdict(set)
        for _, owner_id, other in self._splits.observe(part, apart, stamp_ns):
            split[owner_id].add(other)
        return dict(merged), dict(split)
