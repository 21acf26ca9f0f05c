"""Constant log-odds: how rarely a pair is right that has no evidence for it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64

from vos_ros.association.candidates import CandidatePairs
from vos_ros.association.registry import Term, register


class Bias(Term):
    """Return 1 for every pair."""

    name = "bias"
    meaning = "1 for every pair"
    weight = -7.99
    order = 0
    any_sign = True

    def values(self, pairs: CandidatePairs) -> Float64[np.ndarray, "n"]:
        return np.ones(len(pairs))


register(Bias)
