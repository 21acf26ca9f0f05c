"""Alignment of whole images by Open3D: with a keyframe, or with a volumetric model.

This file alone imports Open3D, and only when it is used.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from vos_ros.geometry import se3
from vos_ros.rgbd_odometry.config import ImageConfig, ModelConfig
from vos_ros.rgbd_odometry.scaled_frames import DEPTH_SCALE, ScaledFrame
from vos_ros.types import Intrinsics

_ITERATIONS = (25, 10, 5)
"""Iterations per level, coarse to fine. With Open3D's own 10, 5, 3 a rotation of 2 degrees at 320
px often doesn't converge."""
_TRUNCATION_M = 0.07
"""Difference of depth beyond which two pixels don't correspond (Open3D's default)."""
_HUBER_M, _HUBER_INTENSITY = 0.05, 0.1
"""Residuals of depth and intensity beyond which the loss is linear (Open3D's defaults)."""
_MODEL_ITERATIONS = (6, 3, 1)
"""Iterations per level against the model (Open3D's defaults)."""
_MODEL_TRUNCATION = 4.0
"""Truncation distance of the signed distance field, voxels."""
_BLOCK_SIDE = 16
"""Side of a block, voxels."""
_INITIAL_BLOCKS = 2000
"""Capacity of the hash map at first: memory is what was measured, not what is allowed."""
_CONVERGED = 1e-6
"""Relative change of fitness and of error below which a level ends."""


@dataclass(frozen=True, eq=False, slots=True)
class Alignment:
    """How an image was aligned with another one."""

    T_a_b: Float64[np.ndarray, "4 4"]
    """Maps coordinates of the aligned camera to those of the other one."""
    inliers: float
    """Share of its pixels with depth that fit."""


def open3d() -> Any:
    """Import Open3D. Raises ImportError: it isn't installed; the text says how to get it."""
    try:
        import open3d as o3d
    except ImportError as e:
        raise ImportError(
            "tracking needs Open3D, which is not installed: pip install 'open3d-cpu<0.20'"
        ) from e
    # It warns of every frame that it reallocates for.
    o3d.utility.set_verbosity_level(o3d.utility.VerbosityLevel.Error)
    return o3d


class DenseOdometry:
    """Open3D's RGB-D odometry ("hybrid").

    It minimizes the errors of intensity (Steinbruecker et al. 2011) and of depth (Newcombe et al.
    2011) at once.
    """

    def __init__(self, config: ImageConfig) -> None:
        self._o3d, self._config = open3d(), config

    def images(self, frame: ScaledFrame) -> Any:
        """Convert an image to Open3D's form."""
        o3d = self._o3d
        return o3d.t.geometry.RGBDImage(
            o3d.t.geometry.Image(o3d.core.Tensor(frame.rgb)),
            o3d.t.geometry.Image(o3d.core.Tensor(frame.depth_mm[:, :, None])),
        )

    def align(
        self, images: Any, reference: Any, frame: ScaledFrame, guess: Float64[np.ndarray, "4 4"]
    ) -> Alignment | None:
        """Align an image with that of a reference; None where it fails.

        Args:
            images: the image as Open3D holds it.
            reference: the image of the reference as Open3D holds it.
            frame: the image.
            guess: T_reference_camera from which the iterations start.
        """
        odometry = self._o3d.t.pipelines.odometry
        criteria = _criteria(odometry, _ITERATIONS)
        try:
            result = odometry.rgbd_odometry_multi_scale(
                images,
                reference,
                tensor(self._o3d, frame.intrinsics.matrix()),
                tensor(self._o3d, guess),
                DEPTH_SCALE,
                self._config.max_depth_m,
                criteria,
                odometry.Method.Hybrid,
                odometry.OdometryLossParams(_TRUNCATION_M, _HUBER_M, _HUBER_INTENSITY),
            )
        except RuntimeError:  # singular: nothing of the image constrains the motion
            return None
        return _alignment(result, frame)


def tensor(o3d: Any, values: Float64[np.ndarray, "*S"]) -> Any:
    """Copy an array to an Open3D tensor."""
    return o3d.core.Tensor(np.ascontiguousarray(values, np.float64))


def _criteria(odometry: Any, iterations: tuple[int, ...]) -> list[Any]:
    """Make the criteria at which each level ends."""
    return [odometry.OdometryConvergenceCriteria(n, _CONVERGED, _CONVERGED) for n in iterations]


def _alignment(result: Any, frame: ScaledFrame) -> Alignment | None:
    """Convert Open3D's result. Its fitness counts the pixels without depth, ours doesn't."""
    T = np.asarray(result.transformation.numpy(), np.float64)
    if not np.isfinite(T).all():
        return None
    return Alignment(se3.normalize(T), float(result.fitness) / max(frame.depth_share, 1e-6))


class VolumetricModel:
    """Open3D's frame-to-model tracking (``open3d.t.pipelines.slam``).

    The model is a truncated signed distance field of the keyframes.
    """

    def __init__(self, config: ModelConfig, image: ImageConfig, intrinsics: Intrinsics) -> None:
        self._o3d, self._config, self._image = open3d(), config, image
        slam, k = self._o3d.t.pipelines.slam, intrinsics
        device, K = self._o3d.core.Device("CPU:0"), tensor(self._o3d, k.matrix())
        self._input = slam.Frame(k.height, k.width, K, device)
        self._cast = slam.Frame(k.height, k.width, K, device)
        self._clear()

    def _clear(self) -> None:
        o3d, config = self._o3d, self._config
        self._model = o3d.t.pipelines.slam.Model(
            config.voxel_m,
            _BLOCK_SIDE,
            min(_INITIAL_BLOCKS, config.max_blocks),
            tensor(o3d, np.eye(4)),
            o3d.core.Device("CPU:0"),
        )
        self.integrated = 0

    @property
    def blocks(self) -> int:
        """Number of blocks of voxels in use."""
        return int(self._model.get_hashmap().size()) if self.integrated else 0

    def align(
        self, images: Any, frame: ScaledFrame, T_map_camera: Float64[np.ndarray, "4 4"]
    ) -> Alignment | None:
        """Align an image by point to plane with the model, rendered from a predicted pose.

        ``T_a_b`` maps coordinates of the camera to those of the predicted one, ``T_map_camera``.
        Returns None before the first integration, and where the model shows too little.
        """
        if not self.integrated:
            return None
        odometry, model = self._o3d.t.pipelines.odometry, self._model
        self._put(images)
        model.update_frame_pose(self.integrated, tensor(self._o3d, T_map_camera))
        criteria = _criteria(odometry, _MODEL_ITERATIONS)
        try:
            model.synthesize_model_frame(
                self._cast,
                DEPTH_SCALE,
                self._image.min_depth_m,
                self._image.max_depth_m,
                _MODEL_TRUNCATION,
                False,
                1.0,
            )
            result = model.track_frame_to_model(
                self._input,
                self._cast,
                DEPTH_SCALE,
                self._image.max_depth_m,
                _TRUNCATION_M,
                odometry.Method.PointToPlane,
                criteria,
            )
        except RuntimeError:
            return None
        return _alignment(result, frame)

    def integrate(self, images: Any, T_map_camera: Float64[np.ndarray, "4 4"]) -> None:
        """Integrate a keyframe; with more than ``max_blocks`` the model starts anew."""
        if self.blocks > self._config.max_blocks:
            self._clear()
        self._put(images)
        self._model.update_frame_pose(self.integrated, tensor(self._o3d, T_map_camera))
        self._model.integrate(self._input, DEPTH_SCALE, self._image.max_depth_m, _MODEL_TRUNCATION)
        self.integrated += 1

    def _put(self, images: Any) -> None:
        self._input.set_data_from_image("color", images.color)
        self._input.set_data_from_image("depth", images.depth)
