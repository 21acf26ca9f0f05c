"""A recorded sequence with annotated objects."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from vos_ros.geometry import se3
from vos_ros.types import Intrinsics, MapObject


class Kitchen:
    """The recorded sequence of a kitchen, read without the product's own reader."""

    def __init__(self, root: Path) -> None:
        k = json.loads((root / "camera.json").read_text())
        self.root, self.camera = root, Intrinsics(k["fx"], k["fy"], k["cx"], k["cy"], 640, 480)
        self.rows = list(csv.DictReader((root / "frames.csv").open()))
        poses = np.loadtxt(root / "poses.txt")
        self.poses = [se3.from_quaternion(p[1:4], p[4:]) for p in poses]
        described = json.loads((root / "objects.json").read_text())
        described = described if isinstance(described, list) else described["objects"]
        self.objects = tuple(self._object(o) for o in described)

    def _object(self, o: dict) -> MapObject:
        raw = (self.root / o["ply"]).read_bytes()
        body = raw.index(b"end_header\n") + len(b"end_header\n")
        points = np.frombuffer(
            raw, np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)]), o["num_points"], body
        )["xyz"].copy()
        low, high = np.array(o["bbox_min"]), np.array(o["bbox_max"])
        return MapObject(
            o["id"], 1, se3.from_rt(np.eye(3), 0.5 * (low + high)), high - low, points, 0.0035
        )

    def depth(self, i: int) -> np.ndarray:
        """Return the depth (m, 0 unknown) of a frame."""
        return (
            cv2.imread(str(self.root / self.rows[i]["depth"]), cv2.IMREAD_UNCHANGED).astype(
                np.float32
            )
            / 1000.0
        )

    def truth(self, i: int) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """Give id, mask and counted pixels of the objects with at least 200 pixels."""
        labels = np.array(Image.open(self.root / self.rows[i]["mask"]))
        for value in np.unique(labels):
            if value not in (0, 255) and np.count_nonzero(labels == value) >= 200:
                yield int(value), labels == value, labels != 255
