"""Where an RGB-D camera is: frame by frame, with a covariance, and an honest word when it isn't known.

A frame is aligned with the oldest keyframe near it, by colour and depth (``dense``), from where the corners followed since the frame
before say it is (``features``). It is believed where enough of the image fits, the motion is possible, and both agree; else the frame
before is tried, then the corners alone; else the camera is lost. Who is lost is found by a keyframe that looks alike, whose matched
corners give a place and whose images align there; after a while a new run of keyframes starts from the last pose. Errors add up from
keyframe to keyframe, each with the covariance of its alignment; to come back to an old keyframe takes its pose and its certainty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from vos_ros.geometry import se3
from vos_ros.rgbd_odometry.config import SlamConfig
from vos_ros.rgbd_odometry.dense import DenseOdometry, VolumetricModel
from vos_ros.rgbd_odometry.features import FeatureMotion, describe, motion, place
from vos_ros.rgbd_odometry.keyframes import Keyframe, Keyframes, keyframe
from vos_ros.rgbd_odometry.uncertainty import carried, plane_information, point_covariance
from vos_ros.rgbd_odometry.views import View, view_of
from vos_ros.types import Intrinsics

NS_PER_S = 1e9
_CORNERS_ALONE = 3.0  # times the error of an alignment of whole images
_MODEL_MAX_SIGMAS = 3.0


class TrackingState(IntEnum):
    """What is known of a frame's pose."""

    TRACKED = 0
    CORNERS = 1  # by corners alone: the images didn't align
    LOST = 2


@dataclass(frozen=True, eq=False, slots=True)
class Tracked:
    """The pose of a frame; while LOST the last one, with a covariance that grows. ``cov`` is of a pose error in the map's axes (m, rad) as
    in ``Frame.pose_cov``. ``why`` says what is wrong, or what has happened (found again, started anew); else it is empty."""

    stamp_ns: int
    T_map_camera: Float64[np.ndarray, "4 4"]
    cov: Float64[np.ndarray, "6 6"]
    state: TrackingState
    why: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class _Found:
    T_map_camera: Float64[np.ndarray, "4 4"]
    cov: Float64[np.ndarray, "6 6"]
    state: TrackingState = TrackingState.TRACKED
    why: str = ""
    run: int | None = None


@dataclass(frozen=True, eq=False, slots=True)
class _Last:
    """The last frame that was followed."""

    view: View
    images: Any
    found: _Found
    step: Float64[np.ndarray, "4 4"]
    step_s: float


def _same(a: Intrinsics, b: Intrinsics) -> bool:
    return (a.width, a.height) == (b.width, b.height) and np.allclose(a.matrix(), b.matrix())


class RgbdSlam:
    """Tracks one camera. ``track`` takes rectified frames in the order of their stamps. ImportError: Open3D is not there.

    ``T_map_camera`` is the pose of the first frame.
    """

    def __init__(
        self,
        config: SlamConfig | None = None,
        T_map_camera: Float64[np.ndarray, "4 4"] | None = None,
    ) -> None:
        self.config = config if config is not None else SlamConfig()
        start = self.config.covariance
        sigma = np.repeat([start.start_m, np.radians(start.start_deg)], 3)
        self._start = _Found(
            np.eye(4) if T_map_camera is None else np.asarray(T_map_camera, np.float64),
            np.diag(sigma**2),
        )
        self._dense = DenseOdometry(self.config.image)
        self.keyframes = Keyframes(self.config.follow)
        self.model: VolumetricModel | None = None
        self.run = 0
        self._last: _Last | None = None
        self._since_ns: int | None = None  # lost since
        self._retry_ns = 0
        self._camera: Intrinsics | None = None

    def interrupt(self) -> None:
        """What comes next has no relation in time to what came before (a recording that loops): the place must be found anew."""
        if self._last is not None:
            found, self._since_ns, self._last = self._last.found, None, None
            self._start = _Found(
                found.T_map_camera, found.cov + self._astray(self.config.lost.restart_s)
            )

    def track(
        self,
        stamp_ns: int,
        rgb: UInt8[np.ndarray, "H W 3"],
        depth: Float32[np.ndarray, "H W"] | None,
        intrinsics: Intrinsics,
    ) -> Tracked:
        """The pose of a frame; depth in m, 0 unknown. ValueError: sizes that don't fit together, a stamp not later than the last."""
        if self._last is not None and stamp_ns <= self._last.view.stamp_ns:
            raise ValueError(
                f"stamp {stamp_ns} ns is not later than the last one, {self._last.view.stamp_ns} ns; call interrupt() where"
                " time has gone back"
            )
        empty = np.zeros(rgb.shape[:2], np.float32)
        view = view_of(
            stamp_ns, rgb, empty if depth is None else depth, intrinsics, self.config.image
        )
        if self._camera is not None and not _same(view.intrinsics, self._camera):
            self.interrupt()  # what was seen by another camera is no help: it starts anew from the last pose
            self.keyframes, self.model = Keyframes(self.config.follow), None
        self._camera = view.intrinsics
        if view.depth_share < self.config.image.min_depth_share:
            what = (
                "has no depth"
                if depth is None
                else f"has depth on {view.depth_share:.0%} of its pixels"
            )
            return self._lost(view, f"the image {what}")
        images = self._dense.images(view)
        if not len(self.keyframes):
            return self._keep(view, images, self._start)
        following = self._last is not None and self._since_ns is None
        found = self._follow(view, images) if following else "no keyframe shows what is seen"
        if isinstance(found, _Found):
            if self.run and stamp_ns >= self._retry_ns:
                self._retry_ns = stamp_ns + round(self.config.lost.retry_s * NS_PER_S)
                found = self._place(view, images, lambda k: k.run < self.run) or found
            return self._keep(view, images, found)
        again = self._place(view, images, lambda k: True)
        if again is not None:
            return self._keep(view, images, again)
        lost = self._lost(view, found)
        if (
            self._since_ns is not None
            and stamp_ns - self._since_ns >= self.config.lost.restart_s * NS_PER_S
        ):
            run = 1 + max(k.run for k in self.keyframes)
            why = "lost for too long: started anew from the last pose"
            return self._keep(view, images, _Found(lost.T_map_camera, lost.cov, run=run, why=why))
        return lost

    # --- one frame after another -------------------------------------------------------------------------------------------------

    def _follow(self, view: View, images: Any) -> _Found | str:
        """The pose from the frame before, or why there is none."""
        last = self._last
        assert last is not None
        before, seconds = last.found, (view.stamp_ns - last.view.stamp_ns) / NS_PER_S
        corners = motion(last.view, view)
        if corners is not None and (
            not self._agreed(corners) or self._impossible(corners.T_a_b, seconds)
        ):
            corners = None
        steady = last.step if seconds < 1.5 * last.step_s else np.eye(4)
        step = corners.T_a_b if corners is not None else steady
        guess = se3.compose(before.T_map_camera, step)
        reference = self.keyframes.reference(guess, self.run)
        found = self._align(view, images, reference, guess, corners, seconds)
        if isinstance(found, _Found):
            return found
        as_reference = Keyframe(
            last.view,
            last.images,
            before.T_map_camera,
            before.cov,
            self.run,
            reference.landmarks,
            reference.thumbnail,
        )
        other = self._align(view, images, as_reference, guess, corners, seconds)
        if isinstance(other, _Found):
            return other
        if corners is None:
            return f"{other}, and too few corners can be followed"
        cov_step = point_covariance(
            view, corners.T_a_b[:3, :3], _CORNERS_ALONE * self.config.covariance.relative
        )
        cov = carried(before.cov, cov_step, before.T_map_camera[:3, :3], corners.T_a_b[:3, 3])
        return _Found(guess, cov, TrackingState.CORNERS, other)

    def _align(
        self,
        view: View,
        images: Any,
        reference: Keyframe,
        guess: Float64[np.ndarray, "4 4"],
        corners: FeatureMotion | None,
        seconds: float,
    ) -> _Found | str:
        """The pose by a reference, or why it isn't believed."""
        follow, last = self.config.follow, self._last
        assert last is not None
        found = self._dense.align(
            images, reference.images, view, se3.compose(se3.inverse(reference.T_map_camera), guess)
        )
        enough = (
            follow.min_inliers
            if corners is not None
            else max(follow.min_inliers, follow.min_inliers_alone)
        )
        if found is None or found.inliers < enough:
            return f"only {0 if found is None else found.inliers:.0%} of the image fits"
        T = se3.compose(reference.T_map_camera, found.T_a_b)
        cov = self._chained(view, reference, found.T_a_b)
        before = last.found
        # To come back to an old keyframe undoes what has drifted since: that may look like a jump.
        drift = 3 * np.sqrt(np.maximum(np.diag(before.cov) - np.diag(reference.cov), 0))
        drift_m, drift_deg = (
            float(np.linalg.norm(drift[:3])),
            float(np.degrees(np.linalg.norm(drift[3:]))),
        )
        step = se3.compose(se3.inverse(before.T_map_camera), T)
        if impossible := self._impossible(step, seconds, drift_m, drift_deg):
            return impossible
        if corners is not None:
            apart = se3.difference(T, guess)
            m, deg = float(np.linalg.norm(apart[:3])), float(np.degrees(np.linalg.norm(apart[3:])))
            if m > follow.agree_m + drift_m or deg > follow.agree_deg + drift_deg:
                return f"image and corners differ by {m * 100:.1f} cm and {deg:.1f} degrees"
        return _Found(T, cov)

    def _agreed(self, corners: FeatureMotion) -> bool:
        """Whether enough corners agree on a motion."""
        follow = self.config.follow
        return corners.inliers >= max(follow.min_features, follow.min_feature_share * corners.tried)

    def _chained(
        self, view: View, reference: Keyframe, T_ref_camera: Float64[np.ndarray, "4 4"]
    ) -> Float64[np.ndarray, "6 6"]:
        """The covariance of a pose by a reference: that of the reference, and of the alignment with it."""
        aligned = point_covariance(view, T_ref_camera[:3, :3], self.config.covariance.relative)
        return carried(reference.cov, aligned, reference.T_map_camera[:3, :3], T_ref_camera[:3, 3])

    def _impossible(
        self,
        step: Float64[np.ndarray, "4 4"],
        seconds: float,
        more_m: float = 0.0,
        more_deg: float = 0.0,
    ) -> str:
        """Why a motion can't be, or ""."""
        follow = self.config.follow
        m, deg = (
            float(np.linalg.norm(step[:3, 3])),
            float(np.degrees(np.linalg.norm(se3.so3_log(step[:3, :3])))),
        )
        if (
            m <= follow.max_speed_m_s * seconds + more_m
            and deg <= follow.max_turn_deg_s * seconds + more_deg
        ):
            return ""
        return f"a motion of {m:.2f} m and {deg:.0f} degrees in {seconds:.2f} s can't be"

    def _keep(self, view: View, images: Any, found: _Found) -> Tracked:
        """Takes a pose as the frame's, and the frame as a keyframe where there is none near."""
        was_lost = self._since_ns is not None
        if found.run is not None and found.run != self.run:
            if found.run < self.run:
                self.keyframes.drop(self.run)
            self.run = found.run
            self.model = None
        first = not any(k.run == self.run for k in self.keyframes)
        if first or (
            found.state is TrackingState.TRACKED
            and not self.keyframes.near(found.T_map_camera, self.run)
        ):
            if not first:
                found = self._refined(view, images, found)
            self.keyframes.add(keyframe(view, images, found.T_map_camera, found.cov, self.run))
            self._integrate(images, found.T_map_camera)
        last = self._last
        smooth = last is not None and not was_lost and found.run is None
        step = (
            se3.compose(se3.inverse(last.found.T_map_camera), found.T_map_camera)
            if smooth and last is not None
            else np.eye(4)
        )
        seconds = (view.stamp_ns - last.view.stamp_ns) / NS_PER_S if last is not None else 0.0
        self._last, self._since_ns = _Last(view, images, found, step, seconds), None
        return Tracked(view.stamp_ns, found.T_map_camera, found.cov, found.state, found.why)

    # --- the model -----------------------------------------------------------------------------------------------------------------

    def _integrate(self, images: Any, T_map_camera: Float64[np.ndarray, "4 4"]) -> None:
        if self.config.model.enabled:
            if self.model is None:
                assert self._camera is not None
                self.model = VolumetricModel(self.config.model, self.config.image, self._camera)
            self.model.integrate(images, T_map_camera)

    def _refined(self, view: View, images: Any, found: _Found) -> _Found:
        """A new keyframe's pose corrected by the model of those before, as far as what is seen constrains it. The two errors are not
        independent (the model is made of the same keyframes), so the covariance stays."""
        aligned = (
            self.model.align(images, view, found.T_map_camera) if self.model is not None else None
        )
        if aligned is None or aligned.inliers < self.config.follow.min_inliers:
            return found
        measured = se3.difference(
            se3.compose(found.T_map_camera, aligned.T_a_b), found.T_map_camera
        )
        R = found.T_map_camera[:3, :3]
        turn = np.kron(np.eye(2), R)
        prior = np.linalg.inv(
            turn @ point_covariance(view, np.eye(3), self.config.covariance.relative) @ turn.T
        )
        information = plane_information(view, R, self.config.model.relative)
        correction = np.linalg.solve(prior + information, information @ measured)
        if float(correction @ prior @ correction) > 6 * _MODEL_MAX_SIGMAS**2:
            return found
        return _Found(
            se3.perturb(found.T_map_camera, correction),
            found.cov,
            found.state,
            found.why,
            found.run,
        )

    # --- lost and found ------------------------------------------------------------------------------------------------------------

    def _lost(self, view: View, why: str) -> Tracked:
        """The last pose, less and less sure."""
        if self._since_ns is None:
            self._since_ns = self._last.view.stamp_ns if self._last is not None else view.stamp_ns
        found = self._last.found if self._last is not None else self._start
        cov = found.cov + self._astray(max((view.stamp_ns - self._since_ns) / NS_PER_S, 0.0))
        return Tracked(view.stamp_ns, found.T_map_camera, cov, TrackingState.LOST, why)

    def _astray(self, seconds: float) -> Float64[np.ndarray, "6 6"]:
        """How far the camera may have gone while nothing was known of it."""
        lost = self.config.lost
        sigma = np.repeat(
            [lost.speed_m_s * seconds, min(np.radians(lost.turn_deg_s) * seconds, np.pi)], 3
        )
        return np.diag(sigma**2)

    def _place(self, view: View, images: Any, allowed: Callable[[Keyframe], bool]) -> _Found | None:
        """The pose by the keyframes that look alike: matched corners first, then the whole images from there."""
        lost, follow = self.config.lost, self.config.follow
        landmarks = describe(view)
        for candidate in self.keyframes.alike(view.thumbnail(), lost.candidates, allowed):
            matched = place(candidate.landmarks, landmarks, view)
            if matched is None or matched.inliers < lost.min_matches:
                continue
            found = self._dense.align(images, candidate.images, view, matched.T_a_b)
            if found is None or found.inliers < follow.min_inliers:
                continue
            apart = se3.difference(found.T_a_b, matched.T_a_b)
            if (
                np.linalg.norm(apart[:3]) > 2 * follow.agree_m
                or np.degrees(np.linalg.norm(apart[3:])) > 2 * follow.agree_deg
            ):
                continue
            T = se3.compose(candidate.T_map_camera, found.T_a_b)
            return _Found(
                T, self._chained(view, candidate, found.T_a_b), why="found again", run=candidate.run
            )
        return None
