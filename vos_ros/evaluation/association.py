"""Measure how far ids can be trusted: the pipeline on a recording that is made worse in several
ways.

Next to the pipeline run three simple ways to name masks (``baselines``), in the same run and with
the pose as reported: ``projection`` (no image: the map's visible projection is the mask),
``centroid`` (the same masks, each named by the object with the nearest centre in 3-D) and
``frame_iou`` (the same masks, assigned frame by frame to the projections by IoU, without memory).

An object that the map lacks can't be named, so it is no miss. To name it as another object is a
false positive, as everywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from jaxtyping import UInt8

from vos_ros.config import Config, from_flat
from vos_ros.evaluation.absences import AbsenceCount, Absences, total
from vos_ros.evaluation.baselines import by_centroid, by_iou, projected
from vos_ros.evaluation.failure_gallery import FailureGallery
from vos_ros.evaluation.identity_metrics import Calibration, calibration
from vos_ros.evaluation.metrics import IGNORE, MATCH_IOU, MIN_PIXELS, Overlap, only_known, overlap
from vos_ros.evaluation.record import Record
from vos_ros.evaluation.score import STAMP_TOLERANCE_NS, Truth
from vos_ros.mapping.render import render
from vos_ros.pipeline import Pipeline
from vos_ros.sources.faults import (
    Covered,
    FaultyMap,
    LostFrames,
    PoseDrift,
    WithoutDepth,
    board_mask,
)
from vos_ros.sources.interface import FrameSource
from vos_ros.sources.noise import PoseNoise
from vos_ros.types import AssociationStatus, Frame, FrameResult, MapUpdate, Projection

METHODS = ("vos_ros", "projection", "centroid", "frame_iou")
_DOUBTS = (AssociationStatus.ABSENT, AssociationStatus.MERGE, AssociationStatus.SPLIT)


@dataclass(frozen=True)
class Condition:
    """What is done to the recording."""

    noise_m: float = 0.0
    """RMS shift of each pose (``PoseNoise``), m."""
    noise_deg: float = 0.0
    """RMS rotation of each pose, degrees."""
    drift_m: float = 0.0
    """Final shift of a drifting pose (``PoseDrift``), m."""
    drift_deg: float = 0.0
    """Final rotation of a drifting pose, degrees."""
    missing: float = 0.0
    """Share of the objects that the map lacks, 0..1."""
    invented: float = 0.0
    """Number of invented objects as a share of the map's, 0..1."""
    lost: float = 0.0
    """Share of the frames that are lost, 0..1."""
    covered: bool = False
    """Whether parts of the image are covered."""
    depth: bool = True
    """Whether frames keep their depth."""
    correct: bool = True
    """Whether the pipeline may correct the pose."""

    def apply(self, source: FrameSource, seed: int) -> tuple[FrameSource, FaultyMap | None]:
        """Return the source made worse, and the wrapper that knows the invented objects (None
        without any).
        """
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
        """Return the configuration under this condition."""
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
    """Results of one sequence under one condition."""

    records: dict[str, Record]
    """Record by way of naming."""
    claims: list[tuple[float, bool]] = field(default_factory=list)
    """Score of every name that the pipeline gave, and whether it was right."""
    said: Counter[AssociationStatus] = field(
        default_factory=lambda: Counter({status: 0 for status in _DOUBTS})
    )
    """Number of statements against the map, by status."""
    absences: Absences = Absences()  # noqa: RUF009 (frozen)
    """Counts of ABSENT statements."""
    unmapped: dict[int, Counter[str]] = field(default_factory=dict)
    """By true object that the map lacked: number of frames in which it counted, by the status of
    the instance on it ("nothing" without an instance).
    """

    @property
    def calibration(self) -> Calibration:
        """Return the calibration of the scores."""
        return calibrated([self])


def calibrated(outcomes: Iterable[Outcome]) -> Calibration:
    """Return the calibration of several sequences' scores together."""
    claims = [c for o in outcomes for c in o.claims]
    return calibration([s for s, _ in claims], [ok for _, ok in claims])


def run(
    source: FrameSource,
    truth: Truth,
    config: Config,
    condition: Condition,
    seed: int = 0,
    progress: Callable[[FrameSource], Iterable[Frame | MapUpdate]] = iter,
    gallery: FailureGallery | None = None,
) -> Outcome:
    """Run the pipeline over a recording that is made worse.

    Frames without truth are stepped and not scored. What the truth showed before the first frame
    counts as seen then (for returns).

      Args:
          source: the recording.
          truth: its ground truth.
          config: configuration of the pipeline.
          condition: what is done to the recording.
          seed: seed of what is random in that.
          progress: wraps the iteration over the source.
          gallery: collects pictures, where given.
    """
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
        labels, objects = result.labels(), {o.id: o for o in pipeline.map}
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
        if gallery is not None:
            gallery.add(item, labels, mask, names, out.records["vos_ros"])
    out.absences = absences.figures()
    return out


def truth_of(truth: Truth, frame: Frame, condition: Condition) -> UInt8[np.ndarray, "H W"] | None:
    """Return the true ids of a frame's pixels, 0 where the condition covers them; None without
    truth.
    """
    stamps = np.array(truth.stamps_ns)
    place = int(np.abs(stamps - frame.stamp_ns).argmin())
    if abs(int(stamps[place]) - frame.stamp_ns) > STAMP_TOLERANCE_NS:
        return None
    mask = truth.mask(place)
    return (
        np.where(board_mask(frame.index, frame.shape), np.uint8(0), mask)
        if condition.covered
        else mask
    )


def _seen_before(truth: Truth, stamp_ns: int) -> dict[int, float]:
    """Return when (s) each object last counted in the truth's frames before a stamp."""
    out: dict[int, float] = {}
    for position, stamp in enumerate(truth.stamps_ns):
        if stamp < stamp_ns - STAMP_TOLERANCE_NS:
            out.update(dict.fromkeys(counted(truth.mask(position)), stamp / 1e9))
    return out


def counted(mask: UInt8[np.ndarray, "H W"]) -> frozenset[int]:
    """Return the objects of a true mask that are large enough to count."""
    areas = np.bincount(mask.ravel())
    return frozenset(int(i) for i in np.flatnonzero(areas >= MIN_PIXELS) if i not in (0, IGNORE))


def _names(result: FrameResult) -> dict[int, int]:
    """Return the object named by the associations for each label value."""
    value = {t.track_id: t.label_value for t in result.tracks}
    named = {value[a.track_id]: a.map_object_id for a in result.associations if a.track_id in value}
    return {v: named.get(v, 0) for v in value.values()}


def _claims(
    result: FrameResult, counts: Overlap, names: Mapping[int, int], gone: Iterable[int]
) -> list[tuple[float, bool]]:
    """Return score and rightness of the named instances.

    An instance counts where it lies on a true object that counts, or where it names one that is
    ``gone``: that is wrong wherever it lies. ABSENT is no claim that the object is there.
    """
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
    """Return, for each counting object that the map lacks, the status of the instance on it."""
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
    """Return figures by way of naming: means over the sequences, and sums of counts."""
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
