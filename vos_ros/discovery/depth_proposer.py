"""New objects from depth: surfaces that stand off large planes and are detected again and again.

A candidate is a surface off the large planes (``clusters``). It is remembered by the voxels of the
map that it fills (``candidates``), so that detections from different poses add up. Once it was
detected often and long enough it becomes the seed of a new track. The places of the tracks are
remembered in the same way (``places``): where a track has lost its object, the object starts that
track again, not a second one, and a track that has drifted to something else is reported. A surface
that turns out to be a part of a map object which the map lacks is reported as its part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Integer

from vos_ros.config import ProposalsConfig
from vos_ros.discovery.backgrounds import Backgrounds
from vos_ros.discovery.candidates import Candidate, Candidates
from vos_ros.discovery.clusters import Cluster, clusters, planes_of, surfaces_off_planes
from vos_ros.discovery.grid import Grid, grid_of
from vos_ros.discovery.masks import full_mask
from vos_ros.discovery.places import TrackPlaces
from vos_ros.discovery.planes import Flat
from vos_ros.discovery.proposals import Proposals, ProposerInput, SeedProposer, no_proposals
from vos_ros.discovery.shape_completion import CompletedRegion
from vos_ros.geometry.points import known_depth
from vos_ros.types import Mask, Seed

_MIN_DETECTIONS_AGAIN = 2
"""Detections at the place of a track without its object, from which the track starts again."""
_MAX_SEEDS = 4
"""Most seeds of one frame, the largest first: a segmenter needs its time for each. The others wait
for the next search."""
_KNOWN_SIGMAS = 2.0
"""Standard deviations of where a known object appears by which its projection is widened."""


def proposer_of(config: ProposalsConfig) -> SeedProposer:
    """Make the proposer that a configuration names."""
    return DepthProposer(config) if config.mode == "depth" else no_proposals


@dataclass(frozen=True, eq=False, slots=True)
class _Search:
    """What one search works on."""

    inputs: ProposerInput
    depth: Float32[np.ndarray, "H W"]
    T_map_camera: Float64[np.ndarray, "4 4"]
    grid: Grid
    planes: list[Flat]
    instance_index: Integer[np.ndarray, "h w"]


class DepthProposer:
    """The geometric proposer; see the module."""

    def __init__(self, config: ProposalsConfig) -> None:
        self._config = config
        self._backgrounds = Backgrounds()
        self._candidates = Candidates(config)
        self._places = TrackPlaces()
        self._proposed: set[int] = set()  # tracks that were proposed here
        self._measured: Bool[np.ndarray, "h w"] | None = None  # cells that were ever measured
        self._last_ns: int | None = None

    def __call__(
        self, inputs: ProposerInput, reserve_id: Callable[[], int], max_seeds: int
    ) -> Proposals:
        """See ``SeedProposer``. Without depth or pose nothing is proposed."""
        frame, pose, config = inputs.frame, inputs.T_map_camera, self._config
        if frame.depth is None or pose is None:
            return Proposals()
        if self._last_ns is not None and frame.stamp_ns - self._last_ns < config.period_s * 1e9:
            return Proposals()
        self._last_ns = frame.stamp_ns
        self._places.keep_only(inputs.object_of.keys())
        self._proposed &= inputs.object_of.keys()
        depth = known_depth(frame.depth)
        if not depth.any():
            return Proposals()
        grid = grid_of(depth, frame.intrinsics, config)
        in_map = np.tensordot(pose[:3, :3], grid.vertices, (1, 2)) + pose[:3, 3, None, None]
        planes = planes_of(grid, config, self._backgrounds.guesses(in_map, pose))
        self._backgrounds.add(planes, in_map, pose)
        surfaces = surfaces_off_planes(grid, planes, config)
        index = inputs.instance_index[grid.step // 2 :: grid.step, grid.step // 2 :: grid.step]
        self._places.learn(inputs.track_ids, index, surfaces, grid, pose)
        known = known_cells(inputs, index, grid)
        found = clusters(grid, surfaces, planes, known, self._ever_measured(grid), config)
        drifted = self._places.drifted(
            self._proposed & inputs.unmatched_tracks, inputs.track_ids, index, grid, pose
        )
        search = _Search(inputs, depth, pose, grid, planes, index)
        seeds, parts = self._confirmed(found, search, drifted, reserve_id, max_seeds)
        restarted = {s.object_id for s in seeds}
        return Proposals(
            seeds=tuple(seeds),
            drifted_tracks=tuple(t for t in drifted if t not in restarted),
            parts=tuple(parts),
        )

    def _ever_measured(self, grid: Grid) -> Bool[np.ndarray, "h w"]:
        """Add the cells that are measured now to those that ever were, of images of this size."""
        measured = grid.vertices[..., 2] > 0
        if self._measured is not None and self._measured.shape == measured.shape:
            measured = measured | self._measured
        self._measured = measured
        return measured

    def _confirmed(
        self,
        found: list[Cluster],
        search: _Search,
        drifted: list[int],
        reserve_id: Callable[[], int],
        max_seeds: int,
    ) -> tuple[list[Seed], list[CompletedRegion]]:
        """Make seeds and parts of the clusters whose candidates were detected often enough."""
        inputs, rows = search.inputs, np.unique(search.instance_index)
        followed = {inputs.track_ids[row - 1] for row in rows if row} - set(drifted)
        seeds: list[Seed] = []
        parts: list[CompletedRegion] = []
        stamp_ns = inputs.frame.stamp_ns
        for cluster, candidate in self._candidates.match(found, stamp_ns, search.T_map_camera):
            if candidate.part_of or cluster.part_of:
                if candidate.part_of == cluster.part_of and candidate.is_confirmed(self._config):
                    mask, weight = self._mask(cluster, search)
                    self._candidates.remove(candidate)
                    parts.append(CompletedRegion(cluster.part_of, mask, weight))
                continue
            track_id = self._places.track_at(candidate.voxels)
            if track_id and (track_id in followed or track_id not in inputs.unmatched_tracks):
                # The cluster is what the mask of a followed track lacks, or the map knows where
                # the track's object is.
                continue
            if not self._is_due(candidate, track_id) or len(seeds) >= min(_MAX_SEEDS, max_seeds):
                continue
            mask, weight = self._mask(cluster, search)
            if np.count_nonzero(mask) < self._config.min_px:
                continue
            self._candidates.remove(candidate)
            if not track_id:
                track_id = reserve_id()
                self._proposed.add(track_id)
                self._places.set(track_id, candidate.wide)
            seeds.append(Seed(track_id, Mask(mask), weight))
        return seeds, parts

    def _is_due(self, candidate: Candidate, track_id: int) -> bool:
        """Whether a candidate was detected often enough; less is needed at a track's place."""
        if track_id:
            return candidate.detections >= _MIN_DETECTIONS_AGAIN
        return candidate.is_confirmed(self._config)

    def _mask(
        self, cluster: Cluster, search: _Search
    ) -> tuple[Bool[np.ndarray, "H W"], Float32[np.ndarray, "H W"]]:
        """Draw a cluster in full resolution, without the pixels of tracks."""
        return full_mask(
            cluster,
            search.grid,
            search.planes,
            search.depth,
            search.inputs.frame.intrinsics,
            search.inputs.instance_index > 0,
            self._config,
        )


def known_cells(
    inputs: ProposerInput, instance_index: Integer[np.ndarray, "h w"], grid: Grid
) -> Int32[np.ndarray, "h w"]:
    """Find the known object of each cell: its id, -1 for an unmatched track, 0 for none.

    Known are the cells of followed tracks, and those of the map objects' projections, widened by
    how uncertain these are. ``instance_index`` is that of the inputs at the cells.
    """
    known: Int32[np.ndarray, "h w"] = np.array(
        [0, *(inputs.object_of.get(t, 0) or -1 for t in inputs.track_ids)], np.int32
    )[instance_index]
    step = grid.step
    for p in inputs.projections:
        x0, y0, x1, y1 = p.roi
        (top, bottom), (left, right) = (
            [-(-(end - step // 2) // step) for end in ends] for ends in ((y0, y1), (x0, x1))
        )
        rows, columns = slice(top, bottom), slice(left, right)  # the cells in the roi
        crop = p.mask_roi[top * step + step // 2 - y0 :: step, left * step + step // 2 - x0 :: step]
        radius = int(np.ceil(_KNOWN_SIGMAS * inputs.sigma_px.get(p.object_id, 0.0) / step))
        if radius:
            projection = np.zeros(known.shape, np.uint8)
            projection[rows, columns] = crop
            wide = np.asarray(cv2.dilate(projection, np.ones((2 * radius + 1,) * 2, np.uint8)))
            known[(known == 0) & (wide > 0)] = p.object_id
        else:
            region = known[rows, columns]
            region[(region == 0) & crop] = p.object_id
    return known
