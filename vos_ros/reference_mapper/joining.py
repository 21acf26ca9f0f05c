"""Stage: decide which objects are one and the same."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from itertools import combinations

from vos_ros.geometry.extents import box_iou_3d, extent_of
from vos_ros.reference_mapper.config import ModelConfig, RulesConfig
from vos_ros.reference_mapper.model import ObjectModel
from vos_ros.reference_mapper.overlap import surface_overlap

Pair = tuple[int, int]
"""Two object ids, the lower first. The object with the lower id remains where they are joined."""
_MIN_BODY_THICKNESS = 3.0
"""Smallest side of a body's box, in the distance up to which two surfaces are the same one. What is
thinner is no body: the surface of a card is also that of the box on which it lies."""
_CONTAINED_SHARE = 0.95
"""Share of a body's surface that must be the other object's, for it to be contained in that."""


def ordered_pair(a: int, b: int) -> Pair:
    """Return two ids, the lower first."""
    return (a, b) if a < b else (b, a)


@dataclass(frozen=True, slots=True)
class Similarity:
    """How far two objects are the same thing in space."""

    shared: float
    """Share of the smaller object's surface that is the other's too."""
    boxes_overlap: bool
    """Whether the IoU of their boxes is at least ``rules.join_box_iou``."""
    contained: bool = False
    """Whether both are bodies and nearly all of one's surface is the other's."""

    def new_is_known(self, co_observed: bool, rules: RulesConfig) -> bool:
        """Return whether a new object is the known one.

        ``co_observed``: most frames of the new object matched the known one in another place of
        the image. Then both surfaces and boxes must be similar, since the objects may only touch
        (a card on a box).
        """
        if self.known_are_one(co_observed, rules):
            return True
        partly = self.boxes_overlap and self.shared > 0
        return not co_observed and (self.shared >= rules.join_overlap or partly)

    def known_are_one(self, co_observed: bool, rules: RulesConfig) -> bool:
        """Return whether two objects of the map are one.

        Both surfaces and boxes must be similar. Or one is contained in the other, which two bodies
        can't be.
        """
        required = rules.join_overlap_co_observed if co_observed else rules.join_overlap
        return self.contained or (self.boxes_overlap and self.shared >= required)


def similarity(
    a: ObjectModel, b: ObjectModel, config: ModelConfig, rules: RulesConfig
) -> Similarity:
    """Compare the surfaces and the boxes of two objects.

    Args:
        a: one object.
        b: the other one.
        config: which of their points are published.
        rules: distance up to which surfaces are the same, IoU of the boxes.
    """
    points_a, points_b = a.points(config), b.points(config)
    # The points of large cubes are farther apart than the noise of the measurements is wide.
    distance_m = max(rules.join_distance_m, a.grid.point_radius_m, b.grid.point_radius_m)
    shared = surface_overlap(points_a, points_b, distance_m)
    if not shared:
        return Similarity(0.0, boxes_overlap=False)
    boxes = extent_of(points_a), extent_of(points_b)
    thickness_m = min(float((box[1] - box[0]).min()) for box in boxes)
    are_bodies = thickness_m >= _MIN_BODY_THICKNESS * distance_m
    return Similarity(
        shared,
        boxes_overlap=box_iou_3d(*boxes, least_m=distance_m) >= rules.join_box_iou,
        contained=are_bodies and shared >= _CONTAINED_SHARE,
    )


class JoiningStage:
    """Count the evidence for and against two objects being one.

    For it: frames that report MERGE of both, and surfaces that have grown together. Against it:
    frames that matched both.
    """

    def __init__(self, config: ModelConfig, rules: RulesConfig) -> None:
        self._config, self._rules = config, rules
        self._merge_votes: Counter[Pair] = Counter()
        self._co_observed: Counter[Pair] = Counter()

    def reset(self) -> None:
        """Forget all evidence."""
        self._merge_votes.clear()
        self._co_observed.clear()

    def remove(self, object_id: int) -> None:
        """Forget the evidence of an object that is gone."""
        for counts in (self._merge_votes, self._co_observed):
            for pair in [p for p in counts if object_id in p]:
                del counts[pair]

    def count_matches(self, matched: Collection[int]) -> None:
        """Count the objects that one frame matched, in different places of the image."""
        self._co_observed.update(combinations(sorted(matched), 2))

    def count_merges(self, reported: Iterable[Pair], matched: Collection[int]) -> None:
        """Count the pairs that a frame reported to be one.

        A frame that matched both objects of a pair is evidence against it: its votes are forgotten.
        """
        for pair in [p for p in self._merge_votes if set(matched).issuperset(p)]:
            del self._merge_votes[pair]
        self._merge_votes.update(reported)

    def is_due(self, pair: Pair) -> bool:
        """Return whether enough frames reported that two objects are one."""
        return self._merge_votes[pair] >= self._rules.merge_frames

    def have_grown_together(self, a: ObjectModel, b: ObjectModel) -> bool:
        """Return whether the surfaces of two known objects are one by now."""
        together = self._co_observed[ordered_pair(a.id, b.id)]
        co_observed = 2 * together > min(a.observations, b.observations)
        return similarity(a, b, self._config, self._rules).known_are_one(co_observed, self._rules)
