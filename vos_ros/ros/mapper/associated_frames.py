"""Make the mapper's frame of the perception node's messages."""

from __future__ import annotations

from typing import Any

import numpy as np

from vos_ros.config import MappingConfig
from vos_ros.geometry.uncertainty import position_sigma
from vos_ros.messages.associations import associations_from_message, verdict_from_message
from vos_ros.messages.camera import TopicRectifier
from vos_ros.messages.geometry import Cov6, Pose4, covariance_from_message, matrix_from_pose
from vos_ros.messages.images import depth_from_message, pixels_from_message
from vos_ros.msg import Instance
from vos_ros.reference_mapper.config import MapperNodeConfig
from vos_ros.reference_mapper.frames import (
    AssociatedFrame,
    LabelledDepth,
    MeasuredInstance,
    lift_tracks,
    tracks_to_lift,
)
from vos_ros.ros.common.logging import ConditionLog
from vos_ros.ros.common.poses import PoseInput
from vos_ros.ros.mapper.mapper_inputs import Results

_NO_POINTS = np.zeros((0, 3), np.float32)


class AssociatedFrameBuilder:
    """Turn the results of an image into an AssociatedFrame; keep the rectification maps.

    Args:
        config: which camera pose is used.
        lifting: the mapper's settings of ``lift_tracks``.
        poses: camera poses of the SLAM.
        log: condition of a missing pose.
        image_topics: full names of the image and the depth topic. They show whether the images are
            rectified already (``messages.camera.is_rectified``).
    """

    def __init__(
        self,
        config: MapperNodeConfig,
        lifting: MappingConfig,
        poses: PoseInput,
        log: ConditionLog,
        image_topics: tuple[str, str],
    ) -> None:
        self._config, self._lifting, self._poses, self._log = config, lifting, poses, log
        self._rectifiers = TopicRectifier(*image_topics)

    def build(self, results: Results) -> AssociatedFrame:
        """Read the messages and lift the wanted instances to 3-D.

        Raises ValueError: a message contradicts itself or the others.
        """
        answer = results.associations
        associations = associations_from_message(answer)
        T, cov = self._camera_pose(results)
        depth = self._labelled_depth(results)
        points = (
            lift_tracks(depth, tracks_to_lift(associations), T, self._lifting)
            if T is not None and depth is not None
            else {}
        )
        instances = tuple(
            MeasuredInstance(
                i.track_id,
                i.class_id,
                i.state == Instance.CONFIRMED,
                points.get(i.track_id, _NO_POINTS),
            )
            for i in results.instances.instances
        )
        return AssociatedFrame(
            stamp_ns=results.stamp_ns,
            session_id=answer.session_id,
            map_session_id=answer.map_session_id,
            map_revision=answer.map_revision,
            map_frame=answer.map_frame,
            T_map_camera=T,
            pose_cov=cov,
            instances=instances,
            associations=associations,
            labelled_depth=depth,
            self_check=verdict_from_message(answer),
        )

    def _camera_pose(self, results: Results) -> tuple[Pose4 | None, Cov6 | None]:
        """Choose the camera pose at the image's stamp.

        It is the SLAM's where that is certain enough (``node.pose_source``,
        ``node.given_sigma_m``), else the one that the perception node used.
        """
        used = used_pose(results.associations.map_from_camera)
        given = self._poses.at(
            results.stamp_ns,
            results.labels.header.frame_id.lstrip("/"),
            self._config.pose_wait_s,
            lambda: False,
        )
        if given.reason:
            self._log.begin(
                "camera pose",
                "none",
                f"{given.reason}. The pose that the perception node has corrected against this map"
                " is used meanwhile (node.pose_source)",
            )
        else:
            self._log.end("camera pose")
        if given.T_map_camera is None:
            return used
        sigma_m = 0.0 if given.cov is None else position_sigma(given.cov)
        certain = sigma_m <= self._config.given_sigma_m
        return (given.T_map_camera, given.cov) if certain or used[0] is None else used

    def _labelled_depth(self, results: Results) -> LabelledDepth | None:
        """Return labels and depth of the image; None where depth or calibration is missing.

        Raises ValueError: the depth is not registered to the colour image.
        """
        if results.depth is None or results.camera_info is None:
            return None
        labels = pixels_from_message(results.labels)
        depth = depth_from_message(results.depth)
        rectifier = self._rectifiers.of(results.camera_info)
        source = rectifier.source
        if depth.shape != (source.height, source.width):
            raise ValueError(
                f"depth is {depth.shape[1]}x{depth.shape[0]} px, its camera_info is for"
                f" {source.width}x{source.height} px: wanted depth registered to the colour image,"
                " and the colour camera's camera_info"
            )
        return LabelledDepth(
            labels,
            {i.track_id: i.label_value for i in results.instances.instances if i.area_px},
            rectifier.depth(depth),
            rectifier.intrinsics,
        )


def used_pose(pose: Any) -> tuple[Pose4 | None, Cov6 | None]:
    """Read the camera pose that the perception node used; a NaN position means none."""
    position = pose.pose.position
    if not np.isfinite([position.x, position.y, position.z]).all():
        return None, None
    return matrix_from_pose(pose.pose), covariance_from_message(pose.covariance)
