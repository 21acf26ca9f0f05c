"""Make a Frame of the messages of one image: decoded, rectified, with its pose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from jaxtyping import Float32

from vos_ros.messages.camera import TopicRectifier
from vos_ros.messages.checks import DEFAULT_LIMITS, Limits
from vos_ros.messages.images import depth_from_message, rgb_from_message
from vos_ros.ros.common.inputs import Bundle
from vos_ros.ros.common.logging import ConditionLog, Level
from vos_ros.ros.common.poses import PoseAnswer
from vos_ros.types import Frame

_WITHOUT_DEPTH = "Images are used without depth meanwhile."


class Rejected(ValueError):
    """Report messages that make no frame."""

    key: str
    """Name of the input to blame, as conditions name it."""

    def __init__(self, key: str, reason: object) -> None:
        super().__init__(str(reason))
        self.key = key


class FrameBuilder:
    """Make frames of bundles; keep the rectification maps while the camera stays the same.

    Args:
        log: conditions of messages that can't be used.
        image_topic: full name of the image topic, after remapping. It shows whether the images are
            rectified already (``messages.camera.is_rectified``).
        limits: bounds of what messages may carry.
        check_depth_frame: whether depth must be in the image's frame.
    """

    def __init__(
        self,
        log: ConditionLog,
        image_topic: str,
        limits: Limits = DEFAULT_LIMITS,
        *,
        check_depth_frame: bool = True,
    ) -> None:
        self._log, self._limits, self._check_depth_frame = log, limits, check_depth_frame
        self._index = 0
        self._rectifiers = TopicRectifier(image_topic, limits=limits)

    def build(
        self, bundle: Bundle, camera_info: Any | None, pose: Callable[[], PoseAnswer]
    ) -> tuple[Frame, PoseAnswer]:
        """Make the frame of a bundle and return it with the answer of ``pose``.

        Depth that can't be used is left out, and reported once.

        Args:
            bundle: image and depth.
            camera_info: the most recent one; None where none has arrived.
            pose: gives the pose. It is called last: it may arrive while images are decoded.

        Raises Rejected: the image can't be decoded, or the camera's calibration is not known.
        """
        if camera_info is None:
            raise Rejected("camera_info", "none has arrived, so the calibration is not known")
        try:
            rectifier = self._rectifiers.of(camera_info)
        except ValueError as e:
            raise Rejected("camera_info content", e) from e
        try:
            rgb = rgb_from_message(bundle.image, self._limits)
        except ValueError as e:
            raise Rejected("image content", e) from e
        depth = self._depth(bundle, (rgb.shape[0], rgb.shape[1]))
        answer = pose()
        frame = Frame(
            index=self._index,
            stamp_ns=bundle.stamp_ns,
            rgb=rgb,
            depth=depth,
            intrinsics=rectifier.source,
            T_map_camera=answer.T_map_camera,
            pose_cov=answer.cov,
            frame_id=bundle.image.header.frame_id,
            depth_frame_id=self._depth_frame_of(bundle, depth),
            T_bodies_camera=answer.T_bodies_camera,
        )
        self._index += 1
        # An image of another size than its calibration can't be rectified. The pipeline reports it
        # and works without the map.
        if (rectifier.source.width, rectifier.source.height) == (rgb.shape[1], rgb.shape[0]):
            frame = replace(
                frame,
                rgb=rectifier.image(rgb),
                depth=None if depth is None else rectifier.depth(depth),
                intrinsics=rectifier.intrinsics,
            )
        return frame, answer

    def _depth_frame_of(self, bundle: Bundle, depth: object) -> str:
        """Return the frame of the depth that is used, "" where it is not to be checked."""
        if depth is None or bundle.depth is None or not self._check_depth_frame:
            return ""
        return str(bundle.depth.header.frame_id)

    def _depth(self, bundle: Bundle, size: tuple[int, int]) -> Float32[np.ndarray, "H W"] | None:
        """Decode the depth of an image of ``size`` (H, W); None where it can't be used."""
        if bundle.depth is None:
            return None
        try:
            depth = depth_from_message(bundle.depth, self._limits, size)
        except ValueError as e:
            self._log.begin("depth content", str(e), f"{e}. {_WITHOUT_DEPTH}", Level.ERROR)
            return None
        self._log.end("depth content", "is right again")
        return depth
