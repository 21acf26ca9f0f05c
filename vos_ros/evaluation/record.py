"""Record of one way of naming over a sequence, frame by frame, and its figures."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from vos_ros.evaluation.identity_metrics import Return, Sightings, hota, idf1, returns, sightings
from vos_ros.evaluation.metrics import MATCH_IOU, FrameScore, Overlap, score_frame, summarise

AWAY_S = 2.0
"""An object has returned when it counts again after not counting for this long, s."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """Confusion within one group of look-alikes."""

    swaps: int = 0
    """Changes of the name on one of them to another one of the group."""
    wrong: int = 0
    """Frames in which the instance on one was named as another."""
    frames: int = 0
    """Frames with an instance on one of them."""


@dataclass(eq=False, slots=True)
class Record:
    """Scores of one way of naming over a sequence."""

    alike: Mapping[int, str] = field(default_factory=dict)
    """Group of look-alikes by object id."""
    frames: list[FrameScore] = field(default_factory=list)
    """Score of each frame."""
    sightings: list[Sightings] = field(default_factory=list)
    """Objects and instances of each frame."""
    stamps_s: list[float] = field(default_factory=list)
    """Time of each frame."""
    earlier_s: dict[int, float] = field(default_factory=dict)
    """When each object last counted before the first frame."""

    def before(self, earlier_s: Mapping[int, float]) -> None:
        """Set when each object last counted before the first frame."""
        self.earlier_s = dict(earlier_s)

    def add(
        self, stamp_ns: int, counts: Overlap, names: Mapping[int, int], mapped: Collection[int]
    ) -> None:
        """Add one frame.

        Args:
            stamp_ns: its stamp.
            counts: pixel counts of its label image against the truth.
            names: object id by label value, 0 = none.
            mapped: the objects that the map has.
        """
        score = score_frame(counts, names)
        self.frames.append(
            FrameScore(
                {o: s for o, s in score.objects.items() if o in mapped}, score.false_positives
            )
        )
        self.sightings.append(_of_mapped(sightings(counts, names), mapped))
        self.stamps_s.append(stamp_ns / 1e9)

    def figures(self) -> dict[str, float | int]:
        """Return the figures of the sequence.

        f1, precision, recall, id_switches, idf1, hota, mean_iou; swaps and wrong names among
        look-alikes; and over all returns: their number, the share recognised before the object left
        again, and the median time to it, s (NaN without any).
        """
        total = summarise(self.frames)
        waits = [r.wait_s for some in self.returns().values() for r in some]
        known = [w for w in waits if np.isfinite(w)]
        mixed = self.mixed().values()
        return {
            "f1": total["association_f1"],
            "precision": total["association_precision"],
            "recall": total["association_recall"],
            "id_switches": total["id_switches"],
            "alike_swaps": sum(m.swaps for m in mixed),
            "alike_wrong": sum(m.wrong for m in mixed),
            "idf1": idf1(self.sightings),
            **hota(self.sightings),
            "mean_iou": total["mean_iou"],
            "returns": len(waits),
            "returns_recognised": len(known) / len(waits) if waits else float("nan"),
            "reidentify_s_p50": float(np.median(known)) if known else float("nan"),
        }

    def returns(self) -> dict[int, list[Return]]:
        """Return each object's returns in order of time; objects without any are left out."""
        out = {}
        for o in sorted({o for f in self.frames for o in f.objects}):
            here = [f.objects.get(o) for f in self.frames]
            stamps, seen, right = (
                list(self.stamps_s),
                [s is not None for s in here],
                [s is not None and s.named == o for s in here],
            )
            if o in self.earlier_s:
                stamps, seen, right = [self.earlier_s[o], *stamps], [True, *seen], [True, *right]
            if some := returns(stamps, seen, right, AWAY_S):
                out[o] = some
        return out

    def mixed(self) -> dict[str, Mixed]:
        """Return the confusion within each group of look-alikes."""
        out = {group: Mixed() for group in sorted(set(self.alike.values()))}
        last: dict[int, int] = {}
        for frame in self.frames:
            for o, s in frame.objects.items():
                if (group := self.alike.get(o)) is None or s.named is None:
                    continue
                within = self.alike.get(s.named) == group
                m = out[group]
                out[group] = replace(
                    m,
                    frames=m.frames + 1,
                    wrong=m.wrong + (within and s.named != o),
                    swaps=m.swaps + (within and last.get(o, s.named) != s.named),
                )
                if within:
                    last[o] = s.named
        return out


def _of_mapped(s: Sightings, mapped: Collection[int]) -> Sightings:
    """Return a frame without true objects that the map lacks and unnamed instances on them."""
    kept = np.array([int(i) in mapped for i in s.true_ids], bool)
    on_unmapped = (s.iou[~kept] >= MATCH_IOU).any(axis=0)
    kept_names = ~((s.names <= 0) & on_unmapped)
    return Sightings(s.true_ids[kept], s.names[kept_names], s.iou[np.ix_(kept, kept_names)])
