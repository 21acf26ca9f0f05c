"""Pictures of identities: objects before they left and after they returned, and wrong names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16

from vos_ros.evaluation.metrics import FrameScore
from vos_ros.evaluation.record import AWAY_S, Record
from vos_ros.geometry.boxes import boxes_of
from vos_ros.sinks.images import contact_sheet, overlay, write_png
from vos_ros.types import Frame, Track, TrackSource, TrackState

_WIDTH_PX = 400
"""Width of each picture."""
_ROWS = 6
"""Rows of a sheet."""
_AROUND_S = 1.0
"""Time before an object left from which its best picture comes; time after its return until it is
shown once more, s."""
_REPEAT_S = 1.0
"""Time without a mistake after which the same one is shown again, s."""
_MAX_MISTAKES = 54

Picture = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, eq=False, slots=True)
class _Shot:
    """One picture of an object, with its time, the object's area and the caption."""

    at_s: float
    area_px: int
    picture: Picture
    caption: str


@dataclass(eq=False, slots=True)
class _Watch:
    """What has been recorded of one object so far."""

    counted_s: float
    """When it last counted."""
    lately: list[_Shot] = field(default_factory=list)
    """Pictures of the last second in which it was visible and rightly named."""
    away: tuple[float, float] | None = None
    """Of the present return: when it left and when it came back; None while it has a name."""
    row: list[_Shot] | None = None
    """Row of the sheet that waits for its last picture."""


class FailureGallery:
    """Collects pictures over a sequence.

    Masks are coloured by the map object that they were named as and carry its id. The true outline
    of the object in question is white. ``names`` are the objects' names by id.
    """

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._watched: dict[int, _Watch] = {}
        self._rows: list[list[_Shot]] = []
        self._unknown: list[_Shot] = []
        self._mistakes: list[_Shot] = []
        self._mistaken_s: dict[tuple[int, int], float] = {}

    def add(
        self,
        frame: Frame,
        labels: UInt16[np.ndarray, "H W"],
        mask: UInt8[np.ndarray, "H W"],
        names: Mapping[int, int],
        record: Record,
    ) -> None:
        """Add one frame.

        Args:
            frame: the frame, for its image.
            labels: its label image.
            mask: true object ids.
            names: map object by label value, 0 = none.
            record: the record whose last entry is this frame's score.
        """
        score, now_s = record.frames[-1], record.stamps_s[-1]
        tinted = _tinted(frame, labels, names)
        for o, s in score.objects.items():
            w = self._watched.setdefault(o, _Watch(now_s))
            if now_s - w.counted_s >= AWAY_S:
                w.away, w.row = (w.counted_s, now_s), None
            w.counted_s = now_s
            shot = self._shot(tinted, mask, o, now_s)
            if w.away is not None and s.named != o:
                self._unknown.append(
                    replace(
                        shot,
                        caption=f"{shot.caption}: back after {now_s - w.away[0]:.1f} s,"
                        " not recognised yet",
                    )
                )
            elif w.row is not None and now_s - w.row[-1].at_s >= _AROUND_S:
                w.row.append(shot)
                w.row = None
            if s.named == o:
                if w.away is not None and w.lately:
                    left_s, back_s = w.away
                    caption = (
                        f"{shot.caption}: away {back_s - left_s:.1f} s,"
                        f" recognised after {now_s - back_s:.1f} s"
                    )
                    w.row = [max(w.lately, key=lambda x: x.area_px), replace(shot, caption=caption)]
                    self._rows.append(w.row)
                    w.lately = []
                w.away = None
                w.lately = [*(x for x in w.lately if now_s - x.at_s <= _AROUND_S), shot]
        self._collect_mistakes(tinted, mask, score, now_s)

    def write(self, folder: Path | str) -> tuple[Path, ...]:
        """Write the sheets to ``folder`` and return their paths.

        ``returns_1.png``, ...: one row per return: the object before it left, in the first frame in
        which it was rightly named again, and a second later (dark where it was not visible then).
        ``unknown_1.png``, ...: objects that were back and not rightly named yet.
        ``mistakes_1.png``, ...: instances that were named as another object.
        """
        root = Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        rows = [
            shot
            for row in self._rows
            for shot in [*row, replace(row[0], picture=np.zeros_like(row[0].picture), caption="")][
                :3
            ]
        ]
        out = []
        for name, shots in (
            ("returns", rows),
            ("unknown", self._unknown),
            ("mistakes", self._mistakes),
        ):
            size = 3 * _ROWS
            for k in range(0, len(shots), size):
                some = shots[k : k + size]
                path = root / f"{name}_{k // size + 1}.png"
                write_png(
                    path,
                    contact_sheet(
                        [s.picture for s in some], 3, _WIDTH_PX, [s.caption for s in some]
                    ),
                )
                out.append(path)
        return tuple(out)

    def _collect_mistakes(
        self, tinted: Picture, mask: UInt8[np.ndarray, "H W"], score: FrameScore, now_s: float
    ) -> None:
        for o, s in score.objects.items():
            if not s.named or s.named == o:
                continue
            last_s = self._mistaken_s.get((o, s.named))
            self._mistaken_s[o, s.named] = now_s
            if (last_s is None or now_s - last_s >= _REPEAT_S) and len(
                self._mistakes
            ) < _MAX_MISTAKES:
                wrong = f"{s.named} {self._names.get(s.named, '')}".strip()
                shot = self._shot(tinted, mask, o, now_s)
                self._mistakes.append(replace(shot, caption=f"{shot.caption}: named as {wrong}"))

    def _shot(self, tinted: Picture, mask: UInt8[np.ndarray, "H W"], o: int, now_s: float) -> _Shot:
        own, picture = (mask == o).view(np.uint8), tinted.copy()
        contours, _ = cv2.findContours(own, cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, (255, 255, 255), 2)
        size = (_WIDTH_PX, round(picture.shape[0] * _WIDTH_PX / picture.shape[1]))
        small = np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA))
        return _Shot(
            now_s, int(np.count_nonzero(own)), small, f"{o} {self._names.get(o, '')}, {now_s:.1f} s"
        )


def _tinted(frame: Frame, labels: UInt16[np.ndarray, "H W"], names: Mapping[int, int]) -> Picture:
    """Return the image with every named mask in the colour of its map object, and its id on it."""
    named = np.zeros(65536, np.uint16)
    for value, name in names.items():
        named[value] = name
    ids = named[labels]
    marks = [
        Track(
            i,
            i,
            0,
            TrackState.CONFIRMED,
            TrackSource.MAP,
            1.0,
            0,
            0,
            int(np.count_nonzero(ids == i)),
            box,
            1.0,
            0.0,
            0.0,
        )
        for i, box in boxes_of(ids, int(ids.max(initial=0))).items()
    ]
    return overlay(frame.rgb, ids, marks)
