"""Build what people see in RViz: the overlay, coloured boxes with names, a labelled cloud.

Pure: results in, messages out.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from builtin_interfaces.msg import Time
from geometry_msgs.msg import Point, Pose, Quaternion, Vector3
from jaxtyping import UInt16
from sensor_msgs.msg import Image, PointCloud2
from std_msgs.msg import ColorRGBA, Header
from visualization_msgs.msg import Marker, MarkerArray

from vos_ros.messages.clouds import cloud_message
from vos_ros.messages.geometry import pose_message
from vos_ros.messages.images import image_message
from vos_ros.ros.common.message_factory import make
from vos_ros.sinks.images import overlay, track_color
from vos_ros.types import (
    UNKNOWN_LABEL,
    Association,
    Frame,
    FrameResult,
    MapObject,
    Observation,
    Track,
)

Key = tuple[str, int]
"""Namespace and id of a marker."""
_UNTRACKED_COLOR = (150, 150, 150)
"""Colour of a map object that no track follows: grey."""
_MIN_SIZE_M = 0.01
"""Smallest side of a marker, m: RViz warns of a side of 0."""
_TEXT_HEIGHT_M = 0.06
"""Height of the letters, m."""
_TEXT_GAP_M = 0.05
"""Distance between the top of a marker and its text, m."""


def overlay_message(
    frame: Frame, labels: UInt16[np.ndarray, "H W"], result: FrameResult, head: Header
) -> Image:
    """Build the image with every instance tinted, bgr8."""
    rgb = overlay(frame.rgb, labels, result.tracks, result.associations)
    return image_message(make, head, "bgr8", rgb[:, :, ::-1])


def labelled_cloud(
    frame: Frame, labels: UInt16[np.ndarray, "H W"], result: FrameResult, head: Header
) -> PointCloud2:
    """Build the cloud of all instance pixels with depth, in the camera's frame.

    Its fields are x y z (m), rgb, instance_id (the track id).
    """
    ids = np.zeros(UNKNOWN_LABEL + 1, np.uint32)
    for track in result.tracks:
        ids[track.label_value] = track.track_id
    instance = ids[labels]
    depth = frame.depth if frame.depth is not None else np.zeros(labels.shape, np.float32)
    v, u = np.nonzero((instance > 0) & (depth > 0))
    z = depth[v, u]
    i = frame.intrinsics
    r, g, b = (frame.rgb[v, u, c].astype(np.uint32) for c in range(3))
    return cloud_message(
        make,
        head,
        {
            "x": ((u - i.cx) * z / i.fx).astype(np.float32),
            "y": ((v - i.cy) * z / i.fy).astype(np.float32),
            "z": z,
            # PCL's convention, which RViz reads: three bytes inside a float32.
            "rgb": (r << 16 | g << 8 | b).astype(np.uint32).view(np.float32),
            "instance_id": instance[v, u],
        },
    )


def _color(rgb: tuple[int, int, int], alpha: float) -> ColorRGBA:
    return ColorRGBA(r=rgb[0] / 255.0, g=rgb[1] / 255.0, b=rgb[2] / 255.0, a=alpha)


def _size(size: np.ndarray) -> Vector3:
    x, y, z = (max(float(s), _MIN_SIZE_M) if math.isfinite(s) else _MIN_SIZE_M for s in size)
    return Vector3(x=x, y=y, z=z)


class Markers:
    """Build a MarkerArray per frame, and delete the markers of what is no longer shown.

    A map object is a box, a track that is matched to no map object is a ball; each has a text
    above it. Markers are in the map frame, in the colour of the track, grey without one.
    """

    def __init__(self) -> None:
        self._shown: set[Key] = set()

    def message(
        self, result: FrameResult, find: Callable[[int], MapObject | None], stamp: Time
    ) -> MarkerArray:
        """Build the markers of a frame.

        Args:
            result: result of the frame.
            find: returns a map object by its id, None where there is none.
            stamp: stamp of the image.
        """
        head = Header(stamp=stamp, frame_id=result.map_frame)
        tracks = {t.track_id: t for t in result.tracks}
        observations = {o.track_id: o for o in result.observations}
        markers: list[Marker] = []
        for a in result.associations:
            track, item = tracks.get(a.track_id), find(a.map_object_id) if a.map_object_id else None
            if item is not None:
                markers += self._object_markers(head, item, a, track)
            elif track is not None and track.track_id in observations:
                markers += self._track_markers(head, track, observations[track.track_id], a)
        now = {(m.ns, m.id) for m in markers}
        markers += [
            Marker(header=head, ns=ns, id=i, action=Marker.DELETE)
            for ns, i in sorted(self._shown - now)
        ]
        self._shown = now
        return MarkerArray(markers=markers)

    def clear(self) -> MarkerArray:
        """Build the message that deletes every marker."""
        self._shown = set()
        return MarkerArray(markers=[Marker(action=Marker.DELETEALL)])

    def _object_markers(
        self, head: Header, item: MapObject, a: Association, track: Track | None
    ) -> list[Marker]:
        rgb = track_color(track.track_id) if track is not None else _UNTRACKED_COLOR
        visible = track is not None and track.area_px > 0
        name = f"{track.track_id}>{item.id}" if track is not None else f"{item.id}"
        pose = pose_message(make, item.T_map_object)
        top = Point(
            x=pose.position.x,
            y=pose.position.y,
            z=pose.position.z + float(np.max(item.size)) / 2 + _TEXT_GAP_M,
        )
        color = _color(rgb, 0.5 if visible else 0.15)
        return [
            _marker(head, ("object", item.id), Marker.CUBE, pose, _size(item.size), color),
            _text(
                head, ("object_text", item.id), top, f"{name} {a.status.name} {a.score:.2f}", rgb
            ),
        ]

    def _track_markers(
        self, head: Header, track: Track, observation: Observation, a: Association
    ) -> list[Marker]:
        rgb = track_color(track.track_id)
        x, y, z = (float(v) for v in observation.centroid)
        spread = 2.0 * np.sqrt(np.maximum(np.diag(observation.cov), 0.0))
        at = Pose(position=Point(x=x, y=y, z=z), orientation=Quaternion(w=1.0))
        top = Point(x=x, y=y, z=z + float(np.nan_to_num(spread).max()) + _TEXT_GAP_M)
        text = f"{track.track_id} {a.status.name} {track.state.name}"
        ball, key = _size(2.0 * spread), ("track", track.track_id)
        return [
            _marker(head, key, Marker.SPHERE, at, ball, _color(rgb, 0.5)),
            _text(head, ("track_text", track.track_id), top, text, rgb),
        ]


def _marker(
    head: Header, key: Key, kind: int, pose: Pose, scale: Vector3, color: ColorRGBA
) -> Marker:
    namespace, ident = key
    # A marker's id is an int32, ours are uint32.
    return Marker(
        header=head,
        ns=namespace,
        id=ident & 0x7FFFFFFF,
        type=kind,
        action=Marker.ADD,
        pose=pose,
        scale=scale,
        color=color,
    )


def _text(head: Header, key: Key, at: Point, text: str, rgb: tuple[int, int, int]) -> Marker:
    pose = Pose(position=at, orientation=Quaternion(w=1.0))
    scale = Vector3(x=0.0, y=0.0, z=_TEXT_HEIGHT_M)
    marker = _marker(head, key, Marker.TEXT_VIEW_FACING, pose, scale, _color(rgb, 1.0))
    marker.text = text
    return marker
