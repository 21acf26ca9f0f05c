"""Score trackers of points on sequences with masks (paper 002, sec. 4.3.1).

The key point of an object is the inner point of its mask on the first frame of a clip. Two things
are measured where the object is seen on a later frame. Coverage (tables 4.3, 4.4): the tracked
point lies in the object's mask. And how far outside the mask it is, for a curve over px.

No data set annotates points. But where a sequence of a static scene has depth and poses, the true
place of a point is known: the point's pixel, lifted by its depth, projected into each later frame;
it is hidden where the measured depth there is less. So PCK, the share of visible points within so
many px, is measured there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Bool, Float64, Shaped
from tqdm import tqdm

from vos_ros.datasets.interface import VideoSequence
from vos_ros.geometry.camera import project, unproject
from vos_ros.geometry.masks import inner_point
from vos_ros.geometry.se3 import inverse, transform
from vos_ros.segmentation.point_trackers.interface import PointTracker, Track

RADII_PX = (0.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
"""Distances of the curves."""
_SAME_SURFACE = 0.03
"""Difference of depth, as a share of it, up to which a point is the surface that is measured."""


@dataclass(frozen=True, slots=True)
class PointScore:
    """One tracked point on one frame after the first of its clip."""

    tracker: str
    """Name of the tracker."""
    sequence: str
    """Data set and name of the sequence."""
    first: str
    """Name of the frame on which the point was given."""
    frame: str
    """Name of this frame."""
    object_id: int
    """Object of the point."""
    x: float
    """Where it was found, px."""
    y: float
    """Where it was found, px."""
    visible: bool
    """Whether the tracker says that it sees the point."""
    confidence: float
    """Of the tracker, 0..1."""
    object_seen: bool
    """Whether the mask shows the object."""
    outside_px: float
    """Distance to the object's mask, 0 inside; NaN where the object isn't seen."""
    error_px: float
    """Distance to the true place; NaN where it isn't known or outside the image."""
    truly_visible: bool | None
    """Whether the point itself is seen; None where that isn't known."""


@dataclass(slots=True)
class Speed:
    """Time that a tracker took, without reading of images."""

    starts: int = 0
    """Clips."""
    start_s: float = 0.0
    """Of all starts."""
    steps: int = 0
    """Frames."""
    step_s: float = 0.0
    """Of all steps, all points of a clip together."""


@dataclass(frozen=True, eq=False, slots=True)
class Clip:
    """Some frames of a sequence, and the key points of its first."""

    sequence: VideoSequence
    """The sequence."""
    frames: range
    """Positions of the frames."""
    object_ids: tuple[int, ...]
    """Objects of the first frame, K."""
    points: Float64[np.ndarray, "K 2"]
    """(x, y), px: their key points."""


def clips_of(sequences: Sequence[VideoSequence], length: int, min_px: int) -> list[Clip]:
    """Cut sequences into clips of ``length`` frames, 0 = one clip each.

    An object takes part where the clip's first frame shows ``min_px`` of it or more. Raises
    ValueError: no object takes part anywhere.
    """
    clips = []
    for sequence in sequences:
        step = length or len(sequence)
        for first in range(0, len(sequence), step):
            frames = range(first, min(first + step, len(sequence)))
            ids = sequence.ids(first)
            shown = [
                int(i)
                for i, n in zip(*np.unique(ids, return_counts=True), strict=True)
                if i not in (0, sequence.ignore) and n >= min_px
            ]
            if shown and len(frames) > 1:
                points = np.array([inner_point(ids == i) for i in shown], np.float64)
                clips.append(Clip(sequence, frames, tuple(shown), points))
    if not clips:
        raise ValueError(
            f"no object of {min_px} px or more on the first frame of any sequence: wanted masks"
            " with ids above 0, and two frames or more"
        )
    return clips


def score_trackers(
    trackers: Mapping[str, PointTracker], clips: Sequence[Clip]
) -> tuple[list[PointScore], dict[str, Speed]]:
    """Run trackers over clips, and compare."""
    scores: list[PointScore] = []
    speed = {name: Speed() for name in trackers}
    total = sum(len(c.frames) for c in clips)
    with tqdm(total=total, desc="tracking", unit="frame", disable=None) as bar:
        for clip in clips:
            bar.set_postfix_str(clip.sequence.name)
            for part in _score(trackers, clip, speed):
                scores += part
                bar.update()
    return scores, speed


def _score(
    trackers: Mapping[str, PointTracker], clip: Clip, speed: Mapping[str, Speed]
) -> Iterator[list[PointScore]]:
    """Return the scores of one frame after the other."""
    sequence, tracks = clip.sequence, dict[str, Track]()
    rgb = sequence.image(clip.frames[0])
    for name, tracker in trackers.items():
        began = time.perf_counter()
        tracks[name] = tracker.start(rgb, clip.points)
        speed[name].start_s += time.perf_counter() - began
        speed[name].starts += 1
    world = _lift(clip)
    yield []
    for index in clip.frames[1:]:
        rgb, ids = sequence.read(index)
        truth = _truth(sequence, index, world)
        away = [_distance_to(ids == i) for i in clip.object_ids]
        out = []
        for name, track in tracks.items():
            began = time.perf_counter()
            now = track.step(rgb)
            speed[name].step_s += time.perf_counter() - began
            speed[name].steps += 1
            cells = np.rint(now.points).astype(int).clip(0, np.array(ids.shape[::-1]) - 1)
            for k, object_id in enumerate(clip.object_ids):
                distance = away[k]
                out.append(
                    PointScore(
                        tracker=name,
                        sequence=f"{sequence.dataset}/{sequence.name}",
                        first=sequence.frames[clip.frames[0]].name,
                        frame=sequence.frames[index].name,
                        object_id=object_id,
                        x=float(now.points[k, 0]),
                        y=float(now.points[k, 1]),
                        visible=bool(now.visible[k]),
                        confidence=float(now.confidence[k]),
                        object_seen=distance is not None,
                        outside_px=(
                            np.nan
                            if distance is None
                            else float(distance[cells[k, 1], cells[k, 0]])
                        ),
                        error_px=float(np.linalg.norm(now.points[k] - truth.pixels[k])),
                        truly_visible=bool(truth.visible[k]) if truth.known[k] else None,
                    )
                )
        yield out


def _distance_to(mask: Bool[np.ndarray, "H W"]) -> Shaped[np.ndarray, "H W"] | None:
    """Return the distance of each pixel to a mask, px; None for an empty one."""
    if not mask.any():
        return None
    return np.asarray(
        cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    )


def _lift(clip: Clip) -> Float64[np.ndarray, "K 3"]:
    """Return the key points in the map frame, m; NaN where depth or camera are unknown."""
    sequence, first = clip.sequence, clip.frames[0]
    pose, camera = sequence.frames[first].T_map_camera, sequence.intrinsics
    depth = sequence.depth(first)
    if pose is None or camera is None or depth is None:
        return np.full((len(clip.points), 3), np.nan)
    x, y = clip.points.astype(int).T
    z = np.where(depth[y, x] > 0, depth[y, x], np.nan)
    return np.asarray(transform(pose, unproject(clip.points, z, camera)))


@dataclass(frozen=True, eq=False, slots=True)
class _Truth:
    """Where K points of the map frame are in an image."""

    pixels: Float64[np.ndarray, "K 2"]  # NaN where unknown or outside
    known: Bool[np.ndarray, "K"]
    visible: Bool[np.ndarray, "K"]


def _truth(sequence: VideoSequence, index: int, world: Float64[np.ndarray, "K 3"]) -> _Truth:
    pose, camera = sequence.frames[index].T_map_camera, sequence.intrinsics
    depth = sequence.depth(index)
    if pose is None or camera is None or depth is None:
        never = np.zeros(len(world), bool)
        return _Truth(np.full((len(world), 2), np.nan), never, never)
    here = transform(inverse(pose), world)
    pixels = project(here, camera)
    size = np.array([camera.width, camera.height])
    inside = np.all((pixels >= 0) & (pixels <= size - 1), axis=1)
    pixels = np.where(inside[:, None], pixels, np.nan)
    x, y = np.nan_to_num(np.rint(pixels)).astype(int).T
    measured = depth[y, x]
    same = np.abs(measured - here[:, 2]) <= _SAME_SURFACE * here[:, 2]
    return _Truth(pixels, ~np.isnan(world).any(1), inside & (measured > 0) & same)


def tracking_figures(
    scores: Sequence[PointScore], speed: Mapping[str, Speed]
) -> dict[str, dict[str, float]]:
    """Return the figures of each tracker, NaN for what the data doesn't tell.

    coverage          mean over sequences of the share of points in their objects' masks
    coverage_frames   the same share, of all points and frames together
    pck_4, 8, 16      share of truly visible points within so many px of their true places
    visibility        share of points whose visibility is told rightly
    ms                per frame, all points together
    start_s           per clip
    """
    table = {}
    for name, s in speed.items():
        own = [p for p in scores if p.tracker == name]
        by_sequence = coverage(own)
        frames = [p.outside_px == 0 for p in own if p.object_seen]
        known = [p for p in own if p.truly_visible is not None]
        errors = np.array([p.error_px for p in known if p.truly_visible])
        table[name] = {
            "coverage": _mean(list(by_sequence.values())),
            "coverage_frames": _mean(frames),
            **{f"pck_{r}": _mean((errors <= r).tolist()) for r in (4, 8, 16)},
            "visibility": _mean([p.visible == p.truly_visible for p in known]),
            "ms": 1e3 * s.step_s / max(1, s.steps),
            "start_s": s.start_s / max(1, s.starts),
        }
    return table


def coverage(scores: Sequence[PointScore]) -> dict[str, float]:
    """Return the share of points that lie in their objects' masks, by sequence."""
    inside: dict[str, list[bool]] = {}
    for p in scores:
        if p.object_seen:
            inside.setdefault(p.sequence, []).append(p.outside_px == 0)
    return {name: _mean(values) for name, values in inside.items()}


def curves(
    scores: Sequence[PointScore], tracker: str
) -> tuple[Float64[np.ndarray, "R"], Float64[np.ndarray, "R"]]:
    """Return, for each of ``RADII_PX``, the share of points so near their object, and PCK."""
    own = [p for p in scores if p.tracker == tracker]
    outside = np.array([p.outside_px for p in own if p.object_seen])
    errors = np.array([p.error_px for p in own if p.truly_visible])
    near, pck = (
        np.array([_mean((values <= r).tolist()) for r in RADII_PX]) for values in (outside, errors)
    )
    return near, pck


def _mean(values: Sequence[float | bool]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")
