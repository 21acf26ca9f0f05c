"""What one way of naming said over a sequence, frame by frame, and the figures of that."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from vos_ros.evaluation.identity_metrics import Return, Sightings, hota, idf1, returns, sightings
from vos_ros.evaluation.metrics import MATCH_IOU, FrameScore, Overlap, score_frame, summarise

AWAY_S = 2.0
"""An object that doesn't count for so long and then does has returned."""


@dataclass(frozen=True, slots=True)
class Mixed:
    """Of objects that look alike, by their group: ``swaps``, changes of the name on one of them from one of the group to another one;
    ``wrong``, frames in which the instance on one was named as another; ``frames`` in which there was an instance on one."""

    swaps: int = 0
    wrong: int = 0
    frames: int = 0


@dataclass(eq=False, slots=True)
class Record:
    """``alike``: object id -> group of those that look alike."""

    alike: Mapping[int, str] = field(default_factory=dict)
    frames: list[FrameScore] = field(default_factory=list)
    sightings: list[Sightings] = field(default_factory=list)
    stamps_s: list[float] = field(default_factory=list)
    earlier_s: dict[int, float] = field(default_factory=dict)

    def before(self, earlier_s: Mapping[int, float]) -> None:
        """When each object last counted before the first frame."""
        self.earlier_s = dict(earlier_s)

    def add(
        self, stamp_ns: int, counts: Overlap, names: Mapping[int, int], mapped: Collection[int]
    ) -> None:
        """One frame; ``names``: label value -> object id, 0 = none; ``mapped``: the objects that the map has."""
        score = score_frame(counts, names)
        self.frames.append(
            FrameScore(
                {o: s for o, s in score.objects.items() if o in mapped}, score.false_positives
            )
        )
        self.sightings.append(_of_mapped(sightings(counts, names), mapped))
        self.stamps_s.append(stamp_ns / 1e9)

    def figures(self) -> dict[str, float | int]:
        """f1, precision, recall, id_switches, idf1, hota, mean_iou; swaps and wrong names among look-alikes; and over all returns of
        objects: their number, the share recognised before they left again, and the median time to it, s (NaN without any)."""
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
        """Each object's, in the order of time; objects without any are left out."""
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
        """Look-alikes taken for one another, by group."""
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
    """Without the true objects that the map lacks, and without the unnamed instances on them."""
    kept = np.array([int(i) in mapped for i in s.true_ids], bool)
    on_unmapped = (s.iou[~kept] >= MATCH_IOU).any(axis=0)
    said = ~((s.names <= 0) & on_unmapped)
    return Sightings(s.true_ids[kept], s.names[said], s.iou[np.ix_(kept, said)])
