"""Overlays, label images, contact sheets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from vos_ros.sinks.images import ImageSink, contact_sheet, overlay, track_color
from vos_ros.types import UNKNOWN_LABEL, Frame, FrameResult


def test_colours_are_stable_and_tell_neighbours_apart() -> None:
    assert track_color(1) == track_color(1)
    colors = np.array([track_color(i) for i in range(1, 30)], float)
    apart = np.linalg.norm(colors[:, None] - colors[None], axis=2) + 1e9 * np.eye(len(colors))
    assert apart.min() > 20
    assert min(np.linalg.norm(colors[i] - colors[i + 1]) for i in range(len(colors) - 1)) > 100


def test_overlay_tints_only_the_instances(
    make_frame: Callable[..., Frame], make_result: Callable[..., FrameResult]
) -> None:
    frame = make_frame(0, 120, 160)
    labels = np.zeros((120, 160), np.uint16)
    labels[20:60, 20:80] = 500
    labels[100:, :] = UNKNOWN_LABEL
    result = make_result(frame, labels, {500: (7, 3), 501: (8, 0)})
    before = frame.rgb.copy()
    picture = overlay(frame.rgb, labels, result.tracks, result.associations)
    assert (
        (frame.rgb == before).all()
        and picture.dtype == np.uint8
        and picture.shape == frame.rgb.shape
    )
    assert (picture[62:, :] == frame.rgb[62:, :]).all()
    assert (picture[30, 20] == track_color(7)).all()
    assert (picture[30, 19] == 0).all() and (picture[30, 18] == frame.rgb[30, 18]).all()
    want = 0.55 * frame.rgb[22, 22].astype(float) + 0.45 * np.array(track_color(7))
    assert np.abs(picture[22, 22] - want).max() <= 1
    inside = picture[30:50, 30:70]
    assert (inside > 225).all(2).any() and (inside < 30).all(2).any(), (
        "the id is written inside, white with a black rim"
    )


def test_overlay_of_nothing_and_of_one_pixel(
    make_frame: Callable[..., Frame], make_result: Callable[..., FrameResult]
) -> None:
    frame = make_frame(1)
    labels = np.zeros(frame.shape, np.uint16)
    assert (overlay(frame.rgb, labels, ()) == frame.rgb).all()
    labels[0, 0] = 1
    assert (
        overlay(frame.rgb, labels, make_result(frame, labels, {1: (1, 1)}).tracks).shape
        == frame.rgb.shape
    )


def test_contact_sheet_lays_out_rows() -> None:
    images = [np.full((48, 64, 3), i * 20, np.uint8) for i in range(1, 6)]
    sheet = contact_sheet(images, columns=3, width=32)
    assert sheet.shape == (2 * 28 - 4, 3 * 36 - 4, 3)
    assert (
        (sheet[10, 5] == 20).all()
        and (sheet[10, 36 + 5] == 40).all()
        and (sheet[28 + 10, 5] == 80).all()
    )
    assert (sheet[28 + 10, 72 + 5] == 0).all()
    with pytest.raises(ValueError, match="no images"):
        contact_sheet([])


def test_image_sink_writes_by_index(
    tmp_path: Path, make_frame: Callable[..., Frame], make_result: Callable[..., FrameResult]
) -> None:
    labels = np.zeros((48, 64), np.uint16)
    labels[5:20, 5:30] = 60000
    with ImageSink(tmp_path, labels=True, sheet=2) as sink:
        for i in (0, 3, 12):
            frame = make_frame(i)
            sink.write(frame, make_result(frame, labels, {60000: (i + 1, 1)}))
    assert sorted(p.name for p in (tmp_path / "overlay").iterdir()) == [
        "000000.png",
        "000003.png",
        "000012.png",
    ]
    assert (cv2.imread(str(tmp_path / "labels/000003.png"), cv2.IMREAD_UNCHANGED) == labels).all()
    sheet = cv2.imread(str(tmp_path / "contact_sheet.png"))
    assert sheet is not None and sheet.shape[1] == 2 * 324 - 4
