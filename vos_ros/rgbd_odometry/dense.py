"""Whole images aligned by Open3D: with a keyframe by colour and depth, with a volumetric model by depth. The one file of the tracker that
imports Open3D, and only when it is used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from vos_ros.geometry import se3
from vos_ros.rgbd_odometry.config import ImageConfig, ModelConfig
from vos_ros.rgbd_odometry.views import DEPTH_SCALE, View
from vos_ros.types import Intrinsics

_ITERATIONS = (
    25,
    10,
    5,
)  # coarse to fine; with Open3D's own 10, 5, 3 a turn of 2 degrees at 320 px often isn't reached
_TRUNCATION_M = 0.07
_HUBER_M, _HUBER_INTENSITY = 0.05, 0.1
_MODEL_ITERATIONS = (6, 3, 1)
_MODEL_TRUNCATION = 4.0  # voxels
_BLOCK = 16


@dataclass(frozen=True, eq=False, slots=True)
class Alignment:
    """``T_a_b`` maps coordinates of the aligned camera to those of the one that it was aligned with. ``inliers``: share of its pixels
    with depth that fit."""

    T_a_b: Float64[np.ndarray, "4 4"]
    inliers: float


def open3d() -> Any:
    """Open3D. ImportError says how to get it."""
    try:
        import open3d as o3d
    except ImportError as e:
        raise ImportError(
            "tracking needs Open3D, which is not installed: pip install 'open3d-cpu<0.20'"
        ) from e
    o3d.utility.set_verbosity_level(
        o3d.utility.VerbosityLevel.Error
    )  # it warns of every frame that it reallocates for
    return o3d


class DenseOdometry:
    """Open3D's RGB-D odometry: Steinbruecker et al. 2011 (colour) and Newcombe et al. 2011 (depth) at once ("hybrid")."""

    def __init__(self, config: ImageConfig) -> None:
        self._o3d, self._config = open3d(), config

    def images(self, view: View) -> Any:
        """The view as Open3D holds it; kept by the caller for as long as the view is."""
        o3d = self._o3d
        return o3d.t.geometry.RGBDImage(
            o3d.t.geometry.Image(o3d.core.Tensor(view.rgb)),
            o3d.t.geometry.Image(o3d.core.Tensor(view.depth_mm[:, :, None])),
        )

    def align(
        self, images: Any, reference: Any, view: View, guess: Float64[np.ndarray, "4 4"]
    ) -> Alignment | None:
        """``view`` (its ``images``) aligned with the images of a reference, from the guess of T_reference_view; None where it fails."""
        odometry = self._o3d.t.pipelines.odometry
        criteria = [odometry.OdometryConvergenceCriteria(n, 1e-6, 1e-6) for n in _ITERATIONS]
        try:
            found = odometry.rgbd_odometry_multi_scale(
                images,
                reference,
                tensor(self._o3d, view.intrinsics.matrix()),
                tensor(self._o3d, guess),
                DEPTH_SCALE,
                self._config.max_depth_m,
                criteria,
                odometry.Method.Hybrid,
                odometry.OdometryLossParams(_TRUNCATION_M, _HUBER_M, _HUBER_INTENSITY),
            )
        except RuntimeError:  # singular: nothing of the image constrains the motion
            return None
        return alignment(found, view)


def tensor(o3d: Any, values: Float64[np.ndarray, "*S"]) -> Any:
    """An Open3D tensor of its own memory."""
    return o3d.core.Tensor(np.ascontiguousarray(values, np.float64))


def alignment(found: Any, view: View) -> Alignment | None:
    """Open3D's result; its fitness counts the pixels without depth, ours doesn't."""
    T = np.asarray(found.transformation.numpy(), np.float64)
    if not np.isfinite(T).all():
        return None
    return Alignment(se3.normalize(T), float(found.fitness) / max(view.depth_share, 1e-6))


class VolumetricModel:
    """Open3D's frame-to-model tracking (``open3d.t.pipelines.slam``): a truncated signed distance field of the keyframes."""

    def __init__(self, config: ModelConfig, image: ImageConfig, intrinsics: Intrinsics) -> None:
        self._o3d, self._config, self._image = open3d(), config, image
        slam, k = self._o3d.t.pipelines.slam, intrinsics
        device, K = self._o3d.core.Device("CPU:0"), tensor(self._o3d, k.matrix())
        self._input, self._cast = (
            slam.Frame(k.height, k.width, K, device),
            slam.Frame(k.height, k.width, K, device),
        )
        self._clear()

    def _clear(self) -> None:
        o3d, config = self._o3d, self._config
        # The hash map starts small: memory is what was seen, not what is allowed.
        self._model = o3d.t.pipelines.slam.Model(
            config.voxel_m,
            _BLOCK,
            min(2000, config.max_blocks),
            tensor(o3d, np.eye(4)),
            o3d.core.Device("CPU:0"),
        )
        self.integrated = 0

    @property
    def blocks(self) -> int:
        """Blocks of voxels in use."""
        return int(self._model.get_hashmap().size()) if self.integrated else 0

    def align(
        self, images: Any, view: View, T_map_camera: Float64[np.ndarray, "4 4"]
    ) -> Alignment | None:
        """``T_a_b`` leads from the camera where it is to where it was thought to be: by point to plane against the model's surface as
        seen from there. None before the first integration, and where the model shows too little."""
        if not self.integrated:
            return None
        odometry, model = self._o3d.t.pipelines.odometry, self._model
        self._put(images)
        model.update_frame_pose(self.integrated, tensor(self._o3d, T_map_camera))
        criteria = [odometry.OdometryConvergenceCriteria(n, 1e-6, 1e-6) for n in _MODEL_ITERATIONS]
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
            found = model.track_frame_to_model(
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
        return alignment(found, view)

    def integrate(self, images: Any, T_map_camera: Float64[np.ndarray, "4 4"]) -> None:
        """Adds a keyframe."""
        if self.blocks > self._config.max_blocks:
            self._clear()
        self._put(images)
        self._model.update_frame_pose(self.integrated, tensor(self._o3d, T_map_camera))
        self._model.integrate(self._input, DEPTH_SCALE, self._image.max_depth_m, _MODEL_TRUNCATION)
        self.integrated += 1

    def _put(self, images: Any) -> None:
        self._input.set_data_from_image("color", images.color)
        self._input.set_data_from_image("depth", images.depth)
