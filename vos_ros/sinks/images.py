"""Draws results for people: overlays, label images, a contact sheet."""

from __future__ import annotations

import colorsys
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Self

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16

from vos_ros.geometry.masks import inner_point
from vos_ros.types import UNKNOWN_LABEL, Association, Frame, FrameResult, Track

_GOLDEN_RATIO = 0.6180339887498949
"""Step of the hue from one track id to the next, in turns: neighbours get distant colours."""
_TONES = ((0.9, 1.0), (0.5, 1.0), (0.85, 0.7), (0.75, 0.5), (0.35, 0.8))
"""Saturation and value, taken in turn by track id."""
_FONT = cv2.FONT_HERSHEY_SIMPLEX


@lru_cache(maxsize=4096)
def track_color(track_id: int) -> tuple[int, int, int]:
    """Give the colour of a track, RGB 0..255, by its id alone; those of neighbouring ids differ."""
    saturation, value = _TONES[track_id % len(_TONES)]
    r, g, b = colorsys.hsv_to_rgb(track_id * _GOLDEN_RATIO % 1.0, saturation, value)
    return round(255 * r), round(255 * g), round(255 * b)


def overlay(
    rgb: UInt8[np.ndarray, "H W 3"],
    labels: UInt16[np.ndarray, "H W"],
    tracks: Iterable[Track],
    associations: Iterable[Association] = (),
    opacity: float = 0.45,
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the instances over an image: tinted in the track's colour, outlined, and marked by id.

    The mark is the track's id, or ``track>map object`` where it has one.

    Args:
        rgb: the image.
        labels: label image.
        tracks: tracks of the label values.
        associations: give the map objects of the tracks.
        opacity: share of the tint, 0..1.
    """
    named = {a.track_id: a.map_object_id for a in associations if a.track_id and a.map_object_id}
    shown = [t for t in tracks if t.area_px > 0]
    colors = np.zeros((65536, 3), np.uint8)
    for t in shown:
        colors[t.label_value] = track_color(t.track_id)
    tint = colors[labels]
    on = (labels > 0) & (labels != UNKNOWN_LABEL)
    picture = np.where(on[:, :, None], cv2.addWeighted(rgb, 1.0 - opacity, tint, opacity, 0.0), rgb)
    edge = _edges(labels)
    picture[edge & on] = tint[edge & on]
    picture[edge & ~on & (cv2.dilate(on.astype(np.uint8), np.ones((3, 3), np.uint8)) > 0)] = (
        0  # a dark rim on bright ground
    )
    scale = max(0.35, 0.45 * rgb.shape[1] / 640)
    for t in shown:
        text = f"{t.track_id}>{named[t.track_id]}" if t.track_id in named else f"{t.track_id}"
        _mark(picture, labels, t, text, scale)
    return picture


def _edges(labels: UInt16[np.ndarray, "H W"]) -> np.ndarray:
    """Find the pixels with a 4-neighbour of another value, on both sides of a border, (H,W)."""
    edge = np.zeros(labels.shape, bool)
    across, down = labels[:, 1:] != labels[:, :-1], labels[1:] != labels[:-1]
    edge[:, 1:] |= across
    edge[:, :-1] |= across
    edge[1:] |= down
    edge[:-1] |= down
    return edge


def _mark(
    picture: UInt8[np.ndarray, "H W 3"],
    labels: UInt16[np.ndarray, "H W"],
    track: Track,
    text: str,
    scale: float,
) -> None:
    """Write the text centred on the pixel of the track that is farthest from its outline."""
    x0, y0, x1, y1 = track.roi
    mask = labels[y0:y1, x0:x1] == track.label_value
    if not mask.any():
        return
    x, y = inner_point(mask)
    (w, h), _ = cv2.getTextSize(text, _FONT, scale, 1)
    left = min(max(x0 + x - w // 2, 1), max(picture.shape[1] - w - 1, 1))
    base = min(max(y0 + y + h // 2, h + 1), picture.shape[0] - 2)
    _write(picture, text, left, base, scale)


def _write(
    picture: UInt8[np.ndarray, "H W 3"], text: str, left: int, base: int, scale: float
) -> None:
    """Write white text with a black rim.

    The rim is made of shifted copies: a thicker pen changes the width of the glyphs (OpenCV 5).
    """
    for dx, dy in ((-1, -1), (-1, 1), (1, -1), (1, 1)):
        cv2.putText(picture, text, (left + dx, base + dy), _FONT, scale, (0, 0, 0), 1, cv2.LINE_AA)
    cv2.putText(picture, text, (left, base), _FONT, scale, (255, 255, 255), 1, cv2.LINE_AA)


def contact_sheet(
    images: Sequence[UInt8[np.ndarray, "H W 3"]],
    columns: int = 4,
    width: int = 320,
    captions: Sequence[str] = (),
) -> UInt8[np.ndarray, "S T 3"]:
    """Put RGB images side by side, row by row.

    Args:
        images: RGB images.
        columns: number of images in a row.
        width: width of each in the sheet, px.
        captions: texts of the first images.

    Raises ValueError: there are no images.
    """
    if not images:
        raise ValueError("a contact sheet of no images: give at least one")
    height = max(round(i.shape[0] * width / i.shape[1]) for i in images)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = np.zeros((rows * (height + 4) - 4, columns * (width + 4) - 4, 3), np.uint8)
    for n, image in enumerate(images):
        small = cv2.resize(
            image,
            (width, round(image.shape[0] * width / image.shape[1])),
            interpolation=cv2.INTER_AREA,
        )
        if n < len(captions):
            _write(small, captions[n], 5, 15, 0.45)
        y, x = n // columns * (height + 4), n % columns * (width + 4)
        sheet[y : y + small.shape[0], x : x + width] = small
    return sheet


def write_png(path: Path, image: np.ndarray) -> None:
    """Write an RGB u8 (H,W,3) or a grey u8 or u16 (H,W) image as PNG. Raises OSError."""
    ok, data = cv2.imencode(".png", image[:, :, ::-1] if image.ndim == 3 else image)
    if not ok:
        raise OSError(f"{path}: OpenCV cannot encode {image.dtype} of shape {image.shape} as PNG")
    path.write_bytes(data.tobytes())


class ImageSink:
    """Writes ``overlay/NNNNNN.png`` by frame index, and ``contact_sheet.png`` on close.

    Args:
        folder: where the images go.
        labels: write ``labels/NNNNNN.png`` (16 bits), too.
        sheet: largest number of overlays in the contact sheet, evenly spread over the run.
    """

    def __init__(self, folder: Path | str, *, labels: bool = False, sheet: int = 12) -> None:
        self.folder = Path(folder)
        self._labels, self._sheet = labels, sheet
        self._written: list[tuple[Path, str]] = []
        for name in ("overlay", "labels") if labels else ("overlay",):
            (self.folder / name).mkdir(parents=True, exist_ok=True)

    def write(self, frame: Frame, result: FrameResult) -> None:
        """Write the images of one frame."""
        labels = result.labels()
        path = self.folder / "overlay" / f"{frame.index:06d}.png"
        write_png(path, overlay(frame.rgb, labels, result.tracks, result.associations))
        self._written.append((path, f"frame {frame.index}"))
        if self._labels:
            write_png(self.folder / "labels" / path.name, labels)

    def close(self) -> None:
        """Write the contact sheet, where there was a frame."""
        if self._written and self._sheet:
            places = (
                np.linspace(0, len(self._written) - 1, min(self._sheet, len(self._written)))
                .round()
                .astype(int)
            )
            chosen = [self._written[i] for i in places]
            images = [
                np.asarray(cv2.imread(str(path), cv2.IMREAD_COLOR))[:, :, ::-1]
                for path, _ in chosen
            ]
            write_png(
                self.folder / "contact_sheet.png",
                contact_sheet(images, captions=[c for _, c in chosen]),
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
