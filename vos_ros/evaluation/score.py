"""Read recorded results and ground truth from files, and score one against the other."""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from rosbags.highlevel import AnyReader
from rosbags.highlevel.anyreader import AnyReaderError
from rosbags.interfaces import Connection
from rosbags.rosbag2 import ReaderError

from vos_ros.datasets.masks import Ids, read_ids, read_mask
from vos_ros.datasets.registry import data_sets, open_one
from vos_ros.evaluation.metrics import (
    FrameScore,
    by_object,
    only_known,
    overlap,
    score_frame,
    summarise,
)
from vos_ros.messages.definitions import typestore
from vos_ros.messages.encodings import DecodeError
from vos_ros.messages.images import pixels_from_message
from vos_ros.messages.stamps import ns_from_stamp

STAMP_TOLERANCE_NS = 1_000_000
_DURATION = re.compile(r" \(for [\d.]+ s\)$")
"""End of a condition on /diagnostics."""
_ENDS = ("/labels", "/instances", "/associations")


@dataclass(frozen=True, slots=True)
class Truth:
    """Ground truth of a recording."""

    stamps_ns: tuple[int, ...]
    """Stamp of each frame."""
    masks: tuple[Path, ...]
    """Mask file of each frame: pixel value = object id, 255 = ignore."""
    names: dict[int, str]
    """Name by object id."""
    alike: dict[int, str] = field(default_factory=dict)
    """Group of look-alikes by object id."""
    removed_ns: dict[int, int] = field(default_factory=dict)
    """When an object was taken away, by its id."""
    read_ids: Callable[[Path], Ids] = read_mask
    """Reads a file of ``masks``."""

    def mask(self, position: int) -> UInt8[np.ndarray, "H W"]:
        """Read the mask of a frame. Raises ValueError: it can't be read, or has over 8 bits."""
        ids = self.read_ids(self.masks[position])
        if ids.dtype != np.uint8:
            raise ValueError(
                f"{self.masks[position]}: got ids of {ids.dtype}, wanted 8 bits to score against"
            )
        return ids


@dataclass(frozen=True, slots=True)
class Score:
    """Scores of a bag against a truth."""

    truth: Truth
    """The truth."""
    frames: tuple[FrameScore | None, ...]
    """Score of each of its frames; None where the bag has no answer."""

    @property
    def scored(self) -> list[FrameScore]:
        """Return the scored frames, in order."""
        return [f for f in self.frames if f is not None]

    def figures(self) -> dict[str, float | int]:
        """Return flat figures of the whole; see ``metrics``."""
        return {
            "frames": len(self.frames),
            "frames_scored": len(self.scored),
            **summarise(self.scored),
        }

    def write_csv(self, path: Path | str) -> None:
        """Write a table of the objects that ever count.

        Columns: id, name, frames, mean_iou, recall, association_accuracy, id_switches.
        """
        with open(path, "w", newline="") as f:
            writer = csv.writer(f, lineterminator="\n")
            writer.writerow(
                [
                    "id",
                    "name",
                    "frames",
                    "mean_iou",
                    "recall",
                    "association_accuracy",
                    "id_switches",
                ]
            )
            for o, s in by_object(self.scored).items():
                writer.writerow(
                    [
                        o,
                        self.truth.names.get(o, ""),
                        s["frames"],
                        *(f"{s[k]:.6f}" for k in ("mean_iou", "recall", "association_accuracy")),
                        s["id_switches"],
                    ]
                )


def read_truth(folder: Path | str) -> Truth:
    """Read the stamps, the mask files and the objects of a recording whose frames are annotated.

    Raises FileNotFoundError: no such folder. Raises ValueError: no data set with masks, no masks
    with stamps, or nothing about the objects.
    """
    sequence = open_one(folder, data_sets(has_masks=True))
    annotated = [(f.stamp_ns, f.mask) for f in sequence.frames if f.mask and f.stamp_ns is not None]
    lacking = "masks with stamps" if not annotated else "objects"
    if not annotated or (not sequence.objects and sequence.read_map is None):
        raise ValueError(
            f"{folder}: no {lacking}; wanted a ground-truth folder with frames.csv (columns stamp,"
            " mask) and objects.json, or another data set whose sequences have as much (objects"
            " or read_map)"
        )
    return Truth(
        tuple(stamp for stamp, _ in annotated if stamp is not None),
        tuple(mask for _, mask in annotated if mask is not None),
        {o.id: o.name for o in sequence.objects},
        {o.id: o.alike_group for o in sequence.objects if o.alike_group},
        {o.id: o.removed_ns for o in sequence.objects if o.removed_ns is not None},
        read_mask if sequence.read_ids is read_ids else sequence.read_ids,
    )


def score_bag(
    bag: Path | str, truth: Truth, object_of_track: Mapping[int, int] | None = None
) -> Score:
    """Score the topics .../labels, .../instances, .../associations of a bag, joined by stamp.

    ``object_of_track`` names the objects of tracks in place of the associations.

    A frame of the truth takes the answer with the nearest stamp within 1 ms. Without labels,
    instances and associations there it is not scored. The bag is read twice, so that never more
    than one label image is in memory. Raises ValueError: no such topics, wrong encoding or size.
    """
    with _open(Path(bag)) as (reader, topics):
        named, stamps = _read_names(reader, topics, object_of_track)
        wanted = _match(truth, np.array(sorted(stamps), np.int64))
        scores: list[FrameScore | None] = [None] * len(truth.masks)
        for connection, _, raw in reader.messages(topics["/labels"]):
            msg: Any = reader.deserialize(raw, connection.msgtype)
            stamp = ns_from_stamp(msg.header.stamp)
            if stamp not in wanted or stamp not in named:
                continue
            labels = _labels(msg, connection.topic)
            for place in wanted[stamp]:
                try:
                    counts = overlap(labels, truth.mask(place))
                except ValueError as e:
                    raise ValueError(f"{connection.topic} against {truth.masks[place]}: {e}") from e
                scores[place] = score_frame(counts, only_known(named[stamp], truth.names))
    return Score(truth, tuple(scores))


def first_tracks(bag: Path | str, truth: Truth) -> dict[int, int]:
    """Return the object that each track of a bag lies on mostly, where the track is seen first.

    0: mostly on none. Frames are joined as by ``score_bag``. Raises ValueError as it does.
    """
    objects: dict[int, int] = {}
    with _open(Path(bag)) as (reader, topics):
        values: dict[int, dict[int, int]] = {}
        for connection, _, raw in reader.messages(topics["/instances"]):
            msg: Any = reader.deserialize(raw, connection.msgtype)
            values[ns_from_stamp(msg.header.stamp)] = {
                int(i.label_value): int(i.track_id) for i in msg.instances
            }
        wanted = _match(truth, np.array(sorted(values), np.int64))
        for connection, _, raw in reader.messages(topics["/labels"]):
            msg = reader.deserialize(raw, connection.msgtype)
            stamp = ns_from_stamp(msg.header.stamp)
            for place in wanted.get(stamp, []):
                labels, ids = _labels(msg, connection.topic), truth.mask(place)
                for value, track in values[stamp].items():
                    under = ids[labels == value]
                    if len(under) and track not in objects:
                        objects[track] = int(np.bincount(under).argmax())
    return objects


def read_findings(bag: Path | str) -> dict[str, int]:
    """Count the reports of each finding of the self-check in a bag's diagnostics, by its sentence.

    Empty where the bag has no diagnostics. Raises ValueError as ``score_bag``.
    """
    counts: Counter[str] = Counter()
    with _open(Path(bag)) as (reader, _):
        wanted = [c for c in reader.connections if c.msgtype.endswith("/DiagnosticArray")]
        for connection, _, raw in reader.messages(wanted) if wanted else ():
            msg: Any = reader.deserialize(raw, connection.msgtype)
            counts.update(
                _DURATION.sub("", v.value)
                for status in msg.status
                for v in status.values
                if v.key.removeprefix("problem.").startswith("self-check ")
            )
    return dict(counts)


@contextmanager
def _open(bag: Path) -> Iterator[tuple[AnyReader, dict[str, list[Connection]]]]:
    if not bag.exists():
        raise FileNotFoundError(f"{bag}: no such bag")
    try:
        with AnyReader([bag], default_typestore=typestore()) as reader:
            topics = {
                end: [c for c in reader.connections if c.topic.endswith(end)] for end in _ENDS
            }
            missing = [f"*{end}" for end, found in topics.items() if not found]
            if missing:
                present = ", ".join(sorted({c.topic for c in reader.connections}))
                raise ValueError(
                    f"{bag}: no topic {', '.join(missing)}; it has {present}."
                    " Wanted a bag of results, from vos-ros replay or recorded from the node"
                )
            yield reader, topics
    except (AnyReaderError, ReaderError) as e:
        raise ValueError(
            f"{bag}: cannot be read as a bag ({e}): it is cut short, damaged, or no bag"
        ) from e


def _read_names(
    reader: AnyReader,
    topics: dict[str, list[Connection]],
    object_of_track: Mapping[int, int] | None,
) -> tuple[dict[int, dict[int, int]], set[int]]:
    """Return the map object of each label value by stamp, and all stamps of any topic.

    A stamp has names where both instances and associations are there; 0 = none.
    """
    track_of: dict[int, dict[int, int]] = {}
    object_of: dict[int, dict[int, int]] = {}
    stamps: set[int] = set()
    for connection, _, raw in reader.messages([c for found in topics.values() for c in found]):
        msg: Any = reader.deserialize(raw, connection.msgtype)
        stamp = ns_from_stamp(msg.header.stamp)
        stamps.add(stamp)
        if connection in topics["/instances"]:
            track_of[stamp] = {int(i.label_value): int(i.track_id) for i in msg.instances}
        elif connection in topics["/associations"]:
            object_of[stamp] = (
                {int(a.track_id): int(a.map_object_id) for a in msg.associations}
                if object_of_track is None
                else dict(object_of_track)
            )
    return (
        {
            s: {v: object_of[s].get(t, 0) for v, t in tracks.items()}
            for s, tracks in track_of.items()
            if s in object_of
        },
        stamps,
    )


def _match(truth: Truth, stamps: np.ndarray) -> dict[int, list[int]]:
    """Return the positions of the truth's frames that each stamp of the bag answers."""
    out: dict[int, list[int]] = {}
    for place, want in enumerate(truth.stamps_ns if len(stamps) else ()):
        near = int(stamps[np.abs(stamps - want).argmin()])
        if abs(near - want) <= STAMP_TOLERANCE_NS:
            out.setdefault(near, []).append(place)
    return out


def _labels(msg: Any, topic: str) -> np.ndarray:
    if msg.encoding not in ("16UC1", "mono16"):
        raise ValueError(f"{topic}: encoding {msg.encoding!r}, wanted 16UC1")
    try:
        return pixels_from_message(msg)
    except DecodeError as e:
        raise ValueError(f"{topic}: {e}") from e
