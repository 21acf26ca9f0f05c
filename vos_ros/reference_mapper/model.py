"""One object of the map: its surface, its pose and how certain it is, and whether it exists."""

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

_MAX_LOG_ODDS = 4.0
"""Largest magnitude of the log-odds of existence (a probability of 0.98), so that an object which
was detected for an hour is deleted as soon as one that was detected for ten frames."""
_MIN_ROTATION_VARIANCE = 1e-6
"""rad^2 (0.06 degrees): a pose whose rotation is known exactly has no information matrix."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ObjectModel:
    """An object of the map, or (``id`` 0) a track that may become one.

    A value: every observation gives another model.
    """

    id: int
    """Id in the map; 0 before it has one."""
    grid: VoxelGrid
    """Measured surface."""
    first_ns: int
    """Stamp of the first frame that showed it."""
    last_ns: int
    """Stamp of the last frame that showed it."""
    observations: int = 0
    """Number of frames that showed it."""
    votes: Mapping[int, int] = field(default_factory=dict)
    """Number of frames that gave it each class id."""
    log_odds: float = 0.0
    """Log-odds that it exists."""
    information: Float64[np.ndarray, "6 6"] = field(default_factory=lambda: np.zeros((6, 6)))
    """Inverse covariance of its pose (m, rad; axes of the map frame); 0 before a measurement."""
    measured_ns: int | None = None
    """Stamp of the last measurement that ``information`` counts."""
    absent_ns: int | None = None
    """Stamp since when it was reported ABSENT and not matched; None where it isn't."""

    def points(self, config: ModelConfig) -> Float32[np.ndarray, "M 3"]:
        """Return the points of its surface (map frame, m), without those measured too rarely.

        Masks leak past an object's edge, now here and now there. An object that was seen from one
        side for long and then from another one shows the other side after ``max_required_hits``
        frames.
        """
        return self.grid.points(self._min_hits(config))

    def _min_hits(self, config: ModelConfig) -> int:
        share = round(config.hit_share * self.observations)
        required = min(max(config.min_hits, share), config.max_required_hits)
        return min(required, int(self.grid.hits.max(initial=1)))

    def extent(self, config: ModelConfig) -> Extent:
        """Compute the box of its points. Raises ValueError: it has none."""
        return extent_of(self.points(config))

    def in_reach(
        self, points: Float32[np.ndarray, "P 3"], config: ModelConfig
    ) -> Bool[np.ndarray, "P"]:
        """Return which points (map frame, m) are near enough to its box to be its own.

        All are where it has no surface yet.
        """
        if len(self.grid) == 0:
            return np.ones(len(points), bool)
        box = self.extent(config)
        longest_m = float((box[1] - box[0]).max())
        return inside(points, box, config.reach_m + config.reach_share * longest_m)

    @property
    def class_id(self) -> int:
        """The class with the most votes, the lowest id of several; 0 = unknown."""
        return min(self.votes, key=lambda c: (-self.votes[c], c), default=0)

    @property
    def class_score(self) -> float:
        """Share of the votes that its class has; 0 where the class is unknown."""
        total = sum(self.votes.values())
        return self.votes[self.class_id] / total if total else 0.0

    @property
    def existence(self) -> float:
        """Probability that it exists."""
        return 1.0 / (1.0 + math.exp(-self.log_odds))

    @property
    def pose_cov(self) -> Float64[np.ndarray, "6 6"] | None:
        """Covariance of its pose (m, rad; axes of the map frame); None before a measurement."""
        return np.asarray(np.linalg.inv(self.information)) if self.information.any() else None

    def with_match(self, stamp_ns: int, config: ModelConfig) -> ObjectModel:
        """Count a frame that shows it."""
        return replace(
            self,
            last_ns=stamp_ns,
            observations=self.observations + 1,
            absent_ns=None,
            log_odds=min(self.log_odds + config.match_log_odds, _MAX_LOG_ODDS),
        )

    def with_absence(self, stamp_ns: int, config: ModelConfig) -> ObjectModel:
        """Count a frame that shows free space in its place."""
        return replace(
            self,
            absent_ns=stamp_ns if self.absent_ns is None else self.absent_ns,
            log_odds=max(self.log_odds - config.absent_log_odds, -_MAX_LOG_ODDS),
        )

    def with_measurement(
        self,
        points: Float32[np.ndarray, "P 3"],
        cov: Float64[np.ndarray, "6 6"],
        stamp_ns: int,
        config: ModelConfig,
    ) -> ObjectModel:
        """Add the surface that a frame measured.

        Poses of frames that follow each other share their errors. Of the measurements within
        ``independent_s`` only the first one adds information, else the pose would become as certain
        as there are frames.

        Args:
            points: measured points, map frame, m.
            cov: covariance of the place in which the frame shows the object (m, rad).
            stamp_ns: stamp of the frame.
            config: size of the grid, time between independent measurements.
        """
        model = replace(self, grid=self.grid.with_points(points, config.max_points))
        if self.measured_ns is not None:
            since_ns = stamp_ns - self.measured_ns
            if 0 <= since_ns < config.independent_s * 1e9:
                return model
        information = self.information + np.linalg.inv(cov)
        return replace(model, information=information, measured_ns=stamp_ns)

    def with_contradictions(self, missed: Bool[np.ndarray, "V"]) -> ObjectModel:
        """Count a frame that measured something else in the place of some cubes of the grid.

        Cubes that were filled by a mask that leaked leave the surface again in this way.
        """
        return self.with_grid(self.grid.with_misses(missed))

    def with_vote(self, class_id: int) -> ObjectModel:
        """Add a vote for a class; 0 = none."""
        if not class_id:
            return self
        return replace(self, votes=dict(Counter(self.votes) + Counter({class_id: 1})))

    def with_grid(self, grid: VoxelGrid) -> ObjectModel:
        """Replace the surface."""
        return replace(self, grid=grid)

    def without_place(self) -> ObjectModel:
        """Remove surface and pose of an object that was found again in another place."""
        return replace(
            self,
            grid=empty_grid(self.grid.size_m, self.grid.origin_m),
            information=np.zeros((6, 6)),
            measured_ns=None,
        )

    def merged_with(self, other: ObjectModel, config: ModelConfig) -> ObjectModel:
        """Add another model that is the same object; the id stays.

        Both may have been measured from the same poses. So their information is not summed: that
        of the more certain one counts.
        """
        certain = max(self, other, key=lambda m: float(np.trace(m.information[:3, :3])))
        return replace(
            self,
            grid=self.grid.with_grid(other.grid, config.max_points),
            first_ns=min(self.first_ns, other.first_ns),
            last_ns=max(self.last_ns, other.last_ns),
            observations=self.observations + other.observations,
            votes=dict(Counter(self.votes) + Counter(other.votes)),
            log_odds=max(self.log_odds, other.log_odds),
            information=certain.information,
            measured_ns=certain.measured_ns,
            absent_ns=None,
        )

    def map_object(self, revision: int, config: ModelConfig) -> MapObject:
        """Convert it to what the map publishes: a box around its points, parallel to the axes."""
        points = self.grid.surface(self._min_hits(config))
        low, high = extent_of(points) if len(points) else np.stack([self.grid.origin_m] * 2)
        T = np.eye(4)
        T[:3, 3] = (low + high) / 2
        radius_m = self.grid.point_radius_m
        return MapObject(self.id, self.class_id, T, high - low, points, radius_m, revision=revision)


def new_model(
    points: Float32[np.ndarray, "P 3"], stamp_ns: int, config: ModelConfig
) -> ObjectModel:
    """Make a model without id and observations, its grid placed around points (map frame, m)."""
    middle = np.median(points, axis=0).astype(np.float64)
    origin = np.round(middle / config.voxel_m) * config.voxel_m
    grid = empty_grid(config.voxel_m, origin)
    return ObjectModel(id=0, grid=grid, first_ns=stamp_ns, last_ns=stamp_ns)


def measurement_cov(
    points: Float32[np.ndarray, "P 3"],
    T_map_camera: Float64[np.ndarray, "4 4"],
    pose_cov: Float64[np.ndarray, "6 6"] | None,
    config: ModelConfig,
) -> Float64[np.ndarray, "6 6"]:
    """Compute the covariance of the place in which a frame shows an object.

    An error (d, w) of the camera's pose moves the object by d + w x lever, the lever from the
    camera to the object; the sensor adds an error of its own. A C A^T + diag(measured_sigma_m^2),
    in m and rad along the axes of the map frame.

    Args:
        points: measured points of the object, map frame, m.
        T_map_camera: pose of the camera.
        pose_cov: its covariance (m, rad; axes of the map frame); None where its source has none.
        config: standard deviations.
    """
    if pose_cov is None:
        pose_cov = pose_covariance(config.pose_sigma_m, config.pose_sigma_deg)
    lever_m = points.mean(0, dtype=np.float64) - T_map_camera[:3, 3]
    sensor = np.diag([config.measured_sigma_m**2] * 3 + [_MIN_ROTATION_VARIANCE] * 3)
    return carry_covariance(pose_cov, lever_m) + sensor
