"""Contradiction of classes."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from vos_ros.association.candidates import CandidatePairs
from vos_ros.association.registry import Term, register


class ClassConflict(Term):
    """Compare the classes of track and object: 1 where they differ, 0 where they are equal."""

    name = "class_conflict"
    meaning = "1 where the classes of track and object are known and differ, 0 where they are equal"
    weight = -4.0
    order = 5
    fitted = False  # how far classes are trusted depends on the detector, not on our recordings

    def values(self, pairs: CandidatePairs) -> Float64[np.ndarray, "n"]:
        own = [pairs.frame.track_classes.get(t, 0) for t in pairs.track_ids.tolist()]
        objects = pairs.frame.objects
        other = [objects[o].class_id if o in objects else 0 for o in pairs.object_ids.tolist()]
        known = np.array(own, bool) & np.array(other, bool)
        return np.where(known, np.not_equal(own, other), np.nan)


register(ClassConflict)
