"""Writes frames and maps as the messages of a camera driver, a SLAM system and a mapper."""

from __future__ import annotations

from dataclasses import dataclass

from vos_ros.messages.factory import make
from vos_ros.messages.geometry import (
    pose_with_covariance_stamped_message,
    tf_message,
    transform_stamped_message,
)
from vos_ros.messages.images import compressed_rgb_message, frame_messages
from vos_ros.messages.map_objects import map_objects_message
from vos_ros.messages.stamps import header_message
from vos_ros.sinks.mcap import McapFile
from vos_ros.types import Frame, MapUpdate

IMAGE = "/camera/color/image_raw"
DEPTH = "/camera/depth/image_raw"
CAMERA_INFO = "/camera/color/camera_info"
MAP_OBJECTS, POSE, TF = "/map_objects", "/pose", "/tf"


@dataclass(frozen=True, slots=True)
class Recorder:
    """Writes frames and map updates to a bag, on the topics above."""

    file: McapFile
    """The bag that is being written."""
    camera_frame: str = "camera_color_optical_frame"
    """Name of the camera's optical frame in the messages."""
    map_frame: str = "map"
    """Name of the map frame in the messages."""

    def map_update(self, update: MapUpdate) -> None:
        """Write the object map at its stamp, latched."""
        msg = map_objects_message(make, update)
        msg.header.frame_id = msg.points.header.frame_id = self.map_frame
        self.file.write(MAP_OBJECTS, msg, update.stamp_ns, latched=True)

    def frame(self, frame: Frame, compressed: tuple[str, bytes] | None = None) -> None:
        """Write camera_info, pose, depth and colour of a frame at its stamp.

        Colour comes last, so that its partners precede it. ``compressed`` holds the format (jpeg,
        png) and the bytes of the colour image, which are written as CompressedImage in place of the
        raw one.
        """
        ns = frame.stamp_ns
        image, info, depth = frame_messages(make, frame, frame_id=self.camera_frame)
        self.file.write(CAMERA_INFO, info, ns)
        self._write_pose(frame)
        if depth is not None:
            self.file.write(DEPTH, depth, ns)
        if compressed is None:
            self.file.write(IMAGE, image, ns)
        else:
            msg = compressed_rgb_message(make, image.header, *compressed)
            self.file.write(f"{IMAGE}/compressed", msg, ns)

    def _write_pose(self, frame: Frame) -> None:
        T, ns = frame.T_map_camera, frame.stamp_ns
        if T is None:
            return
        header = header_message(make, ns, self.map_frame)
        transform = transform_stamped_message(make, header, self.camera_frame, T)
        self.file.write(TF, tf_message(make, [transform]), ns)
        pose = pose_with_covariance_stamped_message(make, header, T, frame.pose_cov)
        self.file.write(POSE, pose, ns)
