"""A table with boxes seen by a perception node that makes no mistakes, so that a test can add its own."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pytest

from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.reference_mapper.frames import AssociatedFrame, SeenInstance
from vos_ros.reference_mapper.object_mapper import Integration, ObjectMapper
from vos_ros.types import Association, AssociationStatus

STEP_NS = 100_000_000
S = AssociationStatus


def surface(
    centre: Iterable[float],
    size: Iterable[float] = (0.1, 0.1, 0.1),
    count: int = 800,
    seed: int = 0,
) -> np.ndarray:
    """Points on the top and on two sides of a box (map frame, m), as one view shows it, with 2 mm of noise."""
    rng = np.random.default_rng(seed)
    points = rng.random((count, 3))
    side = rng.integers(0, 3, count)
    points[np.arange(count), side] = np.where(side == 2, 1.0, 0.0)
    return (
        (points - 0.5) * np.asarray(list(size))
        + np.asarray(list(centre))
        + rng.normal(0, 0.002, (count, 3))
    ).astype(np.float32)


@dataclass
class Story:
    """Frames at 10 Hz for a mapper; ``say`` gives one: (track, object, status, points or None[, related]) per statement."""

    mapper: ObjectMapper
    index: int = 0
    session: str = "node"
    pose_cov: np.ndarray | None = None
    events: list[str] = field(default_factory=list)

    surface = staticmethod(surface)

    def frame(
        self, *statements: tuple, confirmed: bool = True, class_id: int = 0, **changes: object
    ) -> AssociatedFrame:
        self.index += 1
        instances, associations = [], []
        for track, thing, status, points, *related in statements:
            if track:
                instances.append(
                    SeenInstance(
                        track,
                        class_id,
                        confirmed,
                        np.zeros((0, 3), np.float32) if points is None else points,
                    )
                )
            associations.append(
                Association(
                    track, thing, status, 0.9, related_ids=tuple(related[0]) if related else ()
                )
            )
        given = {
            "stamp_ns": self.index * STEP_NS,
            "session_id": self.session,
            "map_session_id": self.mapper.session_id,
            "map_revision": self.mapper.revision,
            "map_frame": "map",
            "T_map_camera": np.eye(4),
            "pose_cov": self.pose_cov,
            "instances": tuple(instances),
            "associations": tuple(associations),
        }
        return AssociatedFrame(**{**given, **changes})  # type: ignore[arg-type]

    def say(self, *statements: tuple, times: int = 1, **changes: object) -> Integration:
        for _ in range(times):
            done = self.mapper.integrate(self.frame(*statements, **changes))
            self.events += done.events
        return done

    def new(
        self, track: int, centre: Iterable[float], times: int = 8, class_id: int = 0, **box: object
    ) -> int:
        """Makes an object of a NEW track; its id."""
        before = set(self.mapper.objects)
        for k in range(times):
            self.say((track, 0, S.NEW, surface(centre, seed=k, **box)), class_id=class_id)
        (made,) = set(self.mapper.objects) - before
        return made


@pytest.fixture
def story() -> Story:
    return Story(ObjectMapper(MapperConfig()))


@pytest.fixture
def make_story() -> type[Story]:
    """A story of a mapper of one's own."""
    return Story
