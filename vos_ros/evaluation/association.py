"""How far the ids can be trusted: the pipeline on a recording made worse in several ways, beside three simple ways to name its masks.

Baselines, in the same run and with the pose as reported: ``projection`` (no image at all: the map's visible projection is the mask),
``centroid`` (the same masks, each named by the object whose centre is nearest to its own in 3-D), ``frame_iou`` (the same masks, assigned
frame by frame to the projections by their IoU, without memory).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int64, UInt8, UInt16
from scipy.optimize import linear_sum_assignment

from vos_ros.config import Config
from vos_ros.evaluation.identity_metrics import Calibration, Sightings, calibration, hota, idf1, returns, sightings
from vos_ros.evaluation.masks import read_mask
from vos_ros.evaluation.metrics import MATCH_IOU, FrameScore, Overlap, only_known, overlap, score_frame, summarise
from vos_ros.evaluation.score import STAMP_TOLERANCE_NS, Truth
from vos_ros.mapping.render import render
from vos_ros.pipeline import Pipeline
from vos_ros.sources.faults import Covered, FaultyMap, LostFrames, PoseDrift, WithoutDepth, cover
from vos_ros.sources.interface import FrameSource
from vos_ros.sources.noise import PoseNoise
from vos_ros.types import AssociationStatus, Frame, FrameResult, MapObject, MapUpdate, Projection

METHODS = ("vos_ros", "projection", "centroid", "frame_iou")
_NEAR_M = 0.5  # a centroid farther from every object's names none
_LEAST_IOU = 0.2  # of a mask with a projection, for frame_iou
_AWAY_S = 2.0  # an object that doesn't count for so long and then does has returned
_SHOWN = 0.5  # of an object's silhouette must be inside the image and unhidden for its absence to be seen ...
_SHOWN_S = 1.0  # ... for so long
_DOUBTS = (AssociationStatus.ABSENT, AssociationStatus.MERGE, AssociationStatus.SPLIT)


@dataclass(frozen=True)
class Condition:
    """What is done to the recording. Noise and drift as ``PoseNoise`` and ``PoseDrift``; shares 0..1."""

    noise_m: float = 0.0
    noise_deg: float = 0.0
    drift_m: float = 0.0
    drift_deg: float = 0.0
    missing: float = 0.0
    invented: float = 0.0
    lost: float = 0.0
    covered: bool = False
    depth: bool = True

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


CONDITIONS: Mapping[str, Condition] = {
    "given": Condition(),
    "noise_5cm": Condition(noise_m=0.05, noise_deg=2.0),
    "noise_10cm": Condition(noise_m=0.1, noise_deg=5.0),
    "noise_20cm": Condition(noise_m=0.2, noise_deg=10.0),
    "drift": Condition(drift_m=0.1, drift_deg=5.0),
    "missing": Condition(missing=0.4),
    "invented": Condition(invented=0.2),
    "covered": Condition(covered=True),
    "lost": Condition(lost=0.5),
    "colour_only": Condition(depth=False),
}


@dataclass(eq=False, slots=True)
class Record:
    """What one way of naming said over a sequence."""

    frames: list[FrameScore] = field(default_factory=list)
    sightings: list[Sightings] = field(default_factory=list)
    stamps_s: list[float] = field(default_factory=list)

    def add(self, stamp_ns: int, counts: Overlap, names: Mapping[int, int]) -> None:
        """One frame; ``names``: label value -> object id, 0 = none."""
        self.frames.append(score_frame(counts, names))
        self.sightings.append(sightings(counts, names))
        self.stamps_s.append(stamp_ns / 1e9)

    def figures(self) -> dict[str, float | int]:
        """f1, precision, recall, id_switches, idf1, hota, mean_iou; and over all returns of objects: their number, the share recognised
        before they left again, and the median time to it, s (NaN without any)."""
        total = summarise(self.frames)
        waits: list[float] = []
        for o in sorted({o for f in self.frames for o in f.objects}):
            here = [f.objects.get(o) for f in self.frames]
            waits += returns(self.stamps_s, [s is not None for s in here], [s is not None and s.named == o for s in here], _AWAY_S)
        known = [w for w in waits if np.isfinite(w)]
        return {"f1": total["association_f1"], "precision": total["association_precision"], "recall": total["association_recall"],
                "id_switches": total["id_switches"], "idf1": idf1(self.sightings), **hota(self.sightings), "mean_iou": total["mean_iou"],
                "returns": len(waits), "returns_recognised": len(known) / len(waits) if waits else float("nan"),
                "reidentify_s_p50": float(np.median(known)) if known else float("nan")}


@dataclass(frozen=True, eq=False, slots=True)
class Outcome:
    """One condition: figures by way of naming; for ours also how often it said what against the map, the calibration of its scores, and
    how right it was about absent objects."""

    figures: dict[str, dict[str, float | int]]
    calibration: Calibration
    absent_precision: float
    absent_recall: float


def run(source: FrameSource, truth: Truth, config: Config, condition: Condition, seed: int = 0,
        progress: Callable[[FrameSource], Iterable[Frame | MapUpdate]] = iter) -> Outcome:
    """The pipeline over a recording made worse. Frames without truth are stepped, not scored. ``progress`` may wrap the iteration.
    ``seed``: of what is left to chance."""
    worse, faulty = condition.apply(source, seed)
    pipeline = Pipeline(config, session_id="eval")
    records = {m: Record() for m in METHODS}
    claims: list[tuple[float, bool]] = []
    absence, said = _Absence(), Counter({status: 0 for status in _DOUBTS})
    for item in progress(worse):
        if isinstance(item, MapUpdate):
            pipeline.update_map(item)
            continue
        result = pipeline.step(item)
        absence.add(result, faulty.invented_ids if faulty else frozenset())
        said.update(a.status for a in result.associations if a.status in _DOUBTS)
        mask = truth_of(truth, item, condition)
        if mask is None:
            continue
        labels, objects = result.labels(), {o.id: o for o in pipeline.object_map}
        counts = overlap(labels, mask)
        names = only_known(_names(result), truth.names)
        records["vos_ros"].add(result.stamp_ns, counts, names)
        projections: list[Projection] = []
        if item.T_map_camera is not None:
            projections = render(list(objects.values()), item.T_map_camera, item.intrinsics, depth=item.depth, config=config.mapping)
        records["centroid"].add(result.stamp_ns, counts, only_known(by_centroid(result, objects, item.T_map_camera), truth.names))
        records["frame_iou"].add(result.stamp_ns, counts, only_known(by_iou(result, labels, projections), truth.names))
        records["projection"].add(result.stamp_ns, overlap(_projected(projections, labels.shape), mask),
                                  only_known({p.object_id: p.object_id for p in projections}, truth.names))
        claims += _claims(result, counts, names)
    figures = {m: r.figures() for m, r in records.items()}
    figures["vos_ros"] |= {f"said_{status.name.lower()}": n for status, n in said.items()}
    return Outcome(figures, calibration([s for s, _ in claims], [ok for _, ok in claims]),
                   *absence.figures())


def truth_of(truth: Truth, frame: Frame, condition: Condition) -> UInt8[np.ndarray, "H W"] | None:
    """The true ids of a frame's pixels, 0 where the condition covers them; None where the truth has no such frame."""
    stamps = np.array(truth.stamps_ns)
    place = int(np.abs(stamps - frame.stamp_ns).argmin())
    if abs(int(stamps[place]) - frame.stamp_ns) > STAMP_TOLERANCE_NS:
        return None
    mask = read_mask(truth.masks[place])
    return np.where(cover(frame.index, frame.shape), np.uint8(0), mask) if condition.covered else mask


def _names(result: FrameResult) -> dict[int, int]:
    """Label value -> object named by the associations."""
    value = {t.track_id: t.label_value for t in result.tracks}
    named = {value[a.track_id]: a.map_object_id for a in result.associations if a.track_id in value}
    return {v: named.get(v, 0) for v in value.values()}


def by_centroid(result: FrameResult, objects: Mapping[int, MapObject], reported: Float64[np.ndarray, "4 4"] | None) -> dict[int, int]:
    """Each mask by the object whose points' mean is nearest to that of its own points, lifted with the ``reported`` pose, within half a
    metre."""
    out = {t.label_value: 0 for t in result.tracks}
    if not objects or reported is None or result.T_map_camera is None:
        return out
    back = reported @ np.linalg.inv(result.T_map_camera)
    ids, centres = list(objects), np.array([o.points.mean(0) for o in objects.values()])
    value = {t.track_id: t.label_value for t in result.tracks}
    for o in result.observations:
        away = np.linalg.norm(centres - (back[:3, :3] @ o.centroid + back[:3, 3]), axis=1)
        if away.min() <= _NEAR_M:
            out[value[o.track_id]] = ids[int(away.argmin())]
    return out


def by_iou(result: FrameResult, labels: UInt16[np.ndarray, "H W"], projections: Sequence[Projection]) -> dict[int, int]:
    """One-to-one by the IoU of masks and visible projections in this frame."""
    out = {t.label_value: 0 for t in result.tracks}
    values = list(out)
    if not values or not projections:
        return out
    counts = np.zeros((len(values), len(projections)))
    area = np.bincount(labels.ravel(), minlength=max(values) + 1)
    for column, p in enumerate(projections):
        x0, y0, x1, y1 = p.roi
        both = np.bincount(labels[y0:y1, x0:x1][p.mask_roi], minlength=max(values) + 1)[values]
        counts[:, column] = both / np.maximum(area[values] + p.area_px - both, 1)
    for row, column in np.column_stack(linear_sum_assignment(-counts)).tolist():
        if counts[row, column] >= _LEAST_IOU:
            out[values[row]] = projections[column].object_id
    return out


def _projected(projections: Sequence[Projection], shape: tuple[int, ...]) -> Int64[np.ndarray, "H W"]:
    """Visible projections as a label image of object ids."""
    out = np.zeros(shape, np.int64)
    for p in projections:
        x0, y0, x1, y1 = p.roi
        out[y0:y1, x0:x1][p.mask_roi] = p.object_id
    return out


def _claims(result: FrameResult, counts: Overlap, names: Mapping[int, int]) -> list[tuple[float, bool]]:
    """Score and rightness of every named instance that lies on a true object that counts."""
    iou = counts.iou()
    row = {int(v): r for r, v in enumerate(counts.values)}
    value = {t.track_id: t.label_value for t in result.tracks}
    out = []
    for a in result.associations:
        v = value.get(a.track_id, 0)
        if not names.get(v) or v not in row or not a.score:
            continue
        best = int(np.where(counts.ids > 0, iou[row[v]], 0.0).argmax())
        if iou[row[v], best] >= MATCH_IOU and counts.ids[best]:
            out.append((float(a.score), int(counts.ids[best]) == names[v]))
    return out


class _Absence:
    """Statements ABSENT, frame by frame: right of objects that were invented. An invented object should have been told of once its place
    was in view for a second."""

    def __init__(self) -> None:
        self._right = self._said = 0
        self._told: set[int] = set()
        self._shown: dict[int, list[int]] = {}

    def add(self, result: FrameResult, invented: frozenset[int]) -> None:
        for a in result.associations:
            if a.status == AssociationStatus.ABSENT:
                self._said += 1
                self._right += a.map_object_id in invented
                self._told.add(a.map_object_id)
        for p in result.projections:
            if p.object_id in invented and p.truncated < _SHOWN and p.occluded - p.free < _SHOWN:
                self._shown.setdefault(p.object_id, []).append(result.stamp_ns)

    def figures(self) -> tuple[float, float]:
        """Precision over statements, recall over objects; NaN where there was nothing to say."""
        due = {i for i, stamps in self._shown.items() if stamps[-1] - stamps[0] >= _SHOWN_S * 1e9}
        return (self._right / self._said if self._said else float("nan"), len(due & self._told) / len(due) if due else float("nan"))
