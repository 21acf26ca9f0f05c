"""What an associator takes, the evidence of a frame, and what it returns, the matching."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64, Integer

from vos_ros.association.predicted_pixels import PredictedPixels
from vos_ros.types import Frame, MapObject


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class FrameEvidence:
    """Hold what one frame shows of the tracks and of the map objects."""

    instance_index: Integer[np.ndarray, "H W"]
    """Track of each pixel: 0 background, else 1 + its index in ``track_ids``."""
    track_ids: tuple[int, ...]
    """Ids of the tracks."""
    boxes: Mapping[int, tuple[int, int, int, int]]
    """Bounding box of each instance index that has pixels: x0 y0 x1 y1, px, upper ends excluded."""
    predicted_pixels: Sequence[PredictedPixels]
    """Pixels that the map predicts, one item per object in view."""
    measured: Bool[np.ndarray, "H W"] | None
    """Pixels with measured depth, None where there is no depth image."""
    current_match: Mapping[int, int]
    """Track id -> id of the map object that the track is matched to so far, 0 none."""
    overlaps_3d: Mapping[tuple[int, int], float] = field(default_factory=dict)
    """(track id, object id) -> share of the track's measured points on the object's surface, > 0;
    0 for pairs that are not listed."""
    similarities: Mapping[tuple[int, int], float] = field(default_factory=dict)
    """(track id, object id) -> similarity of appearance, -1..1; unknown for pairs not listed."""
    track_classes: Mapping[int, int] = field(default_factory=dict)
    """Track id -> class id, 0 unknown."""
    objects: Mapping[int, MapObject] = field(default_factory=dict)
    """Map objects by id, with their classes, points and embeddings."""
    consistency: Mapping[int, float] = field(default_factory=dict)
    """Track id -> 0..1, how well the track kept its place in the map frame, 1 it did."""
    descriptors: Mapping[int, Float32[np.ndarray, "C"]] = field(default_factory=dict)
    """Track id -> mean of the segmenter's features over its pixels, where there are features."""
    frame: Frame | None = None
    """The frame itself, for terms that read the images."""


class Evidence(NamedTuple):
    """Evidence for one pair of a track and a map object, and the probability of the pair."""

    track_id: int
    map_object_id: int
    score: float
    """Probability that the track is this object, 0..1."""
    terms: Mapping[str, float] = MappingProxyType({})
    """Value of each term by its name, NaN where it is unknown."""

    def value(self, term: str) -> float:
        """Return the value of a term, NaN where it is unknown."""
        return self.terms.get(term, math.nan)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class PairEvidence:
    """Hold the evidence for n pairs of a track and a map object, one array per quantity."""

    track_ids: Int64[np.ndarray, "n"]
    """Track of each pair."""
    object_ids: Int64[np.ndarray, "n"]
    """Map object of each pair."""
    terms: Mapping[str, Float64[np.ndarray, "n"]]
    """Values of each term by its name, NaN where unknown."""
    surface_px: Float64[np.ndarray, "n"]
    """Pixels where measured depth shows the object's surface."""
    surface_covered: Float64[np.ndarray, "n"]
    """Share of those pixels that belongs to the track, NaN where there are none."""

    def __len__(self) -> int:
        return len(self.track_ids)

    @classmethod
    def none(cls) -> PairEvidence:
        """Return the evidence of no pair."""
        ids, nothing = np.zeros(0, np.int64), np.zeros(0)
        return cls(
            track_ids=ids, object_ids=ids, terms={}, surface_px=nothing, surface_covered=nothing
        )

    def values(self, term: str) -> Float64[np.ndarray, "n"]:
        """Return the values of a term, NaN where unknown."""
        return self.terms[term] if term in self.terms else np.full(len(self), np.nan)

    def select(self, rows: Integer[np.ndarray, "m"] | Bool[np.ndarray, "n"]) -> PairEvidence:
        """Return the pairs of the given rows."""
        return PairEvidence(
            track_ids=self.track_ids[rows],
            object_ids=self.object_ids[rows],
            terms={name: values[rows] for name, values in self.terms.items()},
            surface_px=self.surface_px[rows],
            surface_covered=self.surface_covered[rows],
        )

    def pair(self, row: int, score: float) -> Evidence:
        """Return one pair as a value of its own, with its score."""
        terms = {name: float(values[row]) for name, values in self.terms.items()}
        return Evidence(int(self.track_ids[row]), int(self.object_ids[row]), score, terms)


@dataclass(frozen=True, slots=True)
class Match:
    """The map object that a track is assigned in a frame, and the second most probable one."""

    track_id: int
    evidence: Evidence | None
    """Evidence for the assigned object, None: the track is no object of the map."""
    runner_up: Evidence | None
    """Evidence for the most probable other object, None: there is no other candidate."""


class Matching(NamedTuple):
    """Matches of a frame."""

    matches: tuple[Match, ...]
    """One per track, in the order of ``FrameEvidence.track_ids``."""
    pairs: PairEvidence
    """Evidence for all candidate pairs, including those that the gate refused."""


class Associator(Protocol):
    """Assign map objects to the tracks of a frame, one to one."""

    def __call__(self, evidence: FrameEvidence) -> Matching: ...
