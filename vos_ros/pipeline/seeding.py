"""Decide which objects to segment: predicted ones that no track follows, and prompts."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np

from vos_ros.config import TrackingConfig
from vos_ros.mapping.object_map import ObjectMap
from vos_ros.mapping.seeds import box_seed_of, seed_of
from vos_ros.pipeline.clicks import check_clicks
from vos_ros.pipeline.map_view import MapView
from vos_ros.pipeline.plan import Prompts, SegmenterPlan, TrackStart, prompted_starts
from vos_ros.segmentation.fusion import most_probable_rows
from vos_ros.segmentation.prompts import check_prompt
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import Mask, Points, Projection, Seed, Segmentation, TrackSource

_MAX_PROMPTS = 2
"""Prompts that start on one frame: a box takes up to 0.2 s to become a mask. Others wait."""
_MIN_SAME_IOU = 0.5
"""Minimum IoU of a projection and a prompted track's mask, from which they are the same object."""


class Seeder:
    """Plan which tracks are segmented. Keeps prompts until the frame on which they start."""

    def __init__(self, config: TrackingConfig, *, uses_image: bool) -> None:
        """``uses_image``: the segmenter's; one that doesn't is given each projection anew."""
        self._config, self._uses_image = config, uses_image
        self._waiting: list[TrackStart] = []

    @property
    def waiting_ids(self) -> set[int]:
        """Track ids of the prompts that wait for the next frame."""
        return {s.track_id for s in self._waiting}

    def for_segmenter(self, *, uses_image: bool) -> Seeder:
        """Return a seeder for another segmenter; the waiting prompts go with it."""
        new = Seeder(self._config, uses_image=uses_image)
        new._waiting = self._waiting
        return new

    def prompted_starts(
        self, prompts: Prompts, image_size: tuple[int, int] | None, tracks: TrackManager
    ) -> tuple[TrackStart, ...]:
        """Return the starts of prompts; at most ``max_objects`` are followed from prompts.

        Raises ValueError as ``plan.prompted_starts``.
        """
        prompted = sum(t.source == TrackSource.PROMPT for t in tracks)
        room = self._config.max_objects - prompted - len(self._waiting)
        return prompted_starts(prompts, image_size, tracks, room)

    def add_prompts(self, starts: Sequence[TrackStart]) -> None:
        """Keep prompts for the next frame."""
        self._waiting.extend(starts)

    def discard_prompts(self, track_ids: Collection[int]) -> None:
        """Forget waiting prompts; ids that don't wait are ignored."""
        self._waiting = [s for s in self._waiting if s.track_id not in track_ids]

    def plan(
        self, view: MapView, segmentation: Segmentation, tracks: TrackManager, objects: ObjectMap
    ) -> SegmenterPlan:
        """Plan the seeds of a frame: predicted objects, the largest first, then waiting prompts.

        Where more objects are predicted than may be segmented at once, tracks whose objects left
        the view are paused, those first that left first.

        Args:
            view: what the map predicts.
            segmentation: of the frame, by the segmenter.
            tracks: of the session; ids of new ones are reserved there.
            objects: the map.
        """
        followed = set(segmentation.object_ids)
        track_of = tracks.track_by_object()
        unfollowed = [
            p
            for p in view.projections.values()
            if track_of.get(p.object_id) not in followed and view.is_seedable(p, self._config)
        ]
        wanted = sorted(unfollowed, key=lambda p: -p.area_px)
        if wanted:
            wanted = _without_prompted(wanted, segmentation, tracks)
        room = self._config.max_objects - len(followed)
        pausable = _out_of_view(view, tracks, followed)[: max(0, len(wanted) - room)]
        room += len(pausable)
        # Where even then there is no room, pausing would not help.
        pause = pausable if room > 0 else []
        starts = [
            TrackStart(
                self._seed(track_of.get(p.object_id) or tracks.reserve(), p, view),
                map_object_id=p.object_id,
                class_id=objects[p.object_id].class_id,
                source=TrackSource.MAP,
            )
            for p in wanted[: max(0, room)]
        ]
        prompted, warnings = self._take_prompts(segmentation, view)
        return SegmenterPlan(
            pause=tuple(pause),
            corrections=self._projections_as_masks(view, segmentation, tracks, set(pause)),
            starts=(*starts, *prompted),
            warnings=tuple(warnings),
        )

    def _seed(self, track_id: int, p: Projection, view: MapView) -> Seed:
        """Return the seed of a map object: its projection, or a click in its box."""
        center = view.box_centers.get(p.object_id)
        if center is None or not self._uses_image:
            return seed_of(track_id, p, view.sigma_px[p.object_id])
        return box_seed_of(track_id, p, center)

    def _take_prompts(
        self, segmentation: Segmentation, view: MapView
    ) -> tuple[list[TrackStart], list[str]]:
        """Return the waiting prompts that fit the image, and a warning for each other one."""
        height, width = segmentation.probs.shape[1:]
        fitting, warnings = [], []
        taken, self._waiting = self._waiting[:_MAX_PROMPTS], self._waiting[_MAX_PROMPTS:]
        for start in taken:
            # Asked for before the image's size was known, or the size has changed since.
            try:
                check_prompt(start.seed.prompt, (int(height), int(width)))
                if isinstance(start.seed.prompt, Points):
                    owners = _owners(start.seed.prompt, segmentation)
                    check_clicks(start.seed.prompt, owners, view.projections.values())
                fitting.append(start)
            except ValueError as e:
                warnings.append(f"track {start.track_id} is not started: {e}")
        return fitting, warnings

    def _projections_as_masks(
        self,
        view: MapView,
        segmentation: Segmentation,
        tracks: TrackManager,
        paused: Collection[int],
    ) -> tuple[Seed, ...]:
        """Return every followed object's projection, for a segmenter that doesn't use the image."""
        if self._uses_image or view.T_map_camera is None:
            return ()
        followed = set(segmentation.object_ids) - set(paused)
        nothing = np.zeros(tuple(segmentation.probs.shape[1:]), bool)
        masks = {i: p.mask for i, p in view.projections.items()}
        return tuple(
            Seed(r.track_id, Mask(masks.get(r.map_object_id, nothing)))
            for r in tracks
            if r.map_object_id and r.track_id in followed
        )


def _owners(points: Points, segmentation: Segmentation) -> tuple[int, ...]:
    """Return the track that owns each clicked pixel by the image alone, 0 for none."""
    x, y = np.rint(points.xy).astype(int).T
    ids = (0, *segmentation.object_ids)
    return tuple(ids[row] for row in segmentation.probs[:, y, x].argmax(0).tolist())


def _out_of_view(view: MapView, tracks: TrackManager, followed: Collection[int]) -> list[int]:
    """Return the segmented tracks whose map objects have left the view, the longest gone first."""
    gone = [
        r
        for r in tracks
        if r.misses
        and r.map_object_id
        and r.map_object_id not in view.projections
        and r.track_id in followed
    ]
    return [r.track_id for r in sorted(gone, key=lambda r: -r.misses)]


def _without_prompted(
    wanted: Sequence[Projection], segmentation: Segmentation, tracks: TrackManager
) -> list[Projection]:
    """Leave out projections that a track without a map object (from a prompt) covers.

    The track will be associated with the object, and a second track would take its pixels.
    """
    rows = [
        row for row, t in enumerate(segmentation.object_ids, start=1) if not tracks[t].map_object_id
    ]
    if not rows:
        return list(wanted)
    index = most_probable_rows(segmentation).row.cpu().numpy()
    masks = [index == row for row in rows]
    return [
        p
        for p in wanted
        if all(
            np.count_nonzero(m & p.mask) < _MIN_SAME_IOU * np.count_nonzero(m | p.mask)
            for m in masks
        )
    ]
