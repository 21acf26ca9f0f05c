"""Builds vos_ros/InstanceArray, the followed instances of one image."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from vos_ros.messages.camera import region_message
from vos_ros.messages.factory import MakeMessage
from vos_ros.messages.geometry import point_message
from vos_ros.types import FrameResult, Observation, Track


def instance_array_message(
    make: MakeMessage,
    header: Any,
    result: FrameResult,
    *,
    session_id: str,
    method: str,
    shape: tuple[int, int],
    latency_ms: float = math.nan,
) -> Any:
    """Build vos_ros/InstanceArray of every live track.

    Args:
        make: factory of the message classes.
        header: that of the image.
        result: what the pipeline has computed for the image.
        session_id: session of the track ids.
        method: name of the segmentation method.
        shape: (H, W) of the label image, px.
        latency_ms: time from the image's arrival to the result, ms; NaN where it is not known.
    """
    observations = {o.track_id: o for o in result.observations}
    height, width = shape
    return make(
        "vos_ros/msg/InstanceArray",
        header=header,
        session_id=session_id,
        method=method,
        width=int(width),
        height=int(height),
        latency_ms=float(latency_ms),
        map_revision=result.map_revision,
        instances=[instance_message(make, t, observations.get(t.track_id)) for t in result.tracks],
    )


def instance_message(make: MakeMessage, track: Track, observation: Observation | None) -> Any:
    """Build vos_ros/Instance; without an observation its centroid and covariance are NaN."""
    centroid, cov = np.full(3, np.nan), np.full((3, 3), np.nan)
    if observation is not None:
        centroid, cov = observation.centroid, np.asarray(observation.cov, np.float64)
    return make(
        "vos_ros/msg/Instance",
        track_id=int(track.track_id),
        label_value=int(track.label_value),
        class_id=int(track.class_id),
        score=float(track.score),
        state=int(track.state),
        source=int(track.source),
        roi=region_message(make, track.roi),
        area_px=int(track.area_px),
        visible_fraction=float(track.visible),
        occluded_fraction=float(track.occluded),
        truncated_fraction=float(track.truncated),
        age_frames=int(track.age_frames),
        misses=int(track.misses),
        centroid=point_message(make, centroid),
        covariance=cov.reshape(9),
    )
