"""Messages that are wrong in every way that their types allow, and a node in this process for them.

Structure-aware: some fields of a right message get values that programs send by mistake or on
purpose. Byte-mutated: some bytes of its CDR are changed, and what can still be read is sent.
"""

from __future__ import annotations

import array
import copy
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import psutil
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CompressedImage
from tf2_msgs.msg import TFMessage

from support import squares
from vos_ros.config import NodeConfig
from vos_ros.messages.geometry import transform_stamped_message
from vos_ros.messages.images import frame_messages
from vos_ros.messages.map_objects import map_objects_message
from vos_ros.messages.pose_sources import BY_NAME
from vos_ros.messages.stamps import header_message
from vos_ros.msg import Prompt
from vos_ros.ros.common.message_factory import make
from vos_ros.ros.common.pose_topics import pose_message
from vos_ros.srv import AddObjects, RemoveObjects
from vos_ros.types import MapUpdate

_OF_A_FRAME = ("tf", "pose", "camera_info", "depth", "image")
"""Inputs whose messages of one stamp make a frame, in the order in which they are sent."""
_INTEGERS = (0, 1, -1, 2, 3, 7, 12, 255, 256, 2**15, 2**16, 2**31 - 4, 2**31 - 1, 2**31, 2**32 - 1)
_FLOATS = (
    0.0,
    -0.0,
    1.0,
    -1.0,
    1e-300,
    1e-30,
    1e-3,
    1e3,
    1e8,
    3e38,
    1e300,
    np.nan,
    np.inf,
    -np.inf,
)
_TEXTS = (
    *("", "/", "map", "/a/b", "camera_optical"),
    *("a\nb", "\x1b[31m", "\x00", "x" * 300, "é" * 50),
)


def right_messages(
    stamp_ns: int, revision: int, rng: np.random.Generator, config: NodeConfig
) -> dict[str, Any]:
    """One right message of every input of a node, by its key; requests of services too."""
    frame = squares.frame_at(stamp_ns, revision % 7)
    image, info, depth = frame_messages(make, frame)
    if config.image_transport == "compressed":
        kind = "jpg" if rng.random() < 0.5 else "png"
        image = _compressed(image.header, "rgb8; jpeg compressed bgr8", kind, frame.rgb)
    if config.depth_transport == "compressed":
        millimetres = (1000 * frame.depth).astype(np.uint16)
        depth = _compressed(depth.header, "16UC1; compressedDepth png", "png", millimetres)
    head = header_message(make, stamp_ns, "map")
    pose = transform_stamped_message(make, head, frame.frame_id, frame.T_map_camera)
    merged = ((5, 6), (7, 8)) if rng.random() < 0.3 else ()
    update = MapUpdate(
        stamp_ns, "mapper", revision, bool(rng.random() < 0.6), squares.map_objects(), (9,), merged
    )
    mask = np.zeros((squares.H, squares.W), np.uint8)
    mask[20:40, 30:60] = 1
    prompts = [
        Prompt(kind=Prompt.BOX, box_xyxy=[5.0, 5.0, 40.0, 40.0]),
        Prompt(kind=Prompt.POINTS, points_xy=[20.0, 45.0], points_positive=[True]),
    ]
    poses = {}
    if config.pose_source in BY_NAME and BY_NAME[config.pose_source].message_type:
        source = BY_NAME[config.pose_source]
        poses["pose"] = pose_message(source, head, frame.T_map_camera, None, frame.frame_id)
    return {
        "image": image,
        "camera_info": info,
        "depth": depth,
        "map_objects": map_objects_message(make, update),
        "tf": TFMessage(transforms=[pose]),
        **poses,
        "add_objects": AddObjects.Request(prompts=[prompts[int(rng.integers(2))]]),
        "remove_objects": RemoveObjects.Request(track_ids=[int(rng.integers(0, 9))]),
    }


def _compressed(header: Any, format: str, kind: str, pixels: np.ndarray) -> CompressedImage:
    ok, data = cv2.imencode(f".{kind}", pixels)
    assert ok
    prefix = bytes(12) if "compressedDepth" in format else b""
    return CompressedImage(
        header=header, format=format, data=array.array("B", prefix + data.tobytes())
    )


def mutated(message: Any, rng: np.random.Generator) -> Any:
    """Return a copy with one to four fields changed, at any depth."""
    out = copy.deepcopy(message)
    places = list(_places(out))
    for _ in range(int(rng.integers(1, 5))):
        owner, name, type_name = places[int(rng.integers(len(places)))]
        value = _changed(getattr(owner, name), type_name, rng)
        # the setter of the type would refuse what another language's client may send
        setattr(owner, f"_{name}", value)
    try:
        return deserialize_message(serialize_message(out), type(out))
    except Exception:  # not to be sent
        return message


def byte_mutated(message: Any, rng: np.random.Generator) -> Any:
    """Return what is read from the message's CDR after some bytes were changed."""
    data = bytearray(serialize_message(message))
    for _ in range(int(rng.integers(1, 9))):
        data[int(rng.integers(4, len(data)))] = int(rng.choice([0, 1, 127, 128, 255]))
    if rng.random() < 0.1:
        del data[int(rng.integers(4, len(data))) :]
    try:
        return deserialize_message(bytes(data), type(message))
    except Exception:  # rclpy drops it, too
        return message


def _places(message: Any) -> Iterator[tuple[Any, str, str]]:
    """Every field of a message and of those in it: owner, name, type."""
    for name, type_name in message.get_fields_and_field_types().items():
        value = getattr(message, name)
        yield message, name, type_name
        parts = value if isinstance(value, list) else [value]
        for part in parts[:3]:
            if hasattr(part, "get_fields_and_field_types"):
                yield from _places(part)


def _changed(value: Any, type_name: str, rng: np.random.Generator) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return _fitting(int(rng.choice(np.array(_INTEGERS, object))), type_name)
    if isinstance(value, float):
        return float(rng.choice(np.array(_FLOATS)))
    if isinstance(value, str):
        return _TEXTS[int(rng.integers(len(_TEXTS)))]
    if isinstance(value, array.array):
        return _changed_array(value, rng)
    if isinstance(value, np.ndarray):
        out = value.copy()
        out[int(rng.integers(len(out)))] = float(rng.choice(np.array(_FLOATS)))
        return out
    if isinstance(value, list):
        return (value * 3)[: int(rng.integers(0, 2 * len(value) + 1))]
    return value


def _fitting(value: int, type_name: str) -> int:
    """Wrap an integer into its type."""
    bits = int("".join(c for c in type_name if c.isdigit()) or 8)
    value %= 2**bits
    return value - 2**bits if not type_name.startswith("u") and value >= 2 ** (bits - 1) else value


def _changed_array(value: array.array[Any], rng: np.random.Generator) -> array.array[Any]:
    out = array.array(value.typecode, value)
    kind = int(rng.integers(4))
    if kind == 0 or not out:
        return out[: int(rng.integers(0, len(out) + 1))]
    if kind == 1:
        return out + out
    at = int(rng.integers(len(out)))
    if out.typecode in "fd":
        out[at] = float(rng.choice(np.array(_FLOATS)))
    else:
        top = 2 ** (8 * out.itemsize - (0 if out.typecode.isupper() else 1)) - 1
        out[at] = int(min(top, int(rng.choice(np.array(_INTEGERS[3:], object)))))
    return out


@dataclass
class Report:
    """What a run of messages has done to the node."""

    sent: Counter[str] = field(default_factory=Counter)
    """Messages by input."""
    refused: Counter[str] = field(default_factory=Counter)
    """Messages that were refused, by input."""
    errors: Counter[str] = field(default_factory=Counter)
    """What callbacks and jobs have raised, by their names."""
    failed_frames: int = 0
    """Frames whose processing raised."""
    slowest_s: float = 0.0
    """Largest processor time for one message, s: other work on the machine must not count."""
    longest_wait_s: float = 0.0
    """Longest time by the clock until the worker was idle after a message, s."""
    slowest: str = ""
    """Its input."""
    grown_mib: float = 0.0
    """Growth of the resident memory after the first tenth, MiB."""
    answered: int = 0
    """Good frames that were answered, of those that were asked at the end of each round."""
    asked: int = 0
    """Good frames that were sent at the end of each round."""


def run(
    node: Any, count: int, seed: int, progress: Callable[[int], None] = lambda done: None
) -> Report:
    """Give a configured and active node of this process many wrong messages.

    Args:
        node: the perception node; nothing spins it.
        count: number of messages.
        seed: names them.
        progress: is told how many are done.
    """
    rng, report, process = np.random.default_rng(seed), Report(), psutil.Process()
    stream = node.stream
    inputs = stream.inputs
    buffer = getattr(inputs.poses, "tf", inputs.poses).buffer
    config = stream.config.node
    base_mib, stamp_ns = 0.0, squares.START

    def send(key: str, message: Any) -> None:
        if key == "tf":
            for t in message.transforms:
                buffer.set_transform(t, "fuzz")
        elif key == "add_objects":
            stream.worker.call(key, lambda: stream.add_objects(message))
        elif key == "remove_objects":
            stream.worker.call(key, lambda: stream.remove_objects(message))
        else:
            inputs.subscriptions[key].handle.callback(message)

    for index in range(count):
        stamp_ns += squares.STEP
        messages = right_messages(stamp_ns, index + 2, rng, config)
        key = list(messages)[int(rng.integers(len(messages)))]
        change = mutated if rng.random() < 0.6 else byte_mutated
        wrong = change(messages[key], rng)
        began, wall = time.process_time(), time.perf_counter()
        if key in _OF_A_FRAME:  # with the others that belong to it, so that it is used
            for name in _OF_A_FRAME:
                if name in messages:
                    send(name, wrong if name == key else messages[name])
        else:
            send(key, wrong)
        stream.worker.wait_idle(60.0)
        took = time.process_time() - began
        waited = time.perf_counter() - wall
        report.longest_wait_s = max(report.longest_wait_s, waited)
        report.sent[key] += 1
        if took > report.slowest_s:
            report.slowest_s, report.slowest = took, key
        if index % 100 == 99:  # good frames; after a jump of time the first may lack its depth
            before = stream.published.count
            for _ in range(2):
                stamp_ns += squares.STEP
                good = right_messages(stamp_ns, 10**6 + index, rng, config)
                for name in ("map_objects", *_OF_A_FRAME):
                    if name in good:
                        send(name, good[name])
                stream.worker.wait_idle(60.0)
            report.asked += 1
            report.answered += stream.published.count > before
            progress(index + 1)
        if index == count // 10:
            base_mib = process.memory_info().rss / 2**20
    report.grown_mib = process.memory_info().rss / 2**20 - base_mib
    report.refused = Counter({k: s.refused for k, s in inputs.subscriptions.items() if s.refused})
    report.refused += Counter(map_content=stream.map_refused, frame=stream.rejected)
    report.errors = Counter(node.guard.counts)
    report.failed_frames = stream.worker.counts.failed
    return report
