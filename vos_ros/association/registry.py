"""Terms of evidence by name. A file of ``terms`` registers its class as its last act."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import make_dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float64

from vos_ros.association.candidates import CandidatePairs
from vos_ros.config import import_plugins, option, register_options, registered_options
from vos_ros.config.plugins import forget

PACKAGE = "vos_ros.association.terms"
"""Package whose modules are terms."""
_TERMS: dict[str, type[Term]] = {}


class Term(ABC):
    """Measure one kind of evidence for pairs of a track and a map object.

    A term adds ``weight * value`` to the log-odds of a pair against the track being no object of
    the map, and ``weight_unknown`` where its value is unknown. A subclass declares the attributes
    below and ``values``. Each associator has an instance of its own, so that a term may keep what
    it needs of earlier frames.
    """

    name: ClassVar[str]
    """Name in the configuration, in messages and in docs/association.md."""
    meaning: ClassVar[str]
    """What the value is, one line."""
    weight: ClassVar[float]
    """Default weight of the value."""
    weight_unknown: ClassVar[float | None] = None
    """Default log-odds where the value is unknown (NaN), None: it is always known, or counts 0."""
    order: ClassVar[int] = 1000
    """Place in the sum. Terms of one order are added values first, by name, then weights of unknown
    values. It decides how sums are rounded, and so whether scores stay equal to the bit."""
    appearance: ClassVar[bool] = False
    """Whether it compares appearance. Look-alikes are not told apart by it, see ``preferences``."""
    fitted: ClassVar[bool] = True
    """Whether its weights are fitted on recordings; else they are set by hand."""
    any_sign: ClassVar[bool] = False
    """Whether the fit may give a negative weight; else more of it never counts against a pair."""
    own_options: ClassVar[type | None] = None
    """Frozen dataclass of further options, None where it has none."""

    def __init__(self, options: Any = None) -> None:
        self.options = options if options is not None else registered_options(PACKAGE)[self.name]()
        """``own_options`` and weights, as configured."""

    @abstractmethod
    def values(self, pairs: CandidatePairs) -> Float64[np.ndarray, "n"]:
        """Return the value of each pair, NaN where it is unknown."""


def register(term: type[Term]) -> None:
    """Add a term to the likelihood, and its options to the configuration.

    Its options are ``association.terms.NAME.weight``, ``weight_unknown`` if it has one, and those
    of ``own_options``. Raises ValueError: the name is taken.
    """
    meaning = f"log-odds of a pair per unit of {term.name}: {term.meaning}"
    low = -100.0 if term.fitted or term.weight < 0 else 0.0  # set by hand, it keeps its sign
    high = 100.0 if term.fitted or term.weight > 0 else 0.0
    fields = [("weight", float, option(term.weight, meaning, low=low, high=high))]
    if term.weight_unknown is not None:
        meaning = f"log-odds of a pair for which {term.name} is unknown"
        unknown = option(term.weight_unknown, meaning, low=-100.0, high=100.0)
        fields.append(("weight_unknown", float, unknown))
    bases = () if term.own_options is None else (term.own_options,)
    options = make_dataclass(f"{term.__name__}Options", fields, bases=bases, frozen=True)
    register_options(PACKAGE, term.name, options)
    _TERMS[term.name] = term


def unregister(term: type[Term]) -> None:
    """Take a term out of the likelihood and its options out of the configuration."""
    del _TERMS[term.name]
    forget(PACKAGE, term.name)


def registered() -> tuple[type[Term], ...]:
    """Return every term of the package, in the order of the sum."""
    import_plugins(PACKAGE)
    return tuple(sorted(_TERMS.values(), key=lambda term: (term.order, term.name)))
