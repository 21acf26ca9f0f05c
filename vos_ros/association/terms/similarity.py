"""Similarity of the track's appearance to earlier views of the object."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64

from vos_ros.association.candidates import CandidatePairs
from vos_ros.association.registry import Term, register


class Similarity(Term):
    """Read the cosine of deep features to the most similar view of the object, 0 if negative."""

    name = "similarity"
    meaning = "cosine of the track's pooled features to the most similar view of the object, >= 0"
    weight = 3.69
    weight_unknown = 2.11
    order = 4
    appearance = True

    def values(self, pairs: CandidatePairs) -> Float64[np.ndarray, "n"]:
        return pairs.lookup(pairs.frame.similarities, math.nan).clip(0.0)


register(Similarity)
