"""Find out whether map, poses and depth can belong together, and say what is likely wrong.

Each input may be right by itself and still contradict the others on every frame: depth in another
unit, poses the other way round, a map of another room. Then every object seems absent, and a mapper
that believes it deletes its map. So map and depth are compared in each frame. Where they hardly
agree, the likely mistakes are tried, and the one under which they do agree is named.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import replace
from types import MappingProxyType

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from vos_ros.geometry.uncertainty import position_sigma
from vos_ros.mapping.map_fit import Fit, MapSample, fit
from vos_ros.mapping.object_map import ObjectMap
from vos_ros.pipeline.map_view import MapView
from vos_ros.types import Frame, SelfCheckResult, Verdict

FINDINGS = ("depth", "poses", "map", "view")
"""Kinds of findings: which input is likely at fault."""
_WINDOW_S = 3.0
"""Length of the past by which a finding is decided, s."""
_DECIDE_S, _DECIDE_FRAMES = 1.0, 5
"""Least time and number of frames that are looked at before anything is decided."""
_DOUBT_FRAMES = 2
"""Frames in a row that show a contradiction, from which a check that has passed is open again: the
mapper shall not delete objects before the contradiction is decided."""
_STANDS_SHARE = 0.6
"""Share of the frames in the window that must show a contradiction."""
_MIN_POINTS = 40
"""Fewer measured points of the map in view say nothing."""
_MIN_OBJECTS = 3
"""Fewer objects in view that don't fit may just be gone."""
_GOOD_SHARE, _BAD_SHARE = 0.35, 0.2
"""Shares of points that agree, from which a frame confirms, up to which it contradicts."""
_BETTER_SHARE, _GAIN = 0.4, 0.25
"""Share under an assumed mistake from which it explains a frame, and its least gain."""
_MAX_SPREAD = 0.12
"""Largest spread of log(measured / predicted) at which depth is off by one factor."""
_MIN_IMAGE_CORRELATION = 0.5
"""Correlation of the steps between neighbouring pixels in "depth" and in the grey image, from which
it is an image too."""
_MIN_Z_RANGE, _MIN_LOG_FACTOR = 1.5, 0.4
"""Least range of the objects' depths, and least log of the factor, from which depth is off by a
factor that is no unit."""
_MAX_ROUGHNESS = 0.03
"""Largest relative difference of neighbouring pixels (median) that a depth image has."""
_MIN_JUMPS = 0.3
"""Share of frames with a jump of the pose, from which the stream of poses is at fault."""
_SAME_PLACE = 1e-3
"""Largest difference of two poses (m, rad) that are one."""
_MILLIMETRES = (
    "the map's coordinates look like millimetres: wanted metres. Let the mapper publish metres"
    " (map_objects)"
)
_MILLIMETRES_M = 100.0
"""Median distance of the objects from the origin, m, from which a map may be in mm."""

R_BODY_OPTICAL = np.array([[0.0, 0, 1, 0], [-1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1]])
"""Rotation of an optical frame (z forward, x right) in a body frame (x forward, z up), REP-103."""


_UNITS = {
    10.0: "in 0.1 mm, read as mm",
    100.0: "in 0.01 mm, read as mm",
    1000.0: "in mm, published as 32FC1, which is m",
    0.1: "in cm, read as mm",
    0.01: "in dm, read as mm",
    0.001: "in m, published as 16UC1, which is mm",
    0.0001: "in 0.1 mm, published as m",
}
"""What each factor of measured by real depth looks like."""


class SelfCheck:
    """Compare map, poses and depth over the frames of a session."""

    def __init__(self) -> None:
        self._recent: deque[tuple[int, str, str]] = deque()  # stamp, kind, sentence of each frame
        self._sample: tuple[tuple[str, int], MapSample] | None = None
        self._last_ns = 0
        self._passed = self._was_in_view = False

    def check(
        self,
        frame: Frame,
        view: MapView,
        objects: ObjectMap,
        *,
        jumped: bool = False,
    ) -> MapView:
        """Look at one frame and return the view with what is known after it.

        Args:
            frame: checked; with its own depth and pose.
            view: what the map predicts.
            objects: the map.
            jumped: whether the pose jumped before this frame.
        """
        if frame.stamp_ns <= self._last_ns:
            self._recent.clear()
        self._last_ns = frame.stamp_ns
        if kind_text := self._frame(frame, view, objects, jumped):
            self._recent.append((frame.stamp_ns, *kind_text))
        while self._recent and self._recent[0][0] < frame.stamp_ns - _WINDOW_S * 1e9:
            self._recent.popleft()
        return replace(view, self_check=self._result())

    def _result(self) -> SelfCheckResult:
        """Decide by the frames in the window."""
        frames = len(self._recent)
        span_s = (self._recent[-1][0] - self._recent[0][0]) / 1e9 if frames else 0.0
        decided = frames >= _DECIDE_FRAMES and span_s >= _DECIDE_S
        by_kind: dict[str, list[str]] = {}
        for _, kind, text in self._recent:
            by_kind.setdefault(kind, []).append(text)
        good = len(by_kind.pop("", []))
        findings = {
            kind: texts[-1]
            for kind, texts in by_kind.items()
            if decided and len(texts) >= (_MIN_JUMPS if kind == "poses" else _STANDS_SHARE) * frames
        }
        if findings:
            return SelfCheckResult(Verdict.CONTRADICTED, MappingProxyType(findings), False)
        self._passed |= good >= _DECIDE_FRAMES and good >= _STANDS_SHARE * frames
        if self._passed:
            latest = [kind for _, kind, _ in self._recent][-_DOUBT_FRAMES:]
            in_doubt = len(latest) == _DOUBT_FRAMES and all(latest)
            return SelfCheckResult(
                Verdict.UNDECIDED if in_doubt else Verdict.PASSED, believes_absence=not in_doubt
            )
        contradicts = sum(len(t) for t in by_kind.values()) > good
        return SelfCheckResult(believes_absence=not contradicts)

    def _frame(
        self,
        frame: Frame,
        view: MapView,
        objects: ObjectMap,
        jumped: bool,
    ) -> tuple[str, str] | None:
        """Return the kind of contradiction in a frame with a sentence, "" twice where it is good.

        None: the frame says nothing.
        """
        if jumped:
            return "poses", (
                "the camera poses jump about, farther than a camera moves: check the SLAM, and that"
                " only one node publishes them (node.pose_source)"
            )
        depth = frame.depth
        if depth is not None and not depth.any():
            return "depth", (
                "the depth image holds no measurement, every pixel is 0: check the depth camera"
                " (emitter, range), or go on without it (node.use_depth: false)"
            )
        if depth is not None and not _is_registered(frame):
            return "depth", (
                f"depth is in frame {frame.depth_frame_id!r}, the image in {frame.frame_id!r}: it"
                " is not registered to colour. Publish depth registered to colour"
                " (depth_image_proc's register node, or the driver's align option); where it is"
                " registered and only the name is wrong, set node.check_depth_frame: false"
            )
        if frame.T_map_camera is None or not len(objects):
            return None
        sample = self._sample_of(objects)
        pose = frame.T_map_camera
        self._was_in_view |= bool(view.projections)
        slack_m = 0.0 if view.pose_cov is None else 2 * position_sigma(view.pose_cov)
        points = sample.of(view.projections.keys()) or sample.near(pose)
        present = fit(points, _used(view, pose), depth, frame.intrinsics, slack_m=slack_m)
        if present.count >= _MIN_POINTS and present.share >= _GOOD_SHARE:
            return "", ""
        if present.count >= _MIN_POINTS and present.share > _BAD_SHARE:
            return None
        if depth is None:
            return self._nothing_in_view(sample, pose)
        for kind, explained, text in self._mistakes(frame, depth, sample, points, present):
            if (
                explained.count >= _MIN_POINTS
                and explained.share >= _BETTER_SHARE
                and explained.share >= present.share + _GAIN
            ):
                return kind, text
        if present.count < _MIN_POINTS:
            return self._nothing_in_view(sample, pose)
        if roughness(depth) > _MAX_ROUGHNESS or looks_like_image(depth, frame.rgb):
            return "depth", (
                "the depth image does not look like depth but like an image of brightness: is it"
                " infrared or colour? Remap depth to the depth topic, or set node.use_depth: false"
            )
        if self._passed or present.objects < _MIN_OBJECTS:
            return None  # drift, something in front of the camera, or a few objects that are gone
        return "map", (
            "the map does not fit what is measured: hardly any of its points in view agree with"
            " depth. Is it a map of another place, or are poses and map in different frames"
            " (node.map_frame)?"
        )

    def _nothing_in_view(
        self, sample: MapSample, pose: Float64[np.ndarray, "4 4"]
    ) -> tuple[str, str] | None:
        """Return a finding where nothing of the map has been in view since the session began."""
        if self._was_in_view:
            return None
        if sample.extent_m > _MILLIMETRES_M and sample.near(pose, 1e-3):
            return "map", _MILLIMETRES
        return "view", (
            "poses come, but nothing of the map has been in view yet: is it a map of this place,"
            " are poses and map in one frame (node.map_frame), and are the poses those of the"
            " camera's optical frame in the map (node.pose_source)?"
        )

    def _mistakes(
        self,
        frame: Frame,
        depth: Float32[np.ndarray, "H W"],
        sample: MapSample,
        points: list[Float64[np.ndarray, "P 3"]],
        present: Fit,
    ) -> Iterator[tuple[str, Fit, str]]:
        """Give the likely mistakes, each with its kind, the fit without it, and its sentence."""
        pose, camera = frame.T_map_camera, frame.intrinsics
        assert pose is not None
        if present.count >= _MIN_POINTS and present.spread <= _MAX_SPREAD:
            factor = _round_factor(present.ratio)
            unit = f": it looks like depth {_UNITS[factor]}" if factor in _UNITS else ""
            # Where objects are gone, the wall behind them may be at one factor too.
            certain = present.objects >= _MIN_OBJECTS and present.z_range >= _MIN_Z_RANGE
        else:
            factor, unit, certain = 1.0, "", False
        if unit or (certain and abs(np.log(factor)) > _MIN_LOG_FACTOR):
            yield (
                "depth",
                fit(points, pose, depth, camera, depth_factor=factor),
                f"measured depth is {factor:.3g} times what map and poses say, on all objects"
                f" alike{unit}. Publish 16UC1 in mm or 32FC1 in m (REP-118)",
            )
        inverse = np.linalg.inv(pose)
        yield (
            "poses",
            fit(sample.near(inverse), inverse, depth, camera),
            "the poses look inverted: wanted the pose of the camera in the map (T_map_camera), and"
            " it looks like that of the map in the camera. Invert them (node.pose_source)",
        )
        bodies = {
            **{name: pose @ T for name, T in frame.T_bodies_camera.items()},
            "": pose @ R_BODY_OPTICAL,
        }
        for name, candidate in bodies.items():
            what = f"frame {name!r}" if name else "a body (x forward, z up)"
            yield (
                "poses",
                fit(sample.near(candidate), candidate, depth, camera, slack_m=0.05),
                f"the poses look like those of {what}, not of the camera's optical frame (z"
                " forward): name that frame in their messages and publish its static transform to"
                f" {frame.frame_id!r} (node.pose_source: odometry or tf)",
            )
        if sample.extent_m > _MILLIMETRES_M:
            yield (
                "map",
                fit(sample.near(pose, 1e-3), pose, depth, camera),
                _MILLIMETRES,
            )

    def _sample_of(self, objects: ObjectMap) -> MapSample:
        """Return points of the map, taken once per revision."""
        key = (objects.session_id, objects.revision)
        if self._sample is None or self._sample[0] != key:
            if self._sample is not None and self._sample[0][0] != key[0]:
                self._passed = self._was_in_view = False
                self._recent.clear()
            self._sample = (key, MapSample(objects))
        return self._sample[1]


def _used(view: MapView, pose: Float64[np.ndarray, "4 4"]) -> Float64[np.ndarray, "4 4"]:
    """Return the pose that the view was rendered from: corrected, where depth allowed it."""
    return pose if view.T_map_camera is None else view.T_map_camera


def _is_registered(frame: Frame) -> bool:
    """Tell whether depth is in the camera's frame, by its name or by a known place."""
    name = frame.depth_frame_id.lstrip("/")
    if name in ("", frame.frame_id.lstrip("/")):
        return True
    place = frame.T_bodies_camera.get(name)
    return place is not None and bool(np.abs(place - np.eye(4)).max() < _SAME_PLACE)


def _round_factor(ratio: float) -> float:
    """Return the power of ten next to a factor that is within 15 % of it, else the factor."""
    power = float(10.0 ** round(np.log10(ratio)))
    return power if abs(ratio / power - 1) <= 0.15 and power != 1.0 else ratio


def roughness(depth: Float32[np.ndarray, "H W"]) -> float:
    """Compute the median relative difference of neighbouring measured pixels.

    Surfaces are smooth: a depth image has well below a hundredth, apart from its noise.
    """
    rows = depth[::4]
    left, right = rows[:, :-1], rows[:, 1:]
    known = (left > 0) & (right > 0)
    if np.count_nonzero(known) < _MIN_POINTS:
        return 0.0
    a, b = left[known], right[known]
    return float(np.median(np.abs(a - b) / np.maximum(a, b)))


def looks_like_image(depth: Float32[np.ndarray, "H W"], rgb: UInt8[np.ndarray, "H W 3"]) -> bool:
    """Tell whether a depth image has the edges and texture of the colour image."""
    grey = rgb[::4].mean(axis=2, dtype=np.float32) + 8.0
    rows = depth[::4]
    left, right = rows[:, :-2], rows[:, 2:]
    known = (left > 0) & (right > 0)
    if np.count_nonzero(known) < _MIN_POINTS:
        return False
    a = np.log(right[known] / left[known])
    b = np.log(grey[:, 2:][known] / grey[:, :-2][known])
    scale = float(a.std() * b.std())
    return scale > 0 and abs(float(np.mean((a - a.mean()) * (b - b.mean())))) >= (
        _MIN_IMAGE_CORRELATION * scale
    )
