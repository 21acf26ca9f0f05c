"""From messages that belong together to a Frame: decoded, rectified, with its pose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from vos_ros.messages.camera import TopicRectifier
from vos_ros.messages.images import depth_from_message, rgb_from_message
from vos_ros.ros.common.inputs import Bundle
from vos_ros.ros.common.logging import ConditionLog, Level
from vos_ros.ros.common.poses import PoseAnswer
from vos_ros.types import Frame


class Rejected(ValueError):
    """Messages of which no frame can be made; ``key`` names the input that is to blame."""

    def __init__(self, key: str, why: object) -> None:
        super().__init__(str(why))
        self.key = key


class FrameBuilder:
    """Makes frames of bundles; keeps the rectification maps while the camera stays the same.

    ``image_topic`` is the full name of the image topic, after remapping: it tells whether the images are
    rectified already (``messages.camera.is_rectified``).
    """

    def __init__(self, log: ConditionLog, image_topic: str) -> None:
        self._log = log
        self._index = 0
        self._rectifiers = TopicRectifier(image_topic)

    def build(
        self, bundle: Bundle, camera_info: Any | None, pose: Callable[[], PoseAnswer]
    ) -> tuple[Frame, PoseAnswer]:
        """The frame, and how its pose came. ``pose`` is asked last: while images are decoded, it may still arrive.

        Rejected: the image can't be read or nothing is known of the camera. Depth that can't be used is left out, and said once.
        """
        if camera_info is None:
            raise Rejected("camera_info", "none has come yet, so nothing is known of the camera")
        try:
            rectifier = self._rectifiers.of(camera_info)
        except ValueError as e:
            raise Rejected("camera_info content", e) from e
        try:
            rgb = rgb_from_message(bundle.image)
        except ValueError as e:
            raise Rejected("image content", e) from e
        depth = self._depth(bundle, (rgb.shape[0], rgb.shape[1]))
        answer = pose()
        frame = Frame(
            self._index,
            bundle.stamp_ns,
            rgb,
            depth,
            rectifier.source,
            answer.T_map_camera,
            answer.cov,
            bundle.image.header.frame_id,
        )
        self._index += 1
        # An image of another size than its calibration can't be rectified; the pipeline says so and does without the map.
        if (rectifier.source.width, rectifier.source.height) == (rgb.shape[1], rgb.shape[0]):
            frame = replace(
                frame,
                rgb=rectifier.image(rgb),
                depth=None if depth is None else rectifier.depth(depth),
                intrinsics=rectifier.intrinsics,
            )
        return frame, answer

    def _depth(self, bundle: Bundle, size: tuple[int, int]) -> Any | None:
        if bundle.depth is None:
            return None
        try:
            depth = depth_from_message(bundle.depth)
        except ValueError as e:
            self._log.begin(
                "depth content",
                str(e),
                f"{e}. Images are used without depth meanwhile.",
                Level.ERROR,
            )
            return None
        if depth.shape != size:
            (h, w), (dh, dw) = size, depth.shape
            self._log.begin(
                "depth content",
                "size",
                f"depth is {dw}x{dh} px, the image {w}x{h} px: it is not registered to colour."
                " Publish depth registered to colour (depth_image_proc's register node, or the camera driver's align option)."
                " Images are used without depth meanwhile.",
                Level.ERROR,
            )
            return None
        self._log.end("depth content", "is right again")
        return depth
