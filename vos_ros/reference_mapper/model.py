"""One object of the map: its surface, where it is and how surely, whether it exists, how often and when it was seen."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64

from vos_ros.geometry.extents import Extent, extent_of, inside
from vos_ros.geometry.uncertainty import carry_covariance, pose_covariance
from vos_ros.reference_mapper.config import ModelConfig
from vos_ros.reference_mapper.voxels import VoxelGrid, empty_grid
from vos_ros.types import MapObject

_MOST = 4.0
"""Log-odds of existence stay within this, so that even an object that was seen for an hour can be found to be gone."""


@dataclass(frozen=True, eq=False, slots=True)
class ObjectModel:
    """An object, or (``id`` 0) what may become one. A value: every observation gives another one.

    ``observations``: frames fused into it. ``information``: inverse of the covariance (m, rad; fixed axes of the map frame) of its pose, as
    told at ``measured_ns``. ``votes``: frames that named each class. ``log_odds``: of its existence. ``absent_ns``: since when nothing but
    ABSENT was said of it, None where it wasn't.
    """

    id: int
    grid: VoxelGrid
    first_ns: int
    last_ns: int
    observations: int = 0
    votes: Mapping[int, int] = field(default_factory=dict)
    log_odds: float = 0.0
    information: Float64[np.ndarray, "6 6"] = field(default_factory=lambda: np.zeros((6, 6)))
    measured_ns: int | None = None
    absent_ns: int | None = None

    def points(self, config: ModelConfig) -> Float32[np.ndarray, "M 3"]:
        """Its cubes that were measured often enough for what leaks past its edge not to be among them.

        An object that was seen from one side for long and then from another one shows the other side after ``enough_hits`` frames.
        """
        return self.grid.points(self._min_hits(config))

    def _min_hits(self, config: ModelConfig) -> int:
        wanted = min(
            max(config.min_hits, round(config.hit_share * self.observations)), config.enough_hits
        )
        return min(wanted, int(self.grid.hits.max(initial=1)))

    def extent(self, config: ModelConfig) -> Extent:
        """The box of its published points. ValueError where it has none."""
        return extent_of(self.points(config))

    def own(self, points: Float32[np.ndarray, "P 3"], config: ModelConfig) -> Bool[np.ndarray, "P"]:
        """Which points (map frame, m) can be its own: those in reach of its box, all where it has none yet."""
        if len(self.grid) == 0:
            return np.ones(len(points), bool)
        box = self.extent(config)
        return inside(
            points, box, config.reach_m + config.reach_share * float((box[1] - box[0]).max())
        )

    @property
    def class_id(self) -> int:
        """The class that most frames named (the lowest of several), 0 = unknown."""
        return min(self.votes, key=lambda c: (-self.votes[c], c), default=0)

    @property
    def class_score(self) -> float:
        """Share of the frames that named it, of those that named any; 0 where the class is unknown."""
        total = sum(self.votes.values())
        return self.votes[self.class_id] / total if total else 0.0

    @property
    def existence(self) -> float:
        """Probability that it exists."""
        return 1.0 / (1.0 + math.exp(-self.log_odds))

    @property
    def pose_cov(self) -> Float64[np.ndarray, "6 6"] | None:
        """Covariance of its pose (x y z m, rotation about x y z rad; fixed axes of the map frame); None before it was measured."""
        return np.asarray(np.linalg.inv(self.information)) if self.information.any() else None

    def seen(self, stamp_ns: int, config: ModelConfig) -> ObjectModel:
        """After a frame that found it."""
        return replace(
            self,
            last_ns=stamp_ns,
            observations=self.observations + 1,
            absent_ns=None,
            log_odds=min(self.log_odds + config.seen_gain, _MOST),
        )

    def missed(self, stamp_ns: int, config: ModelConfig) -> ObjectModel:
        """After a frame that saw free space in its place."""
        return replace(
            self,
            absent_ns=stamp_ns if self.absent_ns is None else self.absent_ns,
            log_odds=max(self.log_odds - config.absent_loss, -_MOST),
        )

    def measured(
        self,
        points: Float32[np.ndarray, "P 3"],
        cov: Float64[np.ndarray, "6 6"],
        stamp_ns: int,
        config: ModelConfig,
    ) -> ObjectModel:
        """With the surface (map frame, m) that a frame measured of it, in a place that is known with ``cov``.

        Poses that follow each other closely share their errors: of ``independent_s`` only the first counts, else the object's place
        would become as certain as there are frames.
        """
        model = replace(self, grid=self.grid.with_points(points, config.max_points))
        if (
            self.measured_ns is not None
            and 0 <= stamp_ns - self.measured_ns < config.independent_s * 1e9
        ):
            return model
        return replace(
            model, information=self.information + np.linalg.inv(cov), measured_ns=stamp_ns
        )

    def missed_at(self, missed: Bool[np.ndarray, "V"]) -> ObjectModel:
        """After a frame that measured something else in the place of some of its cubes (``grid.means``): what leaked into it goes again."""
        return self.on(self.grid.with_misses(missed))

    def named(self, class_id: int) -> ObjectModel:
        """With one more vote for a class; 0 = none."""
        return (
            replace(self, votes=dict(Counter(self.votes) + Counter({class_id: 1})))
            if class_id
            else self
        )

    def on(self, grid: VoxelGrid) -> ObjectModel:
        """With another surface."""
        return replace(self, grid=grid)

    def moved_away(self) -> ObjectModel:
        """Without its surface and its place: it was found again somewhere else."""
        return replace(
            self,
            grid=empty_grid(self.grid.size_m, self.grid.origin_m),
            information=np.zeros((6, 6)),
            measured_ns=None,
        )

    def joined(self, other: ObjectModel, config: ModelConfig) -> ObjectModel:
        """Both as one, under this one's id. Both may have been measured from the same poses: the more certain place counts, not both."""
        surer = max(self, other, key=lambda m: float(np.trace(m.information[:3, :3])))
        return replace(
            self,
            grid=self.grid.with_grid(other.grid, config.max_points),
            first_ns=min(self.first_ns, other.first_ns),
            last_ns=max(self.last_ns, other.last_ns),
            observations=self.observations + other.observations,
            votes=dict(Counter(self.votes) + Counter(other.votes)),
            log_odds=max(self.log_odds, other.log_odds),
            information=surer.information,
            measured_ns=surer.measured_ns,
            absent_ns=None,
        )

    def map_object(self, revision: int, config: ModelConfig) -> MapObject:
        """As the map's other users see it: a box around its points, axes parallel to the map's."""
        points = self.grid.surface(self._min_hits(config))
        low, high = extent_of(points) if len(points) else np.stack([self.grid.origin_m] * 2)
        T = np.eye(4)
        T[:3, 3] = (low + high) / 2
        return MapObject(
            self.id,
            self.class_id,
            T,
            high - low,
            points,
            self.grid.point_radius_m,
            revision=revision,
        )


def new_model(
    points: Float32[np.ndarray, "P 3"], stamp_ns: int, config: ModelConfig
) -> ObjectModel:
    """A model without an id and without observations, its grid placed around the points (map frame, m)."""
    origin = (
        np.round(np.median(points, axis=0).astype(np.float64) / config.voxel_m) * config.voxel_m
    )
    return ObjectModel(0, empty_grid(config.voxel_m, origin), stamp_ns, stamp_ns)


def measurement_cov(
    points: Float32[np.ndarray, "P 3"],
    T_map_camera: Float64[np.ndarray, "4 4"],
    pose_cov: Float64[np.ndarray, "6 6"] | None,
    config: ModelConfig,
) -> Float64[np.ndarray, "6 6"]:
    """Covariance of the place in which a frame shows an object (m, rad; fixed axes of the map frame).

    An error of the camera's pose moves what it sees: position and rotation errors as they are, and the rotation turns the object about
    the camera, d = rotation x lever. The sensor adds ``measured_sigma_m`` per axis.
    """
    if pose_cov is None:
        pose_cov = pose_covariance(config.pose_sigma_m, config.pose_sigma_deg)
    lever_m = points.mean(0, dtype=np.float64) - T_map_camera[:3, 3]
    least = np.diag(
        [config.measured_sigma_m**2] * 3 + [1e-6] * 3
    )  # a rotation that is known exactly has no inverse
    return carry_covariance(pose_cov, lever_m) + least
