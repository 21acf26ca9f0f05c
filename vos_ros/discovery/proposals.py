"""What proposes new objects: the interface, and its null and ground-truth twins."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Float64, Integer

from vos_ros.discovery.shape_completion import CompletedRegion
from vos_ros.types import Frame, Mask, Projection, Seed

_NO_OBJECT_IDS = (0, 255)
"""Values of an id image that are no object: background, and pixels that are not annotated."""


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class ProposerInput:
    """Hold what a proposer gets of one frame."""

    frame: Frame
    """The frame."""
    T_map_camera: Float64[np.ndarray, "4 4"] | None
    """The pose that is used; None where there is none."""
    instance_index: Integer[np.ndarray, "H W"]
    """The track of each pixel: 1 + its index in ``track_ids``, 0 for the background."""
    track_ids: tuple[int, ...]
    """The tracks that the segmenter follows."""
    object_of: Mapping[int, int]
    """By id of each live track, followed or not, the map object it is matched to; 0 is none."""
    projections: Collection[Projection]
    """The map objects in view."""
    sigma_px: Mapping[int, float]
    """Standard deviation of their projections, px, by object id."""

    @property
    def unmatched_tracks(self) -> set[int]:
        """Return the live tracks that are matched to no map object."""
        return {t for t, i in self.object_of.items() if not i}


@dataclass(frozen=True, eq=False, slots=True)
class Proposals:
    """Hold what a proposer found in one frame."""

    seeds: tuple[Seed, ...] = ()
    """New tracks under new ids, and lost unmatched tracks that are started again."""
    drifted_tracks: tuple[int, ...] = ()
    """Unmatched tracks that follow something that is not their object."""
    parts: tuple[CompletedRegion, ...] = ()
    """Parts of map objects that the map lacks."""


class SeedProposer(Protocol):
    """Propose new objects. Called with every frame of a stream, in order."""

    def __call__(
        self, inputs: ProposerInput, reserve_id: Callable[[], int], max_seeds: int
    ) -> Proposals:
        """Return at most ``max_seeds`` seeds, new ones under ids from ``reserve_id``."""
        ...


def no_proposals(inputs: ProposerInput, reserve_id: Callable[[], int], max_seeds: int) -> Proposals:
    """Propose nothing: the null twin."""
    return Proposals()


class MaskProposer:
    """Propose every object of an id image once, when it shows enough of itself: the truth's twin.

    ``truth`` gives the ids of a frame's pixels; 0 and 255 are none.
    """

    def __init__(
        self, truth: Callable[[Frame], Integer[np.ndarray, "H W"]], min_px: int = 300
    ) -> None:
        self._truth, self._min_px = truth, min_px
        self._proposed: set[int] = set()

    def __call__(
        self, inputs: ProposerInput, reserve_id: Callable[[], int], max_seeds: int
    ) -> Proposals:
        """See ``SeedProposer``."""
        ids = self._truth(inputs.frame)
        values, counts = np.unique(ids, return_counts=True)
        new = [
            int(v)
            for v, n in zip(values, counts, strict=True)
            if n >= self._min_px and v not in _NO_OBJECT_IDS and v not in self._proposed
        ]
        new = new[: max(0, max_seeds)]
        self._proposed.update(new)
        return Proposals(tuple(Seed(reserve_id(), Mask(ids == v)) for v in new))
