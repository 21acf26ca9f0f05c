"""A mapper that is given frames as a perception node without mistakes would give them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from vos_ros.reference_mapper.frames import AssociatedFrame, MeasuredInstance
from vos_ros.reference_mapper.object_mapper import Integration, ObjectMapper
from vos_ros.types import Association, AssociationStatus, Verdict

STEP_NS = 100_000_000
NO_POINTS = np.zeros((0, 3), np.float32)


def box_surface(
    centre: Iterable[float],
    size: Iterable[float] = (0.1, 0.1, 0.1),
    count: int = 800,
    seed: int = 0,
) -> np.ndarray:
    """Sample three faces of a box (map frame, m), as one view shows them, with 2 mm of noise."""
    rng = np.random.default_rng(seed)
    points = rng.random((count, 3))
    side = rng.integers(0, 3, count)
    points[np.arange(count), side] = np.where(side == 2, 1.0, 0.0)
    box = (points - 0.5) * np.asarray(list(size)) + np.asarray(list(centre))
    return (box + rng.normal(0, 0.002, (count, 3))).astype(np.float32)


@dataclass
class MapperRun:
    """Frames at 10 Hz for a mapper.

    An association is a tuple: track, object, status, points or None[, related ids].
    """

    mapper: ObjectMapper
    index: int = 0
    session: str = "node"
    pose_cov: np.ndarray | None = None
    events: list[str] = field(default_factory=list)
    """All events since the start."""

    surface = staticmethod(box_surface)

    def frame(
        self, *associations: tuple, confirmed: bool = True, class_id: int = 0, **changes: object
    ) -> AssociatedFrame:
        """Make the next frame; ``changes`` replace its fields."""
        self.index += 1
        instances, named = [], []
        for track, thing, status, points, *related in associations:
            measured = NO_POINTS if points is None else points
            if track:
                instances.append(MeasuredInstance(track, class_id, confirmed, measured))
            related_ids = tuple(related[0]) if related else ()
            named.append(Association(track, thing, status, 0.9, related_ids=related_ids))
        given = {
            "stamp_ns": self.index * STEP_NS,
            "session_id": self.session,
            "map_session_id": self.mapper.session_id,
            "map_revision": self.mapper.revision,
            "map_frame": "map",
            "T_map_camera": np.eye(4),
            "pose_cov": self.pose_cov,
            "instances": tuple(instances),
            "associations": tuple(named),
            "self_check": Verdict.PASSED,
        }
        return AssociatedFrame(**{**given, **changes})  # type: ignore[arg-type]

    def integrate(self, *associations: tuple, times: int = 1, **changes: object) -> Integration:
        """Give the mapper a frame, or several alike; return what became of the last."""
        for _ in range(times):
            done = self.mapper.integrate(self.frame(*associations, **changes))
            self.events += done.events
        return done

    def make_object(
        self, track: int, centre: Iterable[float], times: int = 8, class_id: int = 0, **box: object
    ) -> int:
        """Make an object of a NEW track that shows a box; return its id."""
        before, new = set(self.mapper.objects), AssociationStatus.NEW
        for k in range(times):
            points = box_surface(centre, seed=k, **box)
            self.integrate((track, 0, new, points), class_id=class_id)
        (made,) = set(self.mapper.objects) - before
        return made
