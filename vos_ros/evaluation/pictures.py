"""Pictures of predicted masks: a strip of a sequence's first, middle and last frame."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8

from vos_ros.datasets.interface import VideoSequence
from vos_ros.datasets.masks import VOID
from vos_ros.evaluation.video import read_prediction
from vos_ros.geometry.boxes import boxes_of
from vos_ros.sinks.images import contact_sheet, overlay
from vos_ros.types import Track, TrackSource, TrackState

_WIDTH = 640  # px of each frame


def strip(sequence: VideoSequence, predictions: Path | str) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the first, middle and last predicted frame side by side.

    Predicted objects are tinted and outlined in their colours. The annotated outlines are white.
    Raises ValueError: no prediction.
    """
    folder = Path(predictions) / sequence.name
    frames = [f.name for f in sequence.frames if (folder / f"{f.name}.png").is_file()]
    if not frames:
        raise ValueError(f"{folder}: no prediction of a frame of {sequence.name}")
    chosen = [frames[i] for i in sorted({0, len(frames) // 2, len(frames) - 1})]
    return contact_sheet(
        [_picture(sequence, name, folder / f"{name}.png") for name in chosen],
        columns=len(chosen),
        width=_WIDTH,
        captions=[f"{sequence.name} {name}" for name in chosen],
    )


def _picture(sequence: VideoSequence, frame: str, prediction: Path) -> UInt8[np.ndarray, "H W 3"]:
    labels = read_prediction(sequence, prediction)
    tracks = [
        Track(
            i,
            i,
            0,
            TrackState.CONFIRMED,
            TrackSource.PROMPT,
            1.0,
            0,
            0,
            int(np.count_nonzero(labels == i)),
            box,
            1.0,
            0.0,
            0.0,
        )
        for i, box in boxes_of(labels, VOID - 1).items()
    ]
    index = sequence.index(frame)
    image = sequence.image(index)
    picture = np.ascontiguousarray(overlay(image, labels.astype(np.uint16), tracks))
    if sequence.frames[index].mask is not None:
        truth = sequence.mask(frame)
        for i in boxes_of(truth, VOID - 1):
            contours, _ = cv2.findContours(
                (truth == i).view(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE
            )
            cv2.drawContours(picture, contours, -1, (255, 255, 255), 1)
    return picture
