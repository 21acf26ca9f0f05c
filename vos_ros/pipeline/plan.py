"""Define what stages may ask for: changes of the segmenter, the tracks and the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

from vos_ros.segmentation.prompts import check_prompt
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import Prompt, Seed, TrackSource

Prompts = Sequence[tuple[Prompt, int]]
"""Prompts, each with the class id of its object."""


class Restart(IntEnum):
    """Name how much starts over, each level including those below it."""

    NOTHING = 0
    """The stream goes on."""
    PLACES = 1
    """The camera jumped: where instances were in the last frame tells nothing about this one."""
    SEGMENTER = 2
    """The image size changed: a new segmenter, and all that was counted about the old one."""
    SESSION = 3
    """Time went backwards: new tracks under a new session id."""


@dataclass(frozen=True, eq=False, slots=True)
class TrackStart:
    """Ask to segment a track from a seed; the track is started where it doesn't exist yet."""

    seed: Seed
    """Its prompt. ``seed.object_id`` is the track id."""
    map_object_id: int
    """The map object that it follows, 0 = none."""
    class_id: int
    """Class of a new track, 0 = unknown."""
    source: TrackSource
    """Source of a new track."""

    @property
    def track_id(self) -> int:
        """The track to segment."""
        return self.seed.object_id


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class SegmenterPlan:
    """Tell what to do, in this order; ``Pipeline`` does it."""

    restart: Restart = Restart.NOTHING
    """What starts over."""
    end: tuple[int, ...] = ()
    """Tracks that end."""
    pause: tuple[int, ...] = ()
    """Tracks that are no longer segmented; they live on, and are seeded again later."""
    lost: tuple[int, ...] = ()
    """Tracks that follow something other than their object: from now on they are LOST."""
    corrections: tuple[Seed, ...] = ()
    """Masks of segmented tracks from which the segmenter learns."""
    starts: tuple[TrackStart, ...] = ()
    """Tracks to segment from now on."""
    warnings: tuple[str, ...] = ()
    """What was wrong with the input, one sentence each."""

    @property
    def jumped(self) -> bool:
        """Tell whether the camera's pose has jumped, and nothing worse."""
        return self.restart == Restart.PLACES


def prompted_starts(
    prompts: Prompts,
    image_size: tuple[int, int] | None,
    tracks: TrackManager,
    room: int,
) -> tuple[TrackStart, ...]:
    """Return the starts of prompts with class ids, under ids that are reserved in ``tracks``.

    Args:
        prompts: each with the class id of its object.
        image_size: (H, W) px, None where it is not known yet.
        tracks: reserves the ids.
        room: largest number of prompts.

    Raises ValueError: a prompt is wrong, or there is no room for all; then no id is reserved.
    """
    if len(prompts) > room:
        raise ValueError(
            f"{len(prompts)} prompts, and there is room for {max(room, 0)}: at most"
            " tracking.max_objects objects are followed from prompts. Remove some, or raise it"
        )
    for prompt, _ in prompts:
        check_prompt(prompt, image_size)
    return tuple(
        TrackStart(Seed(tracks.reserve(), prompt), 0, class_id, TrackSource.PROMPT)
        for prompt, class_id in prompts
    )
