"""Detection of objects that the map and the tracks count differently.

MERGE: two objects of the map are one. SPLIT: one object of the map is two.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from vos_ros.association.interface import PairEvidence
from vos_ros.config import AssociationConfig

_MIN_FORGET_S = 1.0  # a hypothesis without support for this long, or for identity_s, is forgotten

_Hypothesis = tuple[int, int, int]


@dataclass(slots=True)
class _Support:
    """Hold the frames that support a hypothesis without interruption by one against it."""

    since_ns: int
    last_ns: int
    frames: int = 0


class _HypothesisCounter:
    """Count the frames that support each hypothesis, anew after a frame against it."""

    def __init__(self, config: AssociationConfig) -> None:
        self._config = config
        self._support: dict[_Hypothesis, _Support] = {}

    def observe(
        self, supported: Iterable[_Hypothesis], refuted: Iterable[_Hypothesis], stamp_ns: int
    ) -> list[_Hypothesis]:
        """Add one frame. Return what it supports and enough frames before it supported too."""
        config = self._config
        forget_ns = max(config.identity_s, _MIN_FORGET_S) * 1e9
        gone = set(refuted)
        self._support = {
            h: s
            for h, s in self._support.items()
            if h not in gone and stamp_ns - s.last_ns <= forget_ns
        }
        confirmed = []
        for h in supported:
            s = self._support.setdefault(h, _Support(stamp_ns, stamp_ns))
            s.frames, s.last_ns = s.frames + 1, stamp_ns
            enough = s.frames >= config.identity_frames
            if enough and stamp_ns - s.since_ns >= config.identity_s * 1e9:
                confirmed.append(h)
        return confirmed


class MergeSplitDetector:
    """Detect map objects that one track covers, and tracks that lie in one map object.

    MERGE: a track covers ``identity_share`` of the measured surfaces of two objects. SPLIT:
    ``identity_share`` of the measured pixels of a track without object lie on an object that
    another track is matched to. Both are reported after ``identity_s`` and ``identity_frames``; a
    frame that shows otherwise starts the count again. Both need depth: in the image alone, what is
    in front of an object appears as a part of it.
    """

    def __init__(self, config: AssociationConfig) -> None:
        self._config = config
        self._merges = _HypothesisCounter(config)
        self._splits = _HypothesisCounter(config)

    def observe(
        self, pairs: PairEvidence, current_match: Mapping[int, int], stamp_ns: int
    ) -> tuple[dict[int, set[int]], dict[int, set[int]]]:
        """Add one frame; return the confirmed merges and splits.

        Args:
            pairs: evidence of all candidate pairs, whether the gate passed them or not.
            current_match: track id -> id of the map object that it is matched to, 0 none.
            stamp_ns: stamp of the frame.

        Returns:
            Track id -> ids of the other map objects (MERGE), and track id of the object's track ->
            ids of the other tracks (SPLIT).
        """
        merged: dict[int, set[int]] = defaultdict(set)
        supported, refuted = self._merge_hypotheses(pairs)
        for track_id, a, b in self._merges.observe(supported, refuted, stamp_ns):
            merged[track_id] |= {a, b} - {current_match.get(track_id, 0)}
        split: dict[int, set[int]] = defaultdict(set)
        supported, refuted = self._split_hypotheses(pairs, current_match)
        for _, track_id, other in self._splits.observe(supported, refuted, stamp_ns):
            split[track_id].add(other)
        return dict(merged), dict(split)

    def _merge_hypotheses(self, pairs: PairEvidence) -> tuple[list[_Hypothesis], list[_Hypothesis]]:
        """Return (track, object, object): those that the frame supports, and those it refutes."""
        covered_by: dict[int, list[tuple[int, float]]] = defaultdict(list)
        large = pairs.select(pairs.surface_px >= self._config.absent_px)
        for track_id, object_id, covered in zip(
            large.track_ids.tolist(),
            large.object_ids.tolist(),
            large.surface_covered.tolist(),
            strict=True,
        ):
            covered_by[track_id].append((object_id, covered))
        supported: list[_Hypothesis] = []
        refuted: list[_Hypothesis] = []
        for track_id, some in covered_by.items():
            for (a, a_covered), (b, b_covered) in combinations(sorted(some), 2):
                both = min(a_covered, b_covered) >= self._config.identity_share
                (supported if both else refuted).append((track_id, a, b))
        return supported, refuted

    def _split_hypotheses(
        self, pairs: PairEvidence, current_match: Mapping[int, int]
    ) -> tuple[list[_Hypothesis], list[_Hypothesis]]:
        """Return (object, its track, other track): those the frame supports, those it refutes."""
        share = self._config.identity_share
        tracks_on: dict[int, list[tuple[int, float]]] = defaultdict(list)
        inliers = pairs.values("depth_inliers")
        measured = np.flatnonzero(~np.isnan(inliers))
        for track_id, object_id, ratio in zip(
            pairs.track_ids[measured].tolist(),
            pairs.object_ids[measured].tolist(),
            inliers[measured].tolist(),
            strict=True,
        ):
            tracks_on[object_id].append((track_id, ratio))
        supported: list[_Hypothesis] = []
        refuted: list[_Hypothesis] = []
        for object_id, some in tracks_on.items():
            own = next(
                (t for t, r in some if current_match.get(t) == object_id and r >= share), None
            )
            if own is None:
                continue
            for track_id, ratio in some:
                if not current_match.get(track_id):
                    inside = ratio >= share
                    (supported if inside else refuted).append((object_id, own, track_id))
        return supported, refuted
