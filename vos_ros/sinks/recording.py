"""Frames and maps as the messages a camera driver, a SLAM system and a mapper would publish."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from vos_ros.messages.rosmsg import (
    make,
    make_camera_info,
    make_header,
    make_image,
    make_map_objects,
    make_pose_with_covariance,
    make_transform,
)
from vos_ros.sinks.mcap import McapFile
from vos_ros.types import Frame, MapUpdate

IMAGE, DEPTH, CAMERA_INFO = (
    "/camera/color/image_raw",
    "/camera/depth/image_raw",
    "/camera/color/camera_info",
)
MAP_OBJECTS, POSE, TF = "/map_objects", "/pose", "/tf"


@dataclass(frozen=True, slots=True)
class Recorder:
    """Writes frames and map updates to a bag on the topics above. ``camera_frame`` and ``map_frame`` name the frames."""

    file: McapFile
    camera_frame: str = "camera_color_optical_frame"
    map_frame: str = "map"

    def map_update(self, update: MapUpdate) -> None:
        """The object map, latched, at its stamp."""
        msg = make_map_objects(update)
        msg.header.frame_id = msg.points.header.frame_id = self.map_frame
        self.file.write(MAP_OBJECTS, msg, update.stamp_ns, latched=True)

    def frame(self, frame: Frame, compressed: tuple[str, bytes] | None = None) -> None:
        """Camera, pose, depth and colour of a frame at its stamp; the last comes last, so that its partners precede it.

        ``compressed``: format (jpeg, png) and bytes of the colour image, written as CompressedImage in place of the raw one.
        """
        ns, camera = frame.stamp_ns, self.camera_frame
        self.file.write(CAMERA_INFO, make_camera_info(ns, camera, frame.intrinsics), ns)
        if frame.T_map_camera is not None:
            self._pose(frame)
        if frame.depth is not None:
            mm = np.rint(frame.depth * np.float32(1000.0))
            mm = np.where((mm > 0) & (mm < 65535), mm, 0).astype(np.uint16)
            self.file.write(DEPTH, make_image(ns, camera, "16UC1", mm), ns)
        if compressed is None:
            self.file.write(IMAGE, make_image(ns, camera, "rgb8", frame.rgb), ns)
        else:
            format, data = compressed
            self.file.write(
                f"{IMAGE}/compressed",
                make(
                    "sensor_msgs/msg/CompressedImage",
                    header=make_header(ns, camera),
                    format=f"rgb8; {format} compressed bgr8",
                    data=np.frombuffer(data, np.uint8),
                ),
                ns,
            )

    def _pose(self, frame: Frame) -> None:
        assert frame.T_map_camera is not None
        ns = frame.stamp_ns
        header = make_header(ns, self.map_frame)
        transform = make(
            "geometry_msgs/msg/TransformStamped",
            header=header,
            child_frame_id=self.camera_frame,
            transform=make_transform(frame.T_map_camera),
        )
        self.file.write(TF, make("tf2_msgs/msg/TFMessage", transforms=[transform]), ns)
        self.file.write(
            POSE,
            make(
                "geometry_msgs/msg/PoseWithCovarianceStamped",
                header=header,
                pose=make_pose_with_covariance(frame.T_map_camera, frame.pose_cov),
            ),
            ns,
        )
