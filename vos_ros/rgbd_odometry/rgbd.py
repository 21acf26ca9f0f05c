"""Track an RGB-D camera: frame by frame, with a covariance, and LOST where the pose is unknown.

A frame is aligned with the oldest keyframe near it, by colour and depth (``dense``). Corners that
are followed from the previous frame (``features``) give the start of the iterations. The pose is
accepted where enough of the image fits, the motion is possible, and both estimates agree. Otherwise
the previous frame takes the place of the keyframe, then the corners alone count, then the camera is
lost.

A lost camera is found by the keyframes with a similar image: matched corners give a pose, from
which the images are aligned. After a while a new run of keyframes starts from the last pose.

Errors add up from keyframe to keyframe, each with the covariance of its alignment. A camera that
comes back to an old keyframe gets that keyframe's pose and certainty.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from vos_ros.geometry import se3
from vos_ros.rgbd_odometry.config import SlamConfig
from vos_ros.rgbd_odometry.dense import DenseOdometry, VolumetricModel
from vos_ros.rgbd_odometry.features import (
    FeatureMotion,
    describe,
    follow_corners,
    match_landmarks,
)
from vos_ros.rgbd_odometry.keyframes import Keyframe, Keyframes, make_keyframe
from vos_ros.rgbd_odometry.scaled_frames import ScaledFrame, scale_frame
from vos_ros.rgbd_odometry.uncertainty import (
    compose_covariance,
    plane_information,
    point_covariance,
)
from vos_ros.types import Intrinsics

NS_PER_S = 1e9
FOUND_AGAIN = "found again"
"""Reason of the first pose after the camera was lost."""
_CORNERS_ERROR = 3.0
"""Error of a motion by corners alone, in errors of an alignment of whole images."""
_MODEL_MAX_SIGMAS = 3.0
"""Largest correction by the model, in standard deviations per degree of freedom."""
_DRIFT_SIGMAS = 3.0
"""Drift that the return to an older keyframe may undo, in standard deviations."""
_STEADY_GAP = 1.5
"""Longest time since the previous frame, in periods, for which the previous motion is continued."""
_RELOCALIZATION_SLACK = 2.0
"""Difference of corners and images when a lost camera is found, in that of a tracked one."""


class TrackingState(IntEnum):
    """How the pose of a frame was found."""

    TRACKED = 0
    CORNERS = 1  # by corners alone: the images didn't align
    LOST = 2


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Tracked:
    """The pose of a frame."""

    stamp_ns: int
    """Stamp of the frame."""
    T_map_camera: Float64[np.ndarray, "4 4"]
    """Pose of the camera; while LOST the last one that was known."""
    cov: Float64[np.ndarray, "6 6"]
    """Covariance of the pose (m, rad; axes of the map); while LOST it grows."""
    state: TrackingState
    """How the pose was found."""
    why: str = ""
    """What is wrong, or what has happened (found again, started anew); else ""."""


@dataclass(frozen=True, eq=False, slots=True)
class _Estimate:
    """A pose that is accepted."""

    T_map_camera: Float64[np.ndarray, "4 4"]
    cov: Float64[np.ndarray, "6 6"]
    state: TrackingState = TrackingState.TRACKED
    why: str = ""
    run: int | None = None
    """Run of keyframes that it belongs to; None = the present one."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class _PreviousFrame:
    """The last frame that was tracked."""

    frame: ScaledFrame
    o3d_images: Any
    estimate: _Estimate
    motion: Float64[np.ndarray, "4 4"]
    """Motion since the frame before it; the identity where that is unknown."""
    period_s: float
    """Time since the frame before it, s."""


def _same_camera(a: Intrinsics, b: Intrinsics) -> bool:
    return (a.width, a.height) == (b.width, b.height) and np.allclose(a.matrix(), b.matrix())


def _magnitude(error: Float64[np.ndarray, "6"]) -> tuple[float, float]:
    """Return the lengths of the two parts of a pose error: m, deg."""
    return float(np.linalg.norm(error[:3])), float(np.degrees(np.linalg.norm(error[3:])))


class RgbdSlam:
    """Track one camera from rectified frames in the order of their stamps.

    Attributes:
        keyframes: the keyframes, for people and tests.
        model: volumetric model of the keyframes, where it is enabled.
        run: number of new starts.
    """

    def __init__(
        self,
        config: SlamConfig | None = None,
        T_map_camera: Float64[np.ndarray, "4 4"] | None = None,
    ) -> None:
        """Begin with the pose of the first frame. Raises ImportError: Open3D isn't installed."""
        self.config = config if config is not None else SlamConfig()
        start = self.config.covariance
        sigma = np.repeat([start.start_m, np.radians(start.start_deg)], 3)
        T = np.eye(4) if T_map_camera is None else np.asarray(T_map_camera, np.float64)
        self._start = _Estimate(T, np.diag(sigma**2))
        self._dense = DenseOdometry(self.config.image)
        self.keyframes = Keyframes(self.config.follow)
        self.model: VolumetricModel | None = None
        self.run = 0
        self._previous: _PreviousFrame | None = None
        self._lost_since_ns: int | None = None
        self._retry_ns = 0
        self._camera: Intrinsics | None = None

    def interrupt(self) -> None:
        """Forget the previous frame: the next one isn't its successor (a recording that loops)."""
        if self._previous is None:
            return
        last = self._previous.estimate
        self._lost_since_ns, self._previous = None, None
        drift = self._drift_covariance(self.config.lost.restart_s)
        self._start = _Estimate(last.T_map_camera, last.cov + drift)

    def track(
        self,
        stamp_ns: int,
        rgb: UInt8[np.ndarray, "H W 3"],
        depth: Float32[np.ndarray, "H W"] | None,
        intrinsics: Intrinsics,
    ) -> Tracked:
        """Estimate the pose of a frame.

        Args:
            stamp_ns: stamp, later than the last one.
            rgb: colour.
            depth: depth registered to colour, m, 0 unknown; None = there is none.
            intrinsics: camera of both.

        Raises ValueError: the sizes don't fit together, or the stamp is not later than the last.
        """
        # 1. Check and shrink the frame.
        if self._previous is not None and stamp_ns <= self._previous.frame.stamp_ns:
            raise ValueError(
                f"stamp {stamp_ns} ns is not later than the last one,"
                f" {self._previous.frame.stamp_ns} ns; call interrupt() where time has gone back"
            )
        known = np.zeros(rgb.shape[:2], np.float32) if depth is None else depth
        frame = scale_frame(stamp_ns, rgb, known, intrinsics, self.config.image)
        self._use_camera(frame.intrinsics)
        if frame.depth_share < self.config.image.min_depth_share:
            share = f"has depth on {frame.depth_share:.0%} of its pixels"
            return self._report_lost(
                frame, f"the image {'has no depth' if depth is None else share}"
            )
        images = self._dense.images(frame)
        # 2. The first frame is the first keyframe.
        if not len(self.keyframes):
            return self._accept(frame, images, self._start)
        # 3. Track it from the previous frame, and return to an older run where one is recognized.
        follows = self._previous is not None and self._lost_since_ns is None
        estimate = (
            self._track_from_previous(frame, images)
            if follows
            else "no keyframe shows what the image shows"
        )
        if isinstance(estimate, _Estimate):
            if self.run and stamp_ns >= self._retry_ns:
                self._retry_ns = stamp_ns + round(self.config.lost.retry_s * NS_PER_S)
                older = self._relocalize(frame, images, lambda k: k.run < self.run)
                estimate = older or estimate
            return self._accept(frame, images, estimate)
        # 4. Else find its place among all keyframes.
        found = self._relocalize(frame, images, lambda _: True)
        if found is not None:
            return self._accept(frame, images, found)
        # 5. Else it is lost; after a while a new run starts.
        lost = self._report_lost(frame, estimate)
        if self._lost_for_s(stamp_ns) >= self.config.lost.restart_s:
            run = 1 + max(k.run for k in self.keyframes)
            why = "lost for too long: started anew from the last pose"
            anew = _Estimate(lost.T_map_camera, lost.cov, run=run, why=why)
            return self._accept(frame, images, anew)
        return lost

    def _use_camera(self, intrinsics: Intrinsics) -> None:
        """Start anew from the last pose where the camera is another one."""
        if self._camera is not None and not _same_camera(intrinsics, self._camera):
            self.interrupt()
            self.keyframes, self.model = Keyframes(self.config.follow), None
        self._camera = intrinsics

    # --- from one frame to the next --------------------------------------------------------------

    def _track_from_previous(self, frame: ScaledFrame, images: Any) -> _Estimate | str:
        """Estimate the pose from the previous frame; return why where that fails."""
        previous = self._previous
        assert previous is not None
        before = previous.estimate
        seconds = (frame.stamp_ns - previous.frame.stamp_ns) / NS_PER_S
        # The motion by corners, or else that of the previous frame, gives the start.
        corners = follow_corners(previous.frame, frame)
        if corners is not None and not self._is_credible(corners, seconds):
            corners = None
        is_steady = seconds < _STEADY_GAP * previous.period_s
        continued = previous.motion if is_steady else np.eye(4)
        motion = corners.T_a_b if corners is not None else continued
        guess = se3.compose(before.T_map_camera, motion)
        # Align the image with the keyframe, or else with the previous frame.
        reference = self.keyframes.reference(guess, self.run)
        estimate = self._align(frame, images, reference, guess, corners, seconds)
        if isinstance(estimate, _Estimate):
            return estimate
        previous_as_reference = replace(
            reference,
            frame=previous.frame,
            o3d_images=previous.o3d_images,
            T_map_camera=before.T_map_camera,
            cov=before.cov,
            run=self.run,
        )
        estimate = self._align(frame, images, previous_as_reference, guess, corners, seconds)
        if isinstance(estimate, _Estimate):
            return estimate
        # The corners alone.
        if corners is None:
            return f"{estimate}, and too few corners can be followed"
        relative = _CORNERS_ERROR * self.config.covariance.relative
        step_cov = point_covariance(frame, corners.T_a_b[:3, :3], relative)
        R, t = before.T_map_camera[:3, :3], corners.T_a_b[:3, 3]
        cov = compose_covariance(before.cov, step_cov, R, t)
        return _Estimate(guess, cov, TrackingState.CORNERS, estimate)

    def _align(
        self,
        frame: ScaledFrame,
        images: Any,
        reference: Keyframe,
        guess: Float64[np.ndarray, "4 4"],
        corners: FeatureMotion | None,
        seconds: float,
    ) -> _Estimate | str:
        """Estimate the pose by a reference; return why where it isn't accepted.

        Args:
            frame: the image.
            images: the image as Open3D holds it.
            reference: keyframe that it is aligned with.
            guess: T_map_camera from which the iterations start.
            corners: motion by corners; None where there is none.
            seconds: time since the previous frame.
        """
        follow, previous = self.config.follow, self._previous
        assert previous is not None
        start = se3.compose(se3.inverse(reference.T_map_camera), guess)
        aligned = self._dense.align(images, reference.o3d_images, frame, start)
        required = follow.min_inliers
        if corners is None:
            required = max(required, follow.min_inliers_alone)
        if aligned is None or aligned.inliers < required:
            return f"only {0 if aligned is None else aligned.inliers:.0%} of the image fits"
        T = se3.compose(reference.T_map_camera, aligned.T_a_b)
        before = previous.estimate
        # The return to an older keyframe undoes what has drifted since: it may look like a jump.
        variance = np.maximum(np.diag(before.cov) - np.diag(reference.cov), 0)
        drift_m, drift_deg = _magnitude(_DRIFT_SIGMAS * np.sqrt(variance))
        step = se3.compose(se3.inverse(before.T_map_camera), T)
        if impossible := self._impossible_motion(step, seconds, drift_m, drift_deg):
            return impossible
        if corners is not None:
            m, deg = _magnitude(se3.difference(T, guess))
            if m > follow.agree_m + drift_m or deg > follow.agree_deg + drift_deg:
                return f"image and corners differ by {m * 100:.1f} cm and {deg:.1f} degrees"
        return _Estimate(T, self._covariance_by(frame, reference, aligned.T_a_b))

    def _is_credible(self, corners: FeatureMotion, seconds: float) -> bool:
        """Return whether enough corners agree on a motion, and the motion is possible."""
        follow = self.config.follow
        required = max(follow.min_features, follow.min_feature_share * corners.tried)
        return corners.inliers >= required and not self._impossible_motion(corners.T_a_b, seconds)

    def _covariance_by(
        self, frame: ScaledFrame, reference: Keyframe, T_ref_camera: Float64[np.ndarray, "4 4"]
    ) -> Float64[np.ndarray, "6 6"]:
        """Compute the covariance of a pose by a reference from that of the reference's pose."""
        R_ref_camera, t_ref_camera = T_ref_camera[:3, :3], T_ref_camera[:3, 3]
        aligned = point_covariance(frame, R_ref_camera, self.config.covariance.relative)
        R_map_ref = reference.T_map_camera[:3, :3]
        return compose_covariance(reference.cov, aligned, R_map_ref, t_ref_camera)

    def _impossible_motion(
        self,
        step: Float64[np.ndarray, "4 4"],
        seconds: float,
        more_m: float = 0.0,
        more_deg: float = 0.0,
    ) -> str:
        """Return why a motion is impossible, or "".

        Args:
            step: the motion.
            seconds: time that it took.
            more_m: distance that is possible besides that of the largest speed.
            more_deg: angle that is possible besides that of the largest speed.
        """
        follow = self.config.follow
        m = float(np.linalg.norm(step[:3, 3]))
        deg = float(np.degrees(np.linalg.norm(se3.so3_log(step[:3, :3]))))
        max_m = follow.max_speed_m_s * seconds + more_m
        max_deg = follow.max_turn_deg_s * seconds + more_deg
        if m <= max_m and deg <= max_deg:
            return ""
        return f"a motion of {m:.2f} m and {deg:.0f} degrees in {seconds:.2f} s is impossible"

    def _accept(self, frame: ScaledFrame, images: Any, estimate: _Estimate) -> Tracked:
        """Make a pose that of the frame, and the frame a keyframe where there is none near."""
        was_lost = self._lost_since_ns is not None
        if estimate.run is not None and estimate.run != self.run:
            if estimate.run < self.run:
                self.keyframes.remove_run(self.run)
            self.run = estimate.run
            self.model = None
        is_first = not any(k.run == self.run for k in self.keyframes)
        is_new_place = estimate.state is TrackingState.TRACKED and (
            is_first or not self.keyframes.has_near(estimate.T_map_camera, self.run)
        )
        if is_first or is_new_place:
            if not is_first:
                estimate = self._refine_by_model(frame, images, estimate)
            T = estimate.T_map_camera
            self.keyframes.add(make_keyframe(frame, images, T, estimate.cov, self.run))
            self._integrate_into_model(images, T)
        previous, motion, period_s = self._previous, np.eye(4), 0.0
        if previous is not None:
            period_s = (frame.stamp_ns - previous.frame.stamp_ns) / NS_PER_S
            if not was_lost and estimate.run is None:
                before = se3.inverse(previous.estimate.T_map_camera)
                motion = se3.compose(before, estimate.T_map_camera)
        self._lost_since_ns = None
        self._previous = _PreviousFrame(
            frame=frame, o3d_images=images, estimate=estimate, motion=motion, period_s=period_s
        )
        return Tracked(
            stamp_ns=frame.stamp_ns,
            T_map_camera=estimate.T_map_camera,
            cov=estimate.cov,
            state=estimate.state,
            why=estimate.why,
        )

    # --- the volumetric model --------------------------------------------------------------------

    def _integrate_into_model(self, images: Any, T_map_camera: Float64[np.ndarray, "4 4"]) -> None:
        if self.config.model.enabled:
            if self.model is None:
                assert self._camera is not None
                self.model = VolumetricModel(self.config.model, self.config.image, self._camera)
            self.model.integrate(images, T_map_camera)

    def _refine_by_model(self, frame: ScaledFrame, images: Any, estimate: _Estimate) -> _Estimate:
        """Correct the pose of a new keyframe by the model of the older ones.

        With the prior information P of the alignment with a keyframe, the information I of the
        surfaces that are visible and the measured correction d: x = (P + I)^-1 I d. The errors are
        not independent, since the model is made of the same keyframes: so the covariance stays.
        """
        T = estimate.T_map_camera
        aligned = self.model.align(images, frame, T) if self.model is not None else None
        if aligned is None or aligned.inliers < self.config.follow.min_inliers:
            return estimate
        d = se3.difference(se3.compose(T, aligned.T_a_b), T)
        R = T[:3, :3]
        turn = np.kron(np.eye(2), R)  # camera's axes to the map's
        cov = point_covariance(frame, np.eye(3), self.config.covariance.relative)
        P = np.linalg.inv(turn @ cov @ turn.T)
        information = plane_information(frame, R, self.config.model.relative)
        x = np.linalg.solve(P + information, information @ d)
        if float(x @ P @ x) > 6 * _MODEL_MAX_SIGMAS**2:
            return estimate
        return replace(estimate, T_map_camera=se3.perturb(T, x))

    # --- lost and found --------------------------------------------------------------------------

    def _report_lost(self, frame: ScaledFrame, why: str) -> Tracked:
        """Return the last pose, with a covariance that grows with time."""
        previous = self._previous
        if self._lost_since_ns is None:
            last = frame if previous is None else previous.frame
            self._lost_since_ns = last.stamp_ns
        estimate = self._start if previous is None else previous.estimate
        drift = self._drift_covariance(max(self._lost_for_s(frame.stamp_ns), 0.0))
        return Tracked(
            stamp_ns=frame.stamp_ns,
            T_map_camera=estimate.T_map_camera,
            cov=estimate.cov + drift,
            state=TrackingState.LOST,
            why=why,
        )

    def _lost_for_s(self, stamp_ns: int) -> float:
        """Return for how long the camera has been lost; 0 where it isn't."""
        return 0.0 if self._lost_since_ns is None else (stamp_ns - self._lost_since_ns) / NS_PER_S

    def _drift_covariance(self, seconds: float) -> Float64[np.ndarray, "6 6"]:
        """Compute how far the camera may have moved while its motion was unknown."""
        lost = self.config.lost
        sigma_m = lost.speed_m_s * seconds
        sigma_rad = min(np.radians(lost.turn_deg_s) * seconds, np.pi)
        return np.diag(np.repeat([sigma_m, sigma_rad], 3) ** 2)

    def _relocalize(
        self, frame: ScaledFrame, images: Any, allowed: Callable[[Keyframe], bool]
    ) -> _Estimate | None:
        """Find the pose by the keyframes with a similar image.

        Matched corners give a first pose, from which the whole images are aligned. Both must agree.
        """
        lost, follow = self.config.lost, self.config.follow
        landmarks = describe(frame)
        for keyframe in self.keyframes.most_similar(frame.thumbnail(), lost.candidates, allowed):
            matched = match_landmarks(keyframe.landmarks, landmarks, frame)
            if matched is None or matched.inliers < lost.min_matches:
                continue
            aligned = self._dense.align(images, keyframe.o3d_images, frame, matched.T_a_b)
            if aligned is None or aligned.inliers < follow.min_inliers:
                continue
            m, deg = _magnitude(se3.difference(aligned.T_a_b, matched.T_a_b))
            max_m = _RELOCALIZATION_SLACK * follow.agree_m
            if m > max_m or deg > _RELOCALIZATION_SLACK * follow.agree_deg:
                continue
            T = se3.compose(keyframe.T_map_camera, aligned.T_a_b)
            cov = self._covariance_by(frame, keyframe, aligned.T_a_b)
            return _Estimate(T, cov, why=FOUND_AGAIN, run=keyframe.run)
        return None
