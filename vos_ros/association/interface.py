"""What an associator is: it judges which map object each track's pixels are."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Bool, Integer

from vos_ros.association.predicted_pixels import PredictedPixels


@dataclass(frozen=True, eq=False, slots=True)
class View:
    """One frame as an associator sees it.

    ``owner`` says whose a pixel is: 0 background, else 1 + the index into ``track_ids``; ``boxes`` where each owner's pixels are (x0 y0
    x1 y1, px). ``measured`` are the pixels with depth, None where there is no depth image. ``bound`` is the object each track was last
    held to be. Further, where they are known: by track and object ``overlaps``, the share of the track's measured points that lies on the
    object's surface in space, and ``similarities`` of their looks, -1..1; classes by track and by object, 0 unknown; and by track
    ``consistency``, 0..1: how well it stayed in its place (1: it did).
    """

    owner: Integer[np.ndarray, "H W"]
    track_ids: tuple[int, ...]
    boxes: Mapping[int, tuple[int, int, int, int]]
    predicted_pixels: Sequence[PredictedPixels]
    measured: Bool[np.ndarray, "H W"] | None
    bound: Mapping[int, int]
    overlaps: Mapping[tuple[int, int], float] = field(default_factory=dict)
    similarities: Mapping[tuple[int, int], float] = field(default_factory=dict)
    track_classes: Mapping[int, int] = field(default_factory=dict)
    object_classes: Mapping[int, int] = field(default_factory=dict)
    consistency: Mapping[int, float] = field(default_factory=dict)


class Evidence(NamedTuple):
    """One pair of a track and a map object. ``mask_iou`` is the plain one, where the object should be seen and is seen through counts as
    missed; ``tolerant_iou`` leaves out what the pose's uncertainty explains; ratios are NaN without depth. ``surface_px`` are the pixels
    where measured depth shows the object's surface, of which the track has the share ``surface_covered``: 0 and NaN without depth.
    ``overlap_3d`` and ``similarity`` as in ``View``, NaN where unknown; ``conflict``: their classes are known and differ."""

    track_id: int
    map_object_id: int
    score: float
    mask_iou: float
    tolerant_iou: float
    depth_inlier_ratio: float
    surface_px: int = 0
    surface_covered: float = math.nan
    overlap_3d: float = math.nan
    similarity: float = math.nan
    conflict: bool = False


@dataclass(frozen=True, slots=True)
class Match:
    """The verdict on a track: the object it is (None: no object of the map) and the second best one."""

    track_id: int
    evidence: Evidence | None
    runner_up: Evidence | None


class Verdicts(NamedTuple):
    """One match per track of the view, in the order of ``track_ids``; and all the evidence there was, gated or not."""

    matches: tuple[Match, ...]
    pairs: tuple[Evidence, ...]


class Associator(Protocol):
    """Judges a frame."""

    def __call__(self, view: View) -> Verdicts: ...
