"""Stage: decide which objects are several ones, and what belongs to each."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Float32
from scipy.spatial import cKDTree

from vos_ros.reference_mapper.config import ModelConfig, RulesConfig
from vos_ros.reference_mapper.frames import AssociatedFrame, MeasuredInstance
from vos_ros.reference_mapper.integration import SurfaceIntegrator
from vos_ros.reference_mapper.model import ObjectModel, new_model
from vos_ros.reference_mapper.overlap import share_near

Piece = tuple[int, ObjectModel]
"""A track, and the part of an object that it measured."""


@dataclass(eq=False, slots=True)
class SplitEvidence:
    """An object that several tracks cover."""

    frames: int = 0
    """Number of frames that reported it."""
    parts: dict[int, ObjectModel] = field(default_factory=dict)
    """Track id -> what the track measured in these frames."""

    def pieces(self, whole: ObjectModel, config: ModelConfig, rules: RulesConfig) -> list[Piece]:
        """Divide an object between the tracks: each cube goes to the nearest track's points.

        The largest piece comes first and keeps the object's id. Returns nothing where two tracks
        measured one and the same surface, or fewer than two measured enough points.
        """
        measured = {t: p.points(config) for t, p in self.parts.items()}
        measured = {t: points for t, points in measured.items() if len(points) >= rules.new_points}
        tracks = list(measured)
        same = any(
            _are_same(measured[a], measured[b], rules)
            for i, a in enumerate(tracks)
            for b in tracks[:i]
        )
        if len(tracks) < 2 or same:
            return []
        means = whole.grid.means()
        distances = [np.asarray(cKDTree(measured[t]).query(means)[0]) for t in tracks]
        nearest = np.argmin(np.stack(distances), axis=0)
        sizes = [int(np.count_nonzero(nearest == row)) for row in range(len(tracks))]
        largest, *others = sorted(range(len(tracks)), key=lambda row: -sizes[row])
        most = config.max_points
        kept_grid = whole.grid.select(nearest == largest)
        kept_grid = kept_grid.with_grid(self.parts[tracks[largest]].grid, most)
        pieces = [(tracks[largest], replace(whole, grid=kept_grid, absent_ns=None))]
        for row in others:
            part = self.parts[tracks[row]]
            grid = part.grid.with_grid(whole.grid.select(nearest == row), most)
            pieces.append((tracks[row], part.with_grid(grid)))
        return pieces


def _are_same(
    a: Float32[np.ndarray, "M 3"], b: Float32[np.ndarray, "K 3"], rules: RulesConfig
) -> bool:
    """Return whether two sets of points are one surface, seen from both."""
    distance_m = rules.join_distance_m
    shared = min(share_near(a, b, distance_m), share_near(b, a, distance_m))
    return shared >= rules.join_overlap


class SplittingStage:
    """Collect what each track measures of an object that several of them cover."""

    def __init__(
        self, config: ModelConfig, rules: RulesConfig, integrator: SurfaceIntegrator
    ) -> None:
        self._config, self._rules, self._integrator = config, rules, integrator
        self._evidence: dict[int, SplitEvidence] = {}

    def reset(self) -> None:
        """Forget all evidence."""
        self._evidence.clear()

    def remove(self, object_id: int) -> None:
        """Forget the evidence of an object that is gone, or was matched."""
        self._evidence.pop(object_id, None)

    def count(
        self,
        object_id: int,
        tracks: Collection[int],
        instances: Mapping[int, MeasuredInstance],
        frame: AssociatedFrame,
    ) -> SplitEvidence | None:
        """Add a frame that reported that several tracks cover an object.

        Args:
            object_id: the object.
            tracks: the tracks that cover it.
            instances: tracks in this frame.
            frame: the frame.

        Returns:
            The evidence, once it comes from enough frames; it is forgotten then.
        """
        evidence = self._evidence.setdefault(object_id, SplitEvidence())
        evidence.frames += 1
        for track_id in tracks:
            instance = instances.get(track_id)
            if instance is not None and self._integrator.can_measure(instance, frame):
                evidence.parts[track_id] = self._measure(
                    evidence.parts.get(track_id), instance, frame
                )
        if evidence.frames < self._rules.split_frames:
            return None
        return self._evidence.pop(object_id)

    def _measure(
        self, part: ObjectModel | None, instance: MeasuredInstance, frame: AssociatedFrame
    ) -> ObjectModel:
        """Add a frame to a track's part; one that has moved away starts anew."""
        if part is None or not self._integrator.agrees(part, instance):
            part = new_model(instance.points, frame.stamp_ns, self._config)
        part = part.with_match(frame.stamp_ns, self._config).with_vote(instance.class_id)
        return self._integrator.integrate(part, instance, frame)
