"""Pictures of identities: each object before it left and after it returned, and the moments at which a name was wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from jaxtyping import UInt8, UInt16

from vos_ros.evaluation.metrics import FrameScore
from vos_ros.evaluation.record import AWAY_S, Record
from vos_ros.geometry.boxes import boxes_of
from vos_ros.sinks.images import contact_sheet, overlay, write_png
from vos_ros.types import Frame, Track, TrackSource, TrackState

_WIDTH = 400  # px of each picture
_ROWS = 6  # returns on a sheet
_AGAIN_S = 1.0  # the same mistake is shown again after so long without it
_MOST_MISTAKES = 48

Picture = UInt8[np.ndarray, "H W 3"]


@dataclass(frozen=True, eq=False, slots=True)
class _Shot:
    picture: Picture
    caption: str


class Album:
    """Collects pictures over a sequence. ``names``: of the objects, by id. On them, masks carry the id of the map object that they were
    named as; the true outline of the object in question is white."""

    def __init__(self, names: Mapping[int, str]) -> None:
        self._names = names
        self._returns: list[tuple[_Shot, _Shot]] = []
        self._mistakes: list[_Shot] = []
        self._counted_s: dict[int, float] = {}
        self._before: dict[int, tuple[float, _Shot]] = {}
        self._waiting: dict[int, tuple[float, float, _Shot]] = {}
        self._mistaken_s: dict[tuple[int, int], float] = {}

    def add(self, frame: Frame, labels: UInt16[np.ndarray, "H W"], mask: UInt8[np.ndarray, "H W"], names: Mapping[int, int],
            record: Record) -> None:
        """A frame: its label image, the true ids, the name of each label value (0 = none), and the record with the frame's score last."""
        score, now_s = record.frames[-1], record.stamps_s[-1]
        tinted = _tinted(frame, labels, names)
        for o, s in score.objects.items():
            left_s = self._counted_s.get(o)
            if left_s is not None and now_s - left_s >= AWAY_S and o in self._before:
                self._waiting[o] = (left_s, now_s, self._before[o][1])
            self._counted_s[o] = now_s
            if s.named == o:
                shot = self._shot(tinted, mask, o, f"frame {frame.index}, {now_s - record.stamps_s[0]:.1f} s")
                if o in self._waiting:
                    gone_s, back_s, before = self._waiting.pop(o)
                    away = f"{shot.caption}, away {back_s - gone_s:.1f} s, known after {now_s - back_s:.1f} s"
                    self._returns.append((before, _Shot(shot.picture, away)))
                self._before[o] = (now_s, shot)
        self._look_for_mistakes(frame, tinted, mask, score, now_s)

    def write(self, folder: Path | str) -> tuple[Path, ...]:
        """The sheets: ``returns_1.png``, ... with each object's last frame before it left and the first after it returned in which it was
        named; ``not_recognised.png`` with the last frames of those that were not; ``mistakes_1.png``, ... with wrong names."""
        root = Path(folder)
        root.mkdir(parents=True, exist_ok=True)
        never = [_Shot(s.picture, f"{s.caption}; back, never known") for _, _, s in self._waiting.values()]
        out = []
        pairs = [shot for pair in self._returns for shot in pair]
        for name, shots, columns in (("returns", pairs, 4), ("mistakes", self._mistakes, 4), ("not_recognised", never, 4)):
            size = columns * _ROWS
            for k in range(0, len(shots), size):
                some = shots[k : k + size]
                path = root / f"{name}_{k // size + 1}.png"
                write_png(path, contact_sheet([s.picture for s in some], columns, _WIDTH, [s.caption for s in some]))
                out.append(path)
        return tuple(out)

    def _look_for_mistakes(self, frame: Frame, tinted: Picture, mask: UInt8[np.ndarray, "H W"], score: FrameScore, now_s: float) -> None:
        for o, s in score.objects.items():
            if not s.named or s.named == o:
                continue
            last_s = self._mistaken_s.get((o, s.named))
            self._mistaken_s[o, s.named] = now_s
            if (last_s is None or now_s - last_s >= _AGAIN_S) and len(self._mistakes) < _MOST_MISTAKES:
                wrong = f"{s.named} {self._names.get(s.named, '')}".strip()
                self._mistakes.append(self._shot(tinted, mask, o, f"frame {frame.index}: taken for {wrong}"))

    def _shot(self, tinted: Picture, mask: UInt8[np.ndarray, "H W"], o: int, caption: str) -> _Shot:
        picture = tinted.copy()
        contours, _ = cv2.findContours((mask == o).view(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, contours, -1, (255, 255, 255), 2)
        size = (_WIDTH, round(picture.shape[0] * _WIDTH / picture.shape[1]))
        return _Shot(np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA)), f"{o} {self._names.get(o, '')}: {caption}")


def _tinted(frame: Frame, labels: UInt16[np.ndarray, "H W"], names: Mapping[int, int]) -> Picture:
    """The frame with every named mask in the colour and with the id of the map object that it was named as."""
    named = np.zeros(65536, np.uint16)
    for value, name in names.items():
        named[value] = name
    ids = named[labels]
    marks = [Track(i, i, 0, TrackState.CONFIRMED, TrackSource.MAP, 1.0, 0, 0, int(np.count_nonzero(ids == i)), box, 1.0, 0.0, 0.0)
             for i, box in boxes_of(ids, int(ids.max(initial=0))).items()]
    return overlay(frame.rgb, ids, marks)
