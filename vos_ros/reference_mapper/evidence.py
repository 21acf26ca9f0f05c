"""What has been said of tracks and objects but not often enough yet to change the map."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float32
from scipy.spatial import cKDTree

from vos_ros.geometry.extents import box_iou_3d, extent_of
from vos_ros.reference_mapper.config import ModelConfig, RulesConfig
from vos_ros.reference_mapper.model import ObjectModel
from vos_ros.reference_mapper.overlap import share_near, surface_overlap

Pair = tuple[int, int]
_BODY = 3.0
"""What is thinner than this times the distance at which surfaces count as one is no body: a card's surface is that of the box below it."""
_ALL_AROUND = 0.95


@dataclass(eq=False, slots=True)
class Candidate:
    """A track that may become an object. ``beside``: in how many of its frames each object was found elsewhere in the image."""

    model: ObjectModel
    beside: Counter[int] = field(default_factory=Counter)

    def is_ready(self, model: ModelConfig, rules: RulesConfig) -> bool:
        """Seen often and long enough, with enough of a surface."""
        span_s = (self.model.last_ns - self.model.first_ns) / 1e9
        return (
            self.model.observations >= rules.new_frames
            and span_s >= rules.new_s
            and len(self.model.points(model)) >= rules.new_points
        )


@dataclass(frozen=True, slots=True)
class Likeness:
    """How much two objects are the same in space: share of the smaller one's surface that is the other's too, whether their boxes
    overlap by ``rules.join_box_iou``, and whether one is ``within`` the other's surface all around."""

    shared: float
    alike: bool
    within: bool = False

    def same_as_new(self, beside: bool, rules: RulesConfig) -> bool:
        """A new object is the known one. Two things that most frames showed ``beside`` one another are hardly the same, even where they
        touch (a card on a box): then both surfaces and boxes must be alike."""
        return self.same_as_known(beside, rules) or (
            not beside and (self.shared >= rules.join_overlap or (self.alike and self.shared > 0))
        )

    def same_as_known(self, beside: bool, rules: RulesConfig) -> bool:
        """Two objects of the map are one: surfaces and boxes must be alike, whatever the frames showed, or one is all within the other's
        surface: two bodies can't be, however little one has grown or however much the other has leaked."""
        return self.within or (
            self.alike
            and self.shared >= (rules.join_overlap_beside if beside else rules.join_overlap)
        )


def likeness(a: ObjectModel, b: ObjectModel, model: ModelConfig, rules: RulesConfig) -> Likeness:
    """Compares two objects by their published points."""
    mine, theirs = a.points(model), b.points(model)
    # coarse cubes are farther apart than the noise is wide
    distance_m = max(rules.join_distance_m, a.grid.point_radius_m, b.grid.point_radius_m)
    shared = surface_overlap(mine, theirs, distance_m)
    if not shared:
        return Likeness(0.0, alike=False)
    boxes = extent_of(mine), extent_of(theirs)
    thick = min(float((box[1] - box[0]).min()) for box in boxes) >= _BODY * distance_m
    return Likeness(
        shared,
        box_iou_3d(*boxes, least_m=distance_m) >= rules.join_box_iou,
        thick and shared >= _ALL_AROUND,
    )


@dataclass(eq=False, slots=True)
class Split:
    """An object that several tracks cover: frames that said so, and what each track measured in them."""

    frames: int = 0
    parts: dict[int, ObjectModel] = field(default_factory=dict)

    def pieces(
        self, whole: ObjectModel, model: ModelConfig, rules: RulesConfig
    ) -> list[tuple[int, ObjectModel]]:
        """Track and piece, the largest first: each cube of the object goes to the track that measured the nearest point. Empty where
        the tracks measured one and the same surface, or fewer than two measured enough."""
        measured = {t: p.points(model) for t, p in self.parts.items()}
        measured = {t: points for t, points in measured.items() if len(points) >= rules.new_points}
        tracks = list(measured)
        if len(tracks) < 2 or any(
            _same(measured[a], measured[b], rules) for i, a in enumerate(tracks) for b in tracks[:i]
        ):
            return []
        cubes = whole.grid.means()
        nearest = np.argmin(
            np.stack([np.asarray(cKDTree(measured[t]).query(cubes)[0]) for t in tracks]), axis=0
        )
        out = []
        for row, t in enumerate(tracks):
            part = self.parts[t]
            share = whole.grid.only(nearest == row)
            out.append((int(np.count_nonzero(nearest == row)), t, share, part))
        out.sort(key=lambda piece: -piece[0])
        (_, keeper, share, part), *others = out
        kept = ObjectModel(
            whole.id,
            share.with_grid(part.grid, model.max_points),
            whole.first_ns,
            whole.last_ns,
            whole.observations,
            whole.votes,
            whole.log_odds,
            whole.information,
            whole.measured_ns,
        )
        return [
            (keeper, kept),
            *(
                (t, part.on(part.grid.with_grid(share, model.max_points)))
                for _, t, share, part in others
            ),
        ]


def _same(a: Float32[np.ndarray, "M 3"], b: Float32[np.ndarray, "K 3"], rules: RulesConfig) -> bool:
    return (
        min(share_near(a, b, rules.join_distance_m), share_near(b, a, rules.join_distance_m))
        >= rules.join_overlap
    )


def pair(a: int, b: int) -> Pair:
    """Two ids, the lower first."""
    return (a, b) if a < b else (b, a)
