"""Fixtures that every test may use."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from support.golden import Sampled, mark_golden_tests, refuse_skipped_golden_test
from support.golden import read as read_golden

from vos_ros.types import (
    Association,
    AssociationStatus,
    Frame,
    FrameResult,
    Intrinsics,
    Observation,
    Segmentation,
    Track,
    TrackSource,
    TrackState,
)

# A shell that starts us in the background leaves SIGINT ignored, and what we start inherits that: no test could press Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_golden_tests(items)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    refuse_skipped_golden_test(item, outcome.get_result())


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The team's real data; the product never needs it, so a checkout without it skips these tests."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real data (shared/data beside the checkout) is not on this machine")
    return SHARED / "data"


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, np.ndarray | Sampled]]:
    """``golden("lwl/merge")``: the arrays of a file of golden numbers, large ones as samples."""
    return read_golden


@pytest.fixture(scope="session")
def shared_tools() -> Path:
    """The team's independent checkers."""
    if not (SHARED / "tools").is_dir():
        pytest.skip(
            "the independent checkers (shared/tools beside the checkout) are not on this machine"
        )
    return SHARED / "tools"


@pytest.fixture(scope="session")
def make_frame() -> Callable[..., Frame]:
    """``make_frame(index, height, width, **fields)``: a frame of noise seeded by its index, at 10 Hz."""

    def build(index: int = 0, height: int = 48, width: int = 64, **fields: object) -> Frame:
        rgb = np.random.default_rng(index).integers(0, 256, (height, width, 3), np.uint8)
        given = {
            "index": index,
            "stamp_ns": index * 100_000_000,
            "rgb": rgb,
            "depth": np.full((height, width), 1.5, np.float32),
            "intrinsics": Intrinsics(50.0, 50.0, width / 2, height / 2, width, height),
            "T_map_camera": np.eye(4),
        }
        return Frame(**{**given, **fields})  # type: ignore[arg-type]

    return build


@pytest.fixture(scope="session")
def make_result() -> Callable[..., FrameResult]:
    """``make_result(frame, labels, {label value: (track id, map object id)})``: what a pipeline says that paints exactly this."""

    def build(
        frame: Frame, labels: np.ndarray, named: Mapping[int, tuple[int, int]]
    ) -> FrameResult:
        ids = tuple(track for track, _ in named.values())
        probs = torch.from_numpy(
            np.stack(
                [np.isin(labels, list(named), invert=True), *(labels == v for v in named)]
            ).astype(np.float32)
        )
        tracks, associations = [], []
        for value, (track, map_object) in named.items():
            ys, xs = np.nonzero(labels == value)
            roi = (
                (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)
                if len(xs)
                else (0, 0, 0, 0)
            )
            tracks.append(
                Track(
                    track,
                    value,
                    3,
                    TrackState.CONFIRMED,
                    TrackSource.MAP,
                    0.9,
                    5,
                    0,
                    len(xs),
                    roi,
                    0.7,
                    0.2,
                    0.1,
                )
            )
            associations.append(
                Association(
                    track, map_object, AssociationStatus.MATCHED, 0.8, related_ids=(track, 77)
                )
            )
        observations = tuple(
            Observation(
                i, np.zeros((1, 3), np.float32), np.array([1.0, 2.0, 3.0]), np.eye(3), None, 0.9
            )
            for i in ids[:1]
        )
        return FrameResult(
            frame.stamp_ns,
            Segmentation(ids, probs),
            tuple(tracks),
            (),
            observations,
            tuple(associations),
            map_session_id="kitchen",
            map_revision=7,
            T_map_camera=frame.T_map_camera,
            pose_cov=frame.pose_cov,
            timings_ms={"segmentation": 2.0, "total": 3.0},
        )

    return build


@pytest.fixture(scope="session")
def davis_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DAVIS' folders with two sequences of eight 96x64 frames, both in the list val: ``pair`` has objects 1 and 2 that move towards
    each other, ``solo`` has one."""
    root = tmp_path_factory.mktemp("davis") / "DAVIS"
    rng = np.random.default_rng(8)
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/val.txt").write_text("pair\nsolo\n")
    for name, count in (("pair", 2), ("solo", 1)):
        images, masks = root / "JPEGImages/480p" / name, root / "Annotations/480p" / name
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        ground = rng.integers(90, 130, (64, 96, 3), np.uint8)
        for t in range(8):
            image, mask = ground.copy(), np.zeros((64, 96), np.uint8)
            for i, (x, y, color) in enumerate(
                ((20 + 2 * t, 12, (40, 60, 220)), (60 - 2 * t, 40, (60, 220, 40)))[:count], start=1
            ):
                mask[y : y + 18, x : x + 22] = i
                image[mask == i] = np.array(color) - rng.integers(0, 30, (18 * 22, 3))
            cv2.imwrite(str(images / f"{t:05d}.jpg"), image)
            cv2.imwrite(str(masks / f"{t:05d}.png"), mask)
    return root
