"""Small frames for tests of the association: rectangles as masks and as projections."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from vos_ros.association.candidates import CandidatePairs
from vos_ros.association.interface import FrameEvidence, PairEvidence
from vos_ros.association.predicted_pixels import predict_pixels
from vos_ros.config import AssociationConfig, from_flat, params
from vos_ros.geometry.boxes import boxes_of
from vos_ros.types import MapObject, Projection

H, W = 60, 80
SHIPPED_TERMS = frozenset(
    [
        "bias",
        "tolerant_iou",
        "mask_iou",
        "depth_inliers",
        "overlap_3d",
        "similarity",
        "class_conflict",
    ]
)


def rect(x0: int, y0: int, x1: int, y1: int) -> np.ndarray:
    """Return a mask of the image with a rectangle set."""
    mask = np.zeros((H, W), bool)
    mask[y0:y1, x0:x1] = True
    return mask


def projection(object_id: int, mask: np.ndarray, depth_m: float | np.ndarray = 2.0) -> Projection:
    """Return the projection of an object of which nothing is hidden."""
    ys, xs = np.nonzero(mask)
    x0, y0, x1, y1 = int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1
    crop = mask[y0:y1, x0:x1]
    z = np.broadcast_to(np.asarray(depth_m, np.float32), mask.shape)[y0:y1, x0:x1]
    return Projection(
        object_id=object_id,
        shape=mask.shape,
        roi=(x0, y0, x1, y1),
        mask_roi=crop,
        silhouette_roi=crop,
        depth_roi=np.where(crop, z, 0).astype(np.float32),
        visible=1.0,
        occluded=0.0,
        truncated=0.0,
    )


def map_object(object_id: int, class_id: int = 1, **fields: Any) -> MapObject:
    """Return an object of one point."""
    point = np.zeros((1, 3), np.float32)
    return MapObject(object_id, class_id, np.eye(4), np.ones(3), point, 0.01, **fields)


def frame_evidence(
    tracks: Mapping[int, np.ndarray],
    projections: Sequence[Projection] = (),
    *,
    depth: np.ndarray | None = None,
    sigma: float = 0.0,
    current_match: Mapping[int, int] | None = None,
    **more: Any,
) -> FrameEvidence:
    """Return the evidence of a frame: masks by track id, projections, measured depth (m)."""
    index = np.zeros((H, W), np.int32)
    for row, mask in enumerate(tracks.values(), start=1):
        index[mask] = row
    return FrameEvidence(
        instance_index=index,
        track_ids=tuple(tracks),
        boxes=boxes_of(index, len(tracks)),
        predicted_pixels=[predict_pixels(p, sigma, depth, 0.05) for p in projections],
        measured=None if depth is None else depth > 0,
        current_match=current_match or {},
        **more,
    )


def candidate_pairs(
    n: int = 1, frame: FrameEvidence | None = None, **values: Any
) -> CandidatePairs:
    """Return n pairs of tracks 1, 2, .. with objects 11, 12, ..; what is not given is 0."""
    counts = {
        name: np.broadcast_to(np.asarray(values.pop(name, 0.0), float), n)
        for name in CandidatePairs.__slots__
        if name.endswith("_px")
    }
    fields: dict[str, Any] = {
        "track_ids": 1 + np.arange(n),
        "object_ids": 11 + np.arange(n),
        "masks_meet": np.ones(n, bool),
        **values,
    }
    return CandidatePairs(frame=frame or frame_evidence({}), **counts, **fields)


def pair_evidence(*pairs: tuple[int, int, Mapping[str, float]]) -> PairEvidence:
    """Return (track, object, values) as arrays: values of terms, surface_px, surface_covered.

    A term that a pair does not name is unknown; the bias is 1.
    """
    from vos_ros.association.registry import registered

    def column(name: str, default: float) -> np.ndarray:
        return np.array([values.get(name, default) for _, _, values in pairs], float)

    terms = {t.name: column(t.name, 1.0 if t.name == "bias" else math.nan) for t in registered()}
    unknown = {n for _, _, values in pairs for n in values} - {*terms, "surface_px"}
    assert unknown <= {"surface_covered"}, unknown
    return PairEvidence(
        track_ids=np.array([t for t, _, _ in pairs], np.int64),
        object_ids=np.array([o for _, o, _ in pairs], np.int64),
        terms=terms,
        surface_px=column("surface_px", 0.0),
        surface_covered=column("surface_covered", math.nan),
    )


def association_config(**values: Any) -> AssociationConfig:
    """Return the section with some keys replaced; ``__`` stands for the dot.

    Terms that the package doesn't ship weigh nothing: they are somebody's own.
    """
    own = {
        p.key: 0.0
        for p in params(AssociationConfig, "association.")
        if p.key.startswith("association.terms.") and p.key.split(".")[2] not in SHIPPED_TERMS
    }
    own = {key: 0.0 for key in own if key.endswith((".weight", ".weight_unknown"))}
    given = {f"association.{key.replace('__', '.')}": v for key, v in values.items()}
    return from_flat(own | given).association
