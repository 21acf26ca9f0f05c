"""How far the ids can be trusted: the pipeline on a recording made worse in several ways, beside three simple ways to name its masks.

Baselines (``baselines``), in the same run and with the pose as reported: ``projection`` (no image at all: the map's visible projection is
the mask), ``centroid`` (the same masks, each named by the object whose centre is nearest to its own in 3-D), ``frame_iou`` (the same masks,
assigned frame by frame to the projections by their IoU, without memory).

An object that the map lacks can't be named: it is no miss. To name it as another one is false, as everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import UInt8

from vos_ros.config import Config, from_flat
from vos_ros.datasets.masks import read_mask
from vos_ros.evaluation.absences import AbsenceCount, Absences, total
from vos_ros.evaluation.baselines import by_centroid, by_iou, projected
from vos_ros.evaluation.failure_gallery import FailureGallery
from vos_ros.evaluation.identity_metrics import Calibration, calibration
from vos_ros.evaluation.metrics import IGNORE, MATCH_IOU, MIN_PIXELS, Overlap, only_known, overlap
from vos_ros.evaluation.record import Record
from vos_ros.evaluation.score import STAMP_TOLERANCE_NS, Truth
from vos_ros.mapping.render import render
from vos_ros.pipeline import Pipeline
from vos_ros.sources.faults import Covered, FaultyMap, LostFrames, PoseDrift, WithoutDepth, cover
from vos_ros.sources.interface import FrameSource
from vos_ros.sources.noise import PoseNoise
from vos_ros.types import AssociationStatus, Frame, FrameResult, MapUpdate, Projection

METHODS = ("vos_ros", "projection", "centroid", "frame_iou")
_DOUBTS = (AssociationStatus.ABSENT, AssociationStatus.MERGE, AssociationStatus.SPLIT)


@dataclass(frozen=True)
class Condition:
    """What is done to the recording. Noise and drift as ``PoseNoise`` and ``PoseDrift``; shares 0..1. ``correct``: whether the pipeline may
    correct the pose."""

    noise_m: float = 0.0
    noise_deg: float = 0.0
    drift_m: float = 0.0
    drift_deg: float = 0.0
    missing: float = 0.0
    invented: float = 0.0
    lost: float = 0.0
    covered: bool = False
    depth: bool = True
    correct: bool = True

    def apply(self, source: FrameSource, seed: int) -> tuple[FrameSource, FaultyMap | None]:
        """The source made worse, and the wrapper that knows which objects were invented."""
        faulty = None
        if self.missing or self.invented:
            source = faulty = FaultyMap(source, self.missing, self.invented, seed)
        if self.noise_m or self.noise_deg:
            source = PoseNoise(source, self.noise_m, self.noise_deg, seed)
        if self.drift_m or self.drift_deg:
            source = PoseDrift(source, self.drift_m, self.drift_deg, seed)
        if self.covered:
            source = Covered(source)
        if not self.depth:
            source = WithoutDepth(source)
        return (LostFrames(source, self.lost, seed) if self.lost else source), faulty

    def configure(self, config: Config) -> Config:
        """The configuration under this condition."""
        return config if self.correct else from_flat({"pose.correction": "off"}, config)


_DRIFT = Condition(drift_m=0.1, drift_deg=5.0)
CONDITIONS: Mapping[str, Condition] = {
    "given": Condition(),
    "noise_5cm": Condition(noise_m=0.05, noise_deg=2.0),
    "noise_10cm": Condition(noise_m=0.1, noise_deg=5.0),
    "noise_20cm": Condition(noise_m=0.2, noise_deg=10.0),
    "drift": _DRIFT,
    "drift_uncorrected": replace(_DRIFT, correct=False),
    "drift_colour_only": replace(_DRIFT, depth=False),
    "missing": Condition(missing=0.4),
    "invented": Condition(invented=0.2),
    "covered": Condition(covered=True),
    "lost": Condition(lost=0.5),
    "colour_only": Condition(depth=False),
}


@dataclass(eq=False, slots=True)
class Outcome:
    """A sequence under a condition. ``records`` by way of naming. For ours also: ``claims``, the score of every name given and whether it
    was right; ``said``, how often what was said against the map; ``absences``; ``unmapped``: of each true object that the map lacked, the
    frames in which it counted, by what was said of the instance on it ("nothing" without one)."""

    records: dict[str, Record]
    claims: list[tuple[float, bool]] = field(default_factory=list)
    said: Counter[AssociationStatus] = field(
        default_factory=lambda: Counter({status: 0 for status in _DOUBTS})
    )
    absences: Absences = Absences()  # noqa: RUF009 (frozen)
    unmapped: dict[int, Counter[str]] = field(default_factory=dict)

    @property
    def calibration(self) -> Calibration:
        """Of the scores."""
        return calibrated([self])


def calibrated(outcomes: Iterable[Outcome]) -> Calibration:
    """The scores of several sequences together."""
    claims = [c for o in outcomes for c in o.claims]
    return calibration([s for s, _ in claims], [ok for _, ok in claims])


def run(
    source: FrameSource,
    truth: Truth,
    config: Config,
    condition: Condition,
    seed: int = 0,
    progress: Callable[[FrameSource], Iterable[Frame | MapUpdate]] = iter,
    album: FailureGallery | None = None,
) -> Outcome:
    """The pipeline over a recording made worse. Frames without truth are stepped, not scored; what the truth showed before the first frame
    counts as seen then, for what returns. ``progress`` may wrap the iteration. ``seed``: of what is left to chance. ``album`` collects
    pictures."""
    worse, faulty = condition.apply(source, seed)
    pipeline = Pipeline(condition.configure(config), session_id="eval")
    out = Outcome({m: Record(truth.alike) for m in METHODS})
    absences = AbsenceCount()
    started = False
    for item in progress(worse):
        if isinstance(item, MapUpdate):
            pipeline.update_map(item)
            continue
        result = pipeline.step(item)
        gone = {i for i, since in truth.removed_ns.items() if since <= item.stamp_ns} | set(
            faulty.invented_ids if faulty else ()
        )
        absences.add(result, gone)
        out.said.update(a.status for a in result.associations if a.status in _DOUBTS)
        mask = truth_of(truth, item, condition)
        if mask is None:
            continue
        if not started:
            started = True
            for record in out.records.values():
                record.before(_seen_before(truth, item.stamp_ns))
        labels, objects = result.labels(), {o.id: o for o in pipeline.object_map}
        projections: list[Projection] = []
        if item.T_map_camera is not None:
            projections = render(
                list(objects.values()),
                item.T_map_camera,
                item.intrinsics,
                depth=item.depth,
                config=config.mapping,
            )
        counts = overlap(labels, mask)
        given = {
            "vos_ros": _names(result),
            "centroid": by_centroid(result, objects, item.T_map_camera),
            "frame_iou": by_iou(result, labels, projections),
        }
        for method, names in given.items():
            out.records[method].add(
                result.stamp_ns, counts, only_known(names, truth.names), objects
            )
        out.records["projection"].add(
            result.stamp_ns,
            overlap(projected(projections, labels.shape), mask),
            only_known({p.object_id: p.object_id for p in projections}, truth.names),
            objects,
        )
        names = only_known(given["vos_ros"], truth.names)
        out.claims += _claims(result, counts, names, gone)
        for o, said in _said_of(result, counts, names, objects).items():
            out.unmapped.setdefault(o, Counter()).update([said])
        if album is not None:
            album.add(item, labels, mask, names, out.records["vos_ros"])
    out.absences = absences.figures()
    return out


def truth_of(truth: Truth, frame: Frame, condition: Condition) -> UInt8[np.ndarray, "H W"] | None:
    """The true ids of a frame's pixels, 0 where the condition covers them; None where the truth has no such frame."""
    stamps = np.array(truth.stamps_ns)
    place = int(np.abs(stamps - frame.stamp_ns).argmin())
    if abs(int(stamps[place]) - frame.stamp_ns) > STAMP_TOLERANCE_NS:
        return None
    mask = read_mask(truth.masks[place])
    return (
        np.where(cover(frame.index, frame.shape), np.uint8(0), mask) if condition.covered else mask
    )


def _seen_before(truth: Truth, stamp_ns: int) -> dict[int, float]:
    """When (s) each object last counted in the truth's frames before a stamp."""
    out: dict[int, float] = {}
    for stamp, path in zip(truth.stamps_ns, truth.masks, strict=True):
        if stamp < stamp_ns - STAMP_TOLERANCE_NS:
            out.update(dict.fromkeys(counted(read_mask(path)), stamp / 1e9))
    return out


def counted(mask: UInt8[np.ndarray, "H W"]) -> frozenset[int]:
    """The objects of a true mask that are large enough to count."""
    areas = np.bincount(mask.ravel())
    return frozenset(int(i) for i in np.flatnonzero(areas >= MIN_PIXELS) if i not in (0, IGNORE))


def _names(result: FrameResult) -> dict[int, int]:
    """Label value -> object named by the associations."""
    value = {t.track_id: t.label_value for t in result.tracks}
    named = {value[a.track_id]: a.map_object_id for a in result.associations if a.track_id in value}
    return {v: named.get(v, 0) for v in value.values()}


def _claims(
    result: FrameResult, counts: Overlap, names: Mapping[int, int], gone: Iterable[int]
) -> list[tuple[float, bool]]:
    """Score and rightness of every named instance that lies on a true object that counts, or names one that is ``gone``, which is wrong
    wherever it lies. That something is absent is no claim that it is there."""
    iou, gone = counts.iou(), set(gone)
    row = {int(v): r for r, v in enumerate(counts.values)}
    value = {t.track_id: t.label_value for t in result.tracks}
    out = []
    for a in result.associations:
        v = value.get(a.track_id, 0)
        if v not in row or not a.score or a.status == AssociationStatus.ABSENT:
            continue
        if a.map_object_id in gone:
            if counts.value_area[row[v]] >= MIN_PIXELS:
                out.append((float(a.score), False))
        elif names.get(v):
            best = int(np.where(counts.ids > 0, iou[row[v]], 0.0).argmax())
            if iou[row[v], best] >= MATCH_IOU and counts.ids[best]:
                out.append((float(a.score), int(counts.ids[best]) == names[v]))
    return out


def _said_of(
    result: FrameResult, counts: Overlap, names: Mapping[int, int], mapped: Iterable[int]
) -> dict[int, str]:
    """Of each object that counts and that the map lacks: what is said of the instance on it."""
    mapped, iou = set(mapped), counts.iou()
    value = {t.track_id: t.label_value for t in result.tracks}
    status = {value[a.track_id]: a.status for a in result.associations if a.track_id in value}
    out = {}
    for c, (o, area) in enumerate(zip(counts.ids.tolist(), counts.id_area, strict=True)):
        if o and o not in mapped and area >= MIN_PIXELS:
            on = [
                int(v) for r, v in enumerate(counts.values) if v in names and iou[r, c] >= MATCH_IOU
            ]
            out[o] = (
                "nothing"
                if not on
                else f"taken for {names[on[0]]}"
                if names[on[0]]
                else status[on[0]].name
            )
    return out


def pooled(outcomes: Sequence[Outcome]) -> dict[str, dict[str, float | int]]:
    """Figures by way of naming: means over the sequences, sums of counts; calibration and absences of all of them together."""
    out: dict[str, dict[str, float | int]] = {}
    for method in outcomes[0].records:
        each = [o.records[method].figures() for o in outcomes]
        out[method] = {
            k: sum(int(f[k]) for f in each) if isinstance(v, int) else _mean([f[k] for f in each])
            for k, v in each[0].items()
        }
    ours = out["vos_ros"]
    for method in METHODS[1:]:
        out[method]["f1_margin"] = ours["f1"] - out[method]["f1"]
    together = total(o.absences for o in outcomes)
    ours |= {
        "ece": calibrated(outcomes).ece,
        "absent_precision": together.precision,
        "absent_recall": together.recall,
    }
    ours |= {
        f"said_{status.name.lower()}": sum(o.said[status] for o in outcomes) for status in _DOUBTS
    }
    return out


def _mean(values: Sequence[float]) -> float:
    known = [v for v in values if not np.isnan(v)]
    return float(np.mean(known)) if known else float("nan")
