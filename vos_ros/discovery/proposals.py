"""New objects: what stands in view, is seen at the same place again and again, and nobody follows yet.

A candidate is a piece of surface off the large planes (``clusters``). It is remembered by the voxels of the map that it fills, so that
looks from different poses add up; once it has been seen often and long enough it becomes a seed for a new track. The places of the
tracks that came of it are remembered in the same way: where one of them has lost its object, the object starts that track anew, not a
second one, and a track that has jumped somewhere else is named. What turns out to be more of a map object than the map has of it is
told as its part.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import cv2
import numpy as np
from jaxtyping import Bool, Float32, Float64, Int32, Int64, Integer

from vos_ros.config import ProposalsConfig
from vos_ros.discovery.clusters import (
    Cluster,
    Grid,
    clusters,
    full_mask,
    grid_of,
    pieces,
    planes_of,
)
from vos_ros.discovery.planes import Flat, Plane, dense, moved
from vos_ros.discovery.shape_completion import CompletedRegion
from vos_ros.geometry.points import known_depth
from vos_ros.geometry.voxels import voxel_indices, voxel_keys, with_neighbours
from vos_ros.types import Frame, Mask, Projection, Seed

_VOXEL_M = 0.025
_SAME = 0.5
"""Share of the voxels of either of two views that lies in or beside the other's: they are of one object."""
_HELD = 0.4
"""Share of a candidate's voxels in or beside a track's place, from which it is that track's object."""
_COVERED = 0.5
"""IoU of a track's cells and a whole piece, from which the piece shows the track's object."""
_LOOKS_AGAIN = 2
"""Looks in which something must be seen at the place of a track that has lost its object."""
_ASTRAY, _MIN_ASTRAY = 0.2, 10
"""A proposed track of which a smaller share of its measured cells, at least so many, lies at its place follows something else."""
_MAX_PLANES = 12
"""Planes remembered, those seen last."""
_AROUND_M = 0.1
"""A plane is looked for so far around where it was seen."""
_SAME_PLANE = (0.99, 0.05)
"""Planes whose normals' cosine is larger and whose offsets (m) at the camera differ by less are one."""
_MAX_SEEDS = 4
"""Most seeds of one look, the largest first: a segmenter needs its time for each. The others wait for the next look."""
_MAX_PLACE = 60000
"""Voxels from which a track's place grows no more."""
_KNOWN_SIGMAS = 2.0
"""Standard deviations of where a known object appears by which its projection is widened."""

Voxels = Int64[np.ndarray, "V"]
"""Sorted keys of voxels of the map, each once."""


@dataclass(frozen=True, eq=False, slots=True)
class ProposerInput:
    """One frame as a proposer sees it.

    ``T_map_camera`` is the pose used, None where there is none. ``owner`` says whose a pixel is: 0 background, else 1 + the index into
    ``track_ids``. ``object_of`` says of all live tracks, also of those that are not followed at present, which map object they are held to
    be, 0 = none.
    ``projections`` are the map objects in view and ``sigma_px`` their standard deviations in the image, by object id.
    """

    frame: Frame
    T_map_camera: Float64[np.ndarray, "4 4"] | None
    owner: Integer[np.ndarray, "H W"]
    track_ids: tuple[int, ...]
    object_of: Mapping[int, int]
    projections: Collection[Projection]
    sigma_px: dict[int, float]

    @property
    def nameless(self) -> set[int]:
        """The tracks that are held to be no object of the map."""
        return {t for t, i in self.object_of.items() if not i}


@dataclass(frozen=True, eq=False, slots=True)
class Proposals:
    """``seeds`` start tracks under new ids, or go on with nameless tracks that had lost their objects; ``drifted_tracks`` are nameless tracks that
    follow something which is not their object. ``parts`` are map objects', and were not known to be."""

    seeds: tuple[Seed, ...] = ()
    drifted_tracks: tuple[int, ...] = ()
    parts: tuple[CompletedRegion, ...] = ()


class SeedProposer(Protocol):
    """Says what is new: at most ``room`` seeds, new ones under ids from ``reserve``. Called with every frame of a stream, in order."""

    def __call__(
        self, sight: ProposerInput, reserve: Callable[[], int], room: int
    ) -> Proposals: ...


def no_proposals(sight: ProposerInput, reserve: Callable[[], int], room: int) -> Proposals:
    """The null twin: nothing is new."""
    return Proposals()


@dataclass(frozen=True, eq=False, slots=True)
class _Background:
    """A plane of the map and the box (m, map frame) in which it was seen."""

    plane: Plane
    low: Float64[np.ndarray, "3"]
    high: Float64[np.ndarray, "3"]


@dataclass(eq=False, slots=True)
class _Candidate:
    """A place where something stood in ``looks`` looks: the voxels of the first one, alone and with their neighbours; and in how many of
    them it was a part of which map object."""

    voxels: Voxels
    wide: Voxels
    first_ns: int
    last_ns: int
    looks: int = 1
    parts: Counter[int] = field(default_factory=Counter)

    @property
    def part_of(self) -> int:
        """The map object of which it was a part in most looks, 0 = none."""
        return max((i for i, n in self.parts.items() if 2 * n > self.looks), default=0)


class DepthProposer:
    """The geometric proposer; see the module."""

    def __init__(self, config: ProposalsConfig) -> None:
        self._config = config
        self._backgrounds: list[_Background] = []  # those seen last at the end
        self._candidates: list[_Candidate] = []
        self._places: dict[int, Voxels] = {}  # with their neighbours
        self._own: set[int] = set()  # tracks that were proposed here
        self._reach: Bool[np.ndarray, "h w"] | None = (
            None  # cells in which anything was ever measured
        )
        self._last_ns: int | None = None

    def __call__(self, sight: ProposerInput, reserve: Callable[[], int], room: int) -> Proposals:
        """See ``SeedProposer``. Without depth or pose there is nothing to say."""
        frame, pose, config = sight.frame, sight.T_map_camera, self._config
        if frame.depth is None or pose is None:
            return Proposals()
        if self._last_ns is not None and frame.stamp_ns - self._last_ns < config.period_s * 1e9:
            return Proposals()
        self._last_ns = frame.stamp_ns
        self._places = {t: place for t, place in self._places.items() if t in sight.object_of}
        self._own &= sight.object_of.keys()
        depth = known_depth(frame.depth)
        if not depth.any():
            return Proposals()
        grid = grid_of(depth, frame.intrinsics, config)
        in_map = np.tensordot(pose[:3, :3], grid.vertices, (1, 2)) + pose[:3, 3, None, None]
        guesses = [
            (moved(b.plane, np.linalg.inv(pose)), _within(in_map, b)) for b in self._backgrounds
        ]
        planes = planes_of(grid, config, guesses)
        self._remember(planes, in_map, pose)
        labels = pieces(grid, planes, config)
        owner = sight.owner[grid.step // 2 :: grid.step, grid.step // 2 :: grid.step]
        self._learn_places(sight.track_ids, owner, labels, grid, pose)
        measured = grid.vertices[..., 2] > 0
        self._reach = (
            measured | self._reach
            if self._reach is not None and self._reach.shape == measured.shape
            else measured
        )
        found = clusters(grid, labels, planes, _known(sight, owner, grid), self._reach, config)
        drifted_tracks = self._astray(sight, owner, grid, pose)
        seen = {sight.track_ids[row - 1] for row in np.unique(owner) if row} - set(drifted_tracks)
        seeds: list[Seed] = []
        parts: list[CompletedRegion] = []
        for cluster, candidate in self._matched(found, frame.stamp_ns, pose):
            if candidate.part_of or cluster.part_of:
                if candidate.part_of == cluster.part_of and self._is_sure(candidate):
                    mask, weight = full_mask(
                        cluster, grid, planes, depth, frame.intrinsics, sight.owner > 0, config
                    )
                    self._candidates.remove(candidate)
                    parts.append(CompletedRegion(cluster.part_of, mask, weight))
                continue
            track_id = self._track_at(candidate.voxels)
            if track_id and (track_id in seen or track_id not in sight.nameless):
                continue  # it is followed, and this is what it did not take; or the map tells where it is; or it has only now begun
            if not (
                candidate.looks >= _LOOKS_AGAIN if track_id else self._is_sure(candidate)
            ) or len(seeds) >= min(_MAX_SEEDS, room):
                continue
            mask, weight = full_mask(
                cluster, grid, planes, depth, frame.intrinsics, sight.owner > 0, config
            )
            if np.count_nonzero(mask) < config.min_px:
                continue
            self._candidates.remove(
                candidate
            )  # before it is proposed again, it must be seen as often again
            if not track_id:
                track_id = reserve()
                self._own.add(track_id)
                self._places[track_id] = candidate.wide
            seeds.append(Seed(track_id, Mask(mask), weight))
        return Proposals(
            tuple(seeds),
            tuple(t for t in drifted_tracks if t not in {s.object_id for s in seeds}),
            tuple(parts),
        )

    def _matched(
        self, found: list[Cluster], stamp_ns: int, pose: Float64[np.ndarray, "4 4"]
    ) -> list[tuple[Cluster, _Candidate]]:
        """Books a look's clusters under the candidates that they show, and returns those that were seen before."""
        self._candidates = [
            c for c in self._candidates if stamp_ns - c.last_ns <= self._config.forget_s * 1e9
        ]
        again = []
        for cluster in found:
            voxels = voxels_of(cluster.points, pose)
            wide = with_neighbours(voxels)
            candidate = next(
                (
                    c
                    for c in self._candidates
                    if c.last_ns < stamp_ns
                    and share(c.voxels, wide) >= _SAME
                    and (share(voxels, c.wide) >= _SAME or cluster.part_of in c.parts)
                ),
                None,
            )
            if candidate is None:
                candidate = _Candidate(voxels, wide, stamp_ns, stamp_ns, 0)
                self._candidates.append(candidate)
            candidate.last_ns, candidate.looks = stamp_ns, candidate.looks + 1
            if cluster.part_of:  # the more of it comes into view, the larger it is
                candidate.parts[cluster.part_of] += 1
                candidate.voxels, candidate.wide = voxels, wide
            if candidate.looks == 1:
                continue
            again.append((cluster, candidate))
        return again

    def _is_sure(self, c: _Candidate) -> bool:
        """It was seen often and long enough to be something."""
        return (
            c.looks >= self._config.confirm_detections
            and c.last_ns - c.first_ns >= self._config.confirm_s * 1e9
        )

    def _track_at(self, voxels: Voxels) -> int:
        """The track at whose place the voxels are, 0 = none."""
        shares = {t: share(voxels, place) for t, place in self._places.items()}
        best = max(shares, key=lambda t: shares[t], default=0)
        return best if best and shares[best] >= _HELD else 0

    def _remember(
        self,
        planes: list[Flat],
        in_map: Float64[np.ndarray, "3 h w"],
        pose: Float64[np.ndarray, "4 4"],
    ) -> None:
        """Adds a look's planes (camera frame) to those known in the map; one that is the same and nearby becomes a part of the new one."""
        for flat in planes:
            points = in_map[:, dense(flat.cells)]
            if not points.size:
                continue
            new, rest = moved(flat.plane, pose), []
            points = np.sort(points, axis=1)
            strays = points.shape[1] // 100
            low, high = points[:, strays] - _AROUND_M, points[:, -1 - strays] + _AROUND_M
            for b in self._backgrounds:
                if (
                    _same_plane(b.plane, new, pose[:3, 3])
                    and (np.maximum(b.low, low) < np.minimum(b.high, high)).all()
                ):
                    low, high = np.minimum(b.low, low), np.maximum(b.high, high)
                else:
                    rest.append(b)
            self._backgrounds = [*rest, _Background(new, low, high)][-_MAX_PLANES:]

    def _astray(
        self,
        sight: ProposerInput,
        owner: Integer[np.ndarray, "h w"],
        grid: Grid,
        pose: Float64[np.ndarray, "4 4"],
    ) -> list[int]:
        """The proposed tracks whose pixels lie somewhere else than their object. Where most do, it is the camera's pose that has jumped:
        then the places are forgotten."""
        out, measured = [], 0
        for row, track_id in enumerate(sight.track_ids, start=1):
            if track_id in self._own and track_id in self._places and track_id in sight.nameless:
                points = grid.vertices[(owner == row) & (grid.vertices[..., 2] > 0)]
                if len(points) >= _MIN_ASTRAY:
                    measured += 1
                    if share(voxels_of(points, pose), self._places[track_id]) < _ASTRAY:
                        out.append(track_id)
        if len(out) > max(1, measured // 2):
            self._places, out = {t: p for t, p in self._places.items() if t not in out}, []
        return out

    def _learn_places(
        self,
        track_ids: tuple[int, ...],
        owner: Integer[np.ndarray, "h w"],
        labels: Int32[np.ndarray, "h w"],
        grid: Grid,
        pose: Float64[np.ndarray, "4 4"],
    ) -> None:
        """Adds to each track's place what this frame shows of it, where its mask and one piece of the depth agree."""
        both = (labels > 0) & (owner > 0)
        pairs, counts = np.unique(np.stack([owner[both], labels[both]]), axis=1, return_counts=True)
        rows, whole = np.bincount(owner.ravel()), np.bincount(labels.ravel())
        for (row, label), count in zip(pairs.T, counts, strict=True):
            if count < _COVERED * (rows[row] + whole[label] - count):
                continue
            track_id = track_ids[row - 1]
            place = self._places.get(track_id, np.zeros(0, np.int64))
            seen = voxels_of(grid.vertices[(labels == label) & (owner == row)], pose)
            if len(place) < _MAX_PLACE and (not len(place) or share(seen, place) >= _ASTRAY):
                self._places[track_id] = np.union1d(place, with_neighbours(seen))


class MaskProposer:
    """The ground-truth twin: every object of an id image, once, when it shows enough of itself. ``truth`` gives a frame's ids, 0 and
    255 being none."""

    def __init__(
        self, truth: Callable[[Frame], Integer[np.ndarray, "H W"]], min_px: int = 300
    ) -> None:
        self._truth, self._min_px = truth, min_px
        self._proposed: set[int] = set()

    def __call__(self, sight: ProposerInput, reserve: Callable[[], int], room: int) -> Proposals:
        """See ``SeedProposer``."""
        ids = self._truth(sight.frame)
        values, counts = np.unique(ids, return_counts=True)
        new = [
            int(v)
            for v, n in zip(values, counts, strict=True)
            if n >= self._min_px and v not in (0, 255) and v not in self._proposed
        ]
        new = new[: max(0, room)]
        self._proposed.update(new)
        return Proposals(tuple(Seed(reserve(), Mask(ids == v)) for v in new))


def proposer_of(config: ProposalsConfig) -> SeedProposer:
    """The proposer that a configuration names."""
    return DepthProposer(config) if config.mode == "depth" else no_proposals


def voxels_of(
    points: Float32[np.ndarray, "P 3"], T_map_camera: Float64[np.ndarray, "4 4"]
) -> Voxels:
    """The map's voxels that camera-frame points (m) fall into."""
    mapped = points.astype(np.float64) @ T_map_camera[:3, :3].T + T_map_camera[:3, 3]
    return np.unique(voxel_keys(voxel_indices(mapped, _VOXEL_M)))


def share(voxels: Voxels, of: Voxels) -> float:
    """Which share of the voxels is among the others; 0 where there are none."""
    if not len(voxels) or not len(of):
        return 0.0
    return float(
        np.count_nonzero(of[np.minimum(np.searchsorted(of, voxels), len(of) - 1)] == voxels)
        / len(voxels)
    )


def _within(in_map: Float64[np.ndarray, "3 h w"], b: _Background) -> Bool[np.ndarray, "h w"]:
    """Which points lie in a plane's box."""
    x, y, z = ((p > low) & (p < high) for p, low, high in zip(in_map, b.low, b.high, strict=True))
    return np.asarray(x & y & z)


def _same_plane(a: Plane, b: Plane, camera: Float64[np.ndarray, "3"]) -> bool:
    """Whether two planes of the map are one, as seen from a camera: far away, a small angle makes a large distance."""
    cosine = float(a[:3] @ b[:3])
    return (
        abs(cosine) > _SAME_PLANE[0]
        and abs((a[:3] @ camera + a[3]) - np.sign(cosine) * (b[:3] @ camera + b[3]))
        < _SAME_PLANE[1]
    )


def _known(
    sight: ProposerInput, owner: Integer[np.ndarray, "h w"], grid: Grid
) -> Int32[np.ndarray, "h w"]:
    """Whose the cells of followed tracks and of the map's objects are, these widened by how uncertain the projection is: an object's id,
    -1 for a nameless track, 0 where nothing is known."""
    known: Int32[np.ndarray, "h w"] = np.array(
        [0, *(sight.object_of.get(t, 0) or -1 for t in sight.track_ids)], np.int32
    )[owner]
    step = grid.step
    for p in sight.projections:
        x0, y0, x1, y1 = p.roi
        (top, bottom), (left, right) = (
            [-(-(end - step // 2) // step) for end in ends] for ends in ((y0, y1), (x0, x1))
        )
        rows, columns = (
            slice(top, bottom),
            slice(left, right),
        )  # the cells whose pixels lie in the roi
        crop = p.mask_roi[top * step + step // 2 - y0 :: step, left * step + step // 2 - x0 :: step]
        radius = int(np.ceil(_KNOWN_SIGMAS * sight.sigma_px.get(p.object_id, 0.0) / step))
        if radius:
            whole = np.zeros(known.shape, np.uint8)
            whole[rows, columns] = crop
            known[
                (known == 0)
                & (np.asarray(cv2.dilate(whole, np.ones((2 * radius + 1,) * 2, np.uint8))) > 0)
            ] = p.object_id
        else:
            region = known[rows, columns]
            region[(region == 0) & crop] = p.object_id
    return known
