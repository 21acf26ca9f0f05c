"""Results as the node's topics in an MCAP bag."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np

from vos_ros.messages.rosmsg import (
    make,
    make_header,
    make_image,
    make_pose_with_covariance,
    make_time,
)
from vos_ros.sinks.images import overlay
from vos_ros.sinks.mcap import McapFile
from vos_ros.types import Association, Frame, FrameResult, Observation, Track

NAN = float("nan")


class BagSink:
    """Writes labels, instances and associations of every frame (and the overlay, and the timings as diagnostics, on demand) under
    ``namespace``, with the image's stamp and frame in their headers. The file appears on ``close``; an exception in the ``with``
    block leaves none. ``notes`` (e.g. the configuration) go to the bag's custom data.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        namespace: str = "/vos_ros",
        method: str = "",
        session_id: str = "",
        overlay: bool = False,
        diagnostics: bool = False,
        notes: Mapping[str, str] | None = None,
    ) -> None:
        self._file = McapFile(path, notes)
        self._namespace = namespace.rstrip("/")
        self._method, self._session_id = method, session_id
        self._overlay, self._diagnostics = overlay, diagnostics

    def write(self, frame: Frame, result: FrameResult) -> None:
        """The messages of one frame, all at the image's stamp."""
        ns, labels = frame.stamp_ns, result.labels()
        self._put("labels", make_image(ns, frame.frame_id, "16UC1", labels), ns)
        self._put("instances", instance_array(frame, result, self._method, self._session_id), ns)
        self._put("associations", association_array(frame, result, self._session_id), ns)
        if self._overlay:
            picture = overlay(frame.rgb, labels, result.tracks, result.associations)
            self._put("overlay", make_image(ns, frame.frame_id, "bgr8", picture[:, :, ::-1]), ns)
        if self._diagnostics:
            self._file.write("/diagnostics", diagnostics(frame, result), ns)

    def _put(self, name: str, msg: Any, ns: int) -> None:
        self._file.write(f"{self._namespace}/{name}", msg, ns)

    def close(self) -> None:
        """Finishes the bag and puts it in its place."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.__exit__(kind, error, trace)


def instance_array(frame: Frame, result: FrameResult, method: str, session_id: str) -> Any:
    """vos_ros/InstanceArray of a result; latency is the pipeline's own time."""
    seen = {o.track_id: o for o in result.observations}
    height, width = frame.shape
    return make(
        "vos_ros/msg/InstanceArray",
        header=make_header(frame.stamp_ns, frame.frame_id),
        session_id=session_id,
        method=method,
        width=width,
        height=height,
        latency_ms=float(result.timings_ms.get("total", NAN)),
        map_revision=result.map_revision,
        instances=[_instance(t, seen.get(t.track_id)) for t in result.tracks],
    )


def _instance(track: Track, observation: Observation | None) -> Any:
    x0, y0, x1, y1 = track.roi
    centroid = [NAN] * 3 if observation is None else [float(v) for v in observation.centroid]
    cov = (
        np.full(9, NAN)
        if observation is None
        else np.ascontiguousarray(observation.cov, np.float64).reshape(9)
    )
    return make(
        "vos_ros/msg/Instance",
        track_id=track.track_id,
        label_value=track.label_value,
        class_id=track.class_id,
        score=float(track.score),
        state=int(track.state),
        source=int(track.source),
        roi=make(
            "sensor_msgs/msg/RegionOfInterest",
            x_offset=x0,
            y_offset=y0,
            height=y1 - y0,
            width=x1 - x0,
            do_rectify=False,
        ),
        area_px=track.area_px,
        visible_fraction=float(track.visible),
        occluded_fraction=float(track.occluded),
        truncated_fraction=float(track.truncated),
        age_frames=track.age_frames,
        misses=track.misses,
        centroid=make("geometry_msgs/msg/Point", x=centroid[0], y=centroid[1], z=centroid[2]),
        covariance=cov,
    )


def association_array(frame: Frame, result: FrameResult, session_id: str) -> Any:
    """vos_ros/AssociationArray of a result. Without a pose the position of map_from_camera is NaN."""
    no_pose = np.eye(4)
    no_pose[:3, 3] = NAN
    pose = make_pose_with_covariance(
        no_pose if result.T_map_camera is None else result.T_map_camera, result.pose_cov
    )
    return make(
        "vos_ros/msg/AssociationArray",
        header=make_header(frame.stamp_ns, frame.frame_id),
        session_id=session_id,
        map_session_id=result.map_session_id,
        map_revision=result.map_revision,
        map_stamp=make_time(result.map_stamp_ns),
        map_frame=result.map_frame,
        map_from_camera=pose,
        term_names=list(next((a.terms for a in result.associations if a.terms), ())),
        associations=_associations(result.associations),
    )


def _associations(associations: Iterable[Association]) -> list[Any]:
    return [
        make(
            "vos_ros/msg/Association",
            track_id=a.track_id,
            map_object_id=a.map_object_id,
            status=int(a.status),
            score=float(a.score),
            mask_iou=float(a.mask_iou),
            depth_inlier_ratio=float(a.depth_inlier_ratio),
            appearance_similarity=float(a.appearance_similarity),
            runner_up_id=a.runner_up_id,
            runner_up_score=float(a.runner_up_score),
            predicted_visible_fraction=float(a.predicted_visible_fraction),
            n_observations=a.n_observations,
            related_ids=np.array(a.related_ids, np.uint32),
            term_values=np.array(list(a.terms.values()), np.float32),
        )
        for a in associations
    ]


def diagnostics(frame: Frame, result: FrameResult) -> Any:
    """diagnostic_msgs/DiagnosticArray with the stage times (ms) and the warnings of a frame: level 1 (WARN) where there are some."""
    values = [
        make("diagnostic_msgs/msg/KeyValue", key=f"{k}_ms", value=f"{v:.3f}")
        for k, v in result.timings_ms.items()
    ]
    status = make(
        "diagnostic_msgs/msg/DiagnosticStatus",
        level=1 if result.warnings else 0,
        name="vos_ros: pipeline",
        message="; ".join(result.warnings) or "OK",
        hardware_id="",
        values=values,
    )
    return make(
        "diagnostic_msgs/msg/DiagnosticArray",
        header=make_header(frame.stamp_ns, frame.frame_id),
        status=[status],
    )
