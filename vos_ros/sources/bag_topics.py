"""Finds the topics of a bag: colour image, depth, camera_info, map and pose."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from vos_ros.messages.encodings import DEPTH_ENCODINGS
from vos_ros.messages.pose_sources import BY_MESSAGE_TYPE, TF

NONE = "none"
"""Value of an option: this input is not used."""
RAW, COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
CAMERA_INFO, MAP_OBJECTS, TF_MESSAGE = (
    "sensor_msgs/msg/CameraInfo",
    "vos_ros/msg/MapObjectArray",
    "tf2_msgs/msg/TFMessage",
)
_OUTPUTS = ("/labels", "/overlay")
"""Ends of the names of the node's own image topics, which are no input."""


class BagError(ValueError):
    """Refuses a bag; the text says what it has and which option helps."""


@dataclass(frozen=True, slots=True)
class BagTopics:
    """Names the topics of the inputs. An empty name: the topic is found by its type."""

    image: str = ""
    """Colour, raw or compressed."""
    depth: str = ""
    """Depth registered to colour, raw or compressed; "none": not used."""
    camera_info: str = ""
    """Calibration of the colour camera."""
    map_objects: str = ""
    """The mapper's map; "none": not used."""
    pose: str = ""
    """Poses of the camera; "tf": from /tf and /tf_static; "none": not used."""


def find_topics(types: dict[str, str], first: Callable[[str], Any], wanted: BagTopics) -> BagTopics:
    """Fill in the names that are empty in ``wanted``.

    ``types`` gives the message type of each topic, ``first`` the first message of a topic.

    Raises BagError, with a list of the bag's topics: a named topic is missing or of the wrong type,
    image or camera_info can't be found, or several topics fit.
    """
    finder = _Finder(types, first)
    image = finder.image(wanted.image)
    return replace(
        wanted,
        image=image,
        depth=finder.depth(wanted.depth),
        camera_info=finder.camera_info(wanted.camera_info, image),
        map_objects=finder.optional("map_objects", wanted.map_objects, (MAP_OBJECTS,)),
        pose=finder.pose(wanted.pose),
    )


class _Finder:
    """Finds each topic by its name or its type."""

    def __init__(self, types: dict[str, str], first: Callable[[str], Any]) -> None:
        self._types, self._first = types, first
        self._images = [t for t in self._of((RAW, COMPRESSED)) if not t.endswith(_OUTPUTS)]

    def _of(self, kinds: Sequence[str]) -> list[str]:
        return sorted(t for t, kind in self._types.items() if kind in kinds)

    def _listing(self) -> str:
        return "the bag has " + (
            ", ".join(f"{t} ({kind})" for t, kind in sorted(self._types.items()))
            or "no topics at all"
        )

    def _named(self, option: str, topic: str, kinds: Sequence[str]) -> str:
        if topic not in self._types:
            raise BagError(f"{option}: no topic {topic!r}; {self._listing()}")
        if self._types[topic] not in kinds:
            raise BagError(
                f"{option}: topic {topic!r} is of type {self._types[topic]}, wanted"
                f" {' or '.join(kinds)}; {self._listing()}"
            )
        return topic

    def _one(self, option: str, found: list[str]) -> str:
        if len(found) != 1:
            what = f"several topics fit: {', '.join(found)}" if found else "no topic fits"
            raise BagError(
                f"{option}: {what}; name it with the option {option}. In full, {self._listing()}"
            )
        return found[0]

    def _is_depth(self, topic: str) -> bool:
        msg = self._first(topic)
        if self._types[topic] == RAW:
            return msg.encoding in DEPTH_ENCODINGS
        return "compressedDepth" in msg.format or msg.format.startswith(("16UC1", "32FC1"))

    def _prefer_raw(self, topics: list[str]) -> list[str]:
        """Leave out compressed topics whose raw topic is there."""
        raw = {t for t in topics if self._types[t] == RAW}
        return [t for t in topics if t in raw or t.rpartition("/")[0] not in raw]

    def image(self, topic: str) -> str:
        if topic:
            return self._named("image", topic, (RAW, COMPRESSED))
        return self._one(
            "image", self._prefer_raw([t for t in self._images if not self._is_depth(t)])
        )

    def depth(self, topic: str) -> str:
        if topic == NONE:
            return NONE
        if topic:
            return self._named("depth", topic, (RAW, COMPRESSED))
        found = self._prefer_raw([t for t in self._images if self._is_depth(t)])
        registered = [t for t in found if "aligned" in t or "registered" in t]
        if len(found) > 1 and len(registered) == 1:
            return registered[0]
        return self._one("depth", found) if found else NONE

    def camera_info(self, topic: str, image: str) -> str:
        if topic:
            return self._named("camera_info", topic, (CAMERA_INFO,))
        found = self._of((CAMERA_INFO,))
        parent = image.rpartition("/")[0]
        for sibling in (f"{parent}/camera_info", f"{parent.rpartition('/')[0]}/camera_info"):
            if sibling in found:
                return sibling
        return self._one("camera_info", found)

    def optional(self, option: str, topic: str, kinds: Sequence[str]) -> str:
        if topic == NONE:
            return NONE
        if topic:
            return self._named(option, topic, kinds)
        found = self._of(kinds)
        return self._one(option, found) if found else NONE

    def pose(self, topic: str) -> str:
        has_tf = bool(self._of((TF_MESSAGE,)))
        if topic == TF and not has_tf:
            raise BagError(f"pose: the bag has no TF; {self._listing()}")
        if topic in (NONE, TF):
            return topic
        if not topic and has_tf:
            return TF
        return self.optional("pose", topic, tuple(BY_MESSAGE_TYPE))
