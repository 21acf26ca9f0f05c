"""Builds and reads vos_ros/AssociationArray, which map object each track of an image is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from vos_ros.messages.factory import MakeMessage
from vos_ros.messages.geometry import pose_with_covariance_message
from vos_ros.messages.stamps import time_message
from vos_ros.types import Association, AssociationStatus, FrameResult, Verdict


def association_from_message(msg: Any, term_names: Sequence[str] = ()) -> Association:
    """Read vos_ros/Association; ``term_names`` are those of its AssociationArray.

    Raises ValueError: the status is unknown, or there are not as many term values as names.
    """
    try:
        status = AssociationStatus(msg.status)
    except ValueError:
        known = ", ".join(f"{s.value} {s.name}" for s in AssociationStatus)
        raise ValueError(f"an association has status {msg.status}, wanted one of {known}") from None
    values = [float(v) for v in msg.term_values]
    if values and len(values) != len(term_names):
        raise ValueError(
            f"an association has {len(values)} term_values, wanted one of each of the"
            f" {len(term_names)} term_names, or none"
        )
    return Association(
        track_id=int(msg.track_id),
        map_object_id=int(msg.map_object_id),
        status=status,
        score=float(msg.score),
        mask_iou=float(msg.mask_iou),
        depth_inlier_ratio=float(msg.depth_inlier_ratio),
        appearance_similarity=float(msg.appearance_similarity),
        runner_up_id=int(msg.runner_up_id),
        runner_up_score=float(msg.runner_up_score),
        predicted_visible_fraction=float(msg.predicted_visible_fraction),
        n_observations=int(msg.n_observations),
        related_ids=tuple(int(i) for i in msg.related_ids),
        terms=dict(zip(term_names, values, strict=True)) if values else {},
    )


def associations_from_message(msg: Any) -> tuple[Association, ...]:
    """Read the associations of a vos_ros/AssociationArray. Raises ValueError as
    ``association_from_message``."""
    names = [str(n) for n in msg.term_names]
    return tuple(association_from_message(a, names) for a in msg.associations)


def verdict_from_message(msg: Any) -> Verdict:
    """Read the verdict of the self-check from a vos_ros/AssociationArray.

    One that is unknown, or of a node that has no self-check, is UNDECIDED.
    """
    value = int(getattr(msg, "self_check", Verdict.UNDECIDED))
    return Verdict(value) if value in set(Verdict) else Verdict.UNDECIDED


def association_array_message(
    make: MakeMessage, header: Any, result: FrameResult, *, session_id: str
) -> Any:
    """Build vos_ros/AssociationArray. Without a pose the position of map_from_camera is NaN.

    Args:
        make: factory of the message classes.
        header: that of the image.
        result: what the pipeline has computed for the image.
        session_id: session of the track ids.
    """
    names = list(dict.fromkeys(name for a in result.associations for name in a.terms))
    return make(
        "vos_ros/msg/AssociationArray",
        header=header,
        session_id=session_id,
        map_session_id=result.map_session_id,
        map_revision=result.map_revision,
        map_stamp=time_message(make, result.map_stamp_ns),
        map_frame=result.map_frame,
        map_from_camera=pose_with_covariance_message(make, result.T_map_camera, result.pose_cov),
        self_check=int(result.self_check.verdict),
        term_names=names,
        associations=[association_message(make, a, names) for a in result.associations],
    )


def association_message(make: MakeMessage, a: Association, term_names: Sequence[str]) -> Any:
    """Build vos_ros/Association.

    The term values are in the order of ``term_names``, NaN for a term that the association lacks;
    an association without any term has none.
    """
    values = [a.terms.get(name, math.nan) for name in term_names] if a.terms else []
    return make(
        "vos_ros/msg/Association",
        track_id=int(a.track_id),
        map_object_id=int(a.map_object_id),
        status=int(a.status),
        score=float(a.score),
        mask_iou=float(a.mask_iou),
        depth_inlier_ratio=float(a.depth_inlier_ratio),
        appearance_similarity=float(a.appearance_similarity),
        runner_up_id=int(a.runner_up_id),
        runner_up_score=float(a.runner_up_score),
        predicted_visible_fraction=float(a.predicted_visible_fraction),
        n_observations=int(a.n_observations),
        related_ids=np.array(a.related_ids, np.uint32),
        term_values=np.array(values, np.float32),
    )
