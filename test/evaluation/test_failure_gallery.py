"""Contact sheets of a made-up sequence: one object leaves and returns, another gets its name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from vos_ros.evaluation.failure_gallery import FailureGallery
from vos_ros.evaluation.metrics import overlap
from vos_ros.evaluation.record import Record
from vos_ros.types import Frame


def test_returns_and_mistakes_get_their_pictures(
    tmp_path: Path, make_frame: Callable[..., Frame]
) -> None:
    gallery, record = FailureGallery({1: "cup", 2: "bowl"}), Record()
    for t in range(8):
        frame = make_frame(t, 60, 80, stamp_ns=t * 10**9)
        truth, labels = np.zeros((60, 80), np.uint8), np.zeros((60, 80), np.uint16)
        truth[5:25, 40:60], labels[5:25, 40:60] = 2, 12
        if t not in (2, 3, 4):
            truth[30:50, 10:30], labels[30:50, 10:30] = 1, 11
        names = {11: 1, 12: 1 if t == 6 else 2}
        record.add(frame.stamp_ns, overlap(labels, truth), names, (1, 2))
        gallery.add(frame, labels, truth, names, record)
    assert [p.name for p in gallery.write(tmp_path / "sheets")] == [
        "returns_1.png",
        "mistakes_1.png",
    ]
    sheet = cv2.imread(str(tmp_path / "sheets" / "returns_1.png"))
    assert sheet is not None and sheet.shape == (300, 1208, 3), (
        "one row: before, after, a second later"
    )
    for left in (0, 404, 808):
        assert (sheet[145:255, left + 45 : left + 155] == 255).all(2).any(), (
            "the object's true outline is white"
        )


def test_a_return_that_is_cut_short_stays_dark(
    tmp_path: Path, make_frame: Callable[..., Frame]
) -> None:
    gallery, record = FailureGallery({1: "cup"}), Record()
    for t in (0, 5):
        truth = np.zeros((60, 80), np.uint8)
        truth[30:50, 10:30] = 1
        record.add(t * 10**9, overlap(truth, truth), {1: 1}, (1,))
        gallery.add(make_frame(t, 60, 80), truth.astype(np.uint16), truth, {1: 1}, record)
    sheet = cv2.imread(str(gallery.write(tmp_path)[0]))
    assert (
        sheet is not None
        and sheet.shape == (300, 1208, 3)
        and sheet[:, 404:804].any()
        and not sheet[:, 808:].any()
    )


def test_who_is_back_and_not_known_is_shown_too(
    tmp_path: Path, make_frame: Callable[..., Frame]
) -> None:
    gallery, record = FailureGallery({1: "cup"}), Record()
    for t, name in ((0, 1), (5, 0)):
        truth = np.zeros((60, 80), np.uint8)
        truth[30:50, 10:30] = 1
        record.add(t * 10**9, overlap(truth, truth), {1: name}, (1,))
        gallery.add(make_frame(t, 60, 80), truth.astype(np.uint16), truth, {1: name}, record)
    assert [p.name for p in gallery.write(tmp_path)] == ["unknown_1.png"]
