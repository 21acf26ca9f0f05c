"""The status of tracks and map objects, as it is reported to the mapper."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from vos_ros.association.interface import Evidence, Match
from vos_ros.config import Config
from vos_ros.types import Association, AssociationStatus, MapObject, Projection, TrackState


class TrackLike(Protocol):
    """What must be known of a track to report its status."""

    @property
    def state(self) -> TrackState: ...
    @property
    def misses(self) -> int: ...
    @property
    def map_object_id(self) -> int: ...
    @property
    def n_observations(self) -> int: ...
    @property
    def recovered(self) -> bool: ...


class Tracks(Protocol):
    """Tracks by id."""

    def __getitem__(self, track_id: int, /) -> TrackLike: ...


class MapConflicts(NamedTuple):
    """Hold where measurements contradict the map."""

    absent: Collection[int] = ()
    """Objects in whose place free space was measured."""
    merged: Mapping[int, Collection[int]] = MappingProxyType({})
    """Track id -> the other map objects that the track covers too (MERGE)."""
    split: Mapping[int, Collection[int]] = MappingProxyType({})
    """Track id -> the other tracks that lie in its object (SPLIT)."""


_NO_CONFLICTS = MapConflicts()


def assign_status(
    tracks: Tracks,
    objects: Iterable[MapObject],
    projections: Mapping[int, Projection],
    matches: Sequence[Match],
    config: Config,
    conflicts: MapConflicts = _NO_CONFLICTS,
) -> tuple[Association, ...]:
    """Return one association per match, then one per map object that none of them names.

    Args:
        tracks: the tracks of the matches, after they have advanced to this frame.
        objects: the map's objects; none where the camera pose is unknown.
        projections: visible projections by object id.
        matches: one per track.
        config: thresholds.
        conflicts: where measurements contradict the map.
    """
    out = [_of_track(m, tracks[m.track_id], projections, config, conflicts) for m in matches]
    reported = {a.map_object_id for a in out}
    out.extend(
        _of_object(o, projections.get(o.id), config, conflicts)
        for o in objects
        if o.id not in reported
    )
    return tuple(out)


def _of_track(
    m: Match,
    track: TrackLike,
    projections: Mapping[int, Projection],
    config: Config,
    conflicts: MapConflicts,
) -> Association:
    """Return the matched pair where there is one, else the track's own object and its status."""
    e = m.evidence
    status = _matched_status(e, track, config, conflicts) if e and track.misses == 0 else None
    if e is not None and status is not None:
        object_id, score = e.map_object_id, e.score
        p = projections.get(object_id)
        visible = p.visible if p else math.nan
    else:
        object_id = track.map_object_id
        score = e.score if e is not None and e.map_object_id == object_id else 0.0
        p = projections.get(object_id)
        # where no object has a projection the pose may be unknown
        visible = p.visible if p else 0.0 if object_id and projections else math.nan
        status = _unmatched_status(track, p, config, conflicts)
    related: Collection[int] = ()
    if status == AssociationStatus.MERGE:
        related = conflicts.merged[m.track_id]
    elif status == AssociationStatus.SPLIT:
        related = conflicts.split[m.track_id]
    return Association(
        track_id=m.track_id,
        map_object_id=object_id,
        status=status,
        score=score,
        mask_iou=e.value("mask_iou") if e else math.nan,
        depth_inlier_ratio=e.value("depth_inliers") if e else math.nan,
        appearance_similarity=e.value("similarity") if e else math.nan,
        runner_up_id=m.runner_up.map_object_id if m.runner_up else 0,
        runner_up_score=m.runner_up.score if m.runner_up else 0.0,
        predicted_visible_fraction=visible,
        n_observations=track.n_observations,
        related_ids=tuple(sorted(related)),
        terms=e.terms if e is not None and e.map_object_id == object_id else {},
    )


def _matched_status(
    e: Evidence, track: TrackLike, config: Config, conflicts: MapConflicts
) -> AssociationStatus | None:
    """Return the status of a track with pixels and its assigned object, None: not a match."""
    is_current = e.map_object_id == track.map_object_id
    # In a conflict the score means little: the other object, or the other track, has its share of
    # the same evidence.
    if is_current and e.track_id in conflicts.merged:
        return AssociationStatus.MERGE
    if is_current and e.track_id in conflicts.split:
        return AssociationStatus.SPLIT
    if e.score < config.association.match_score:
        return None
    if track.recovered:
        return AssociationStatus.REIDENTIFIED
    if is_current and track.state == TrackState.CONFIRMED:
        return AssociationStatus.MATCHED
    return AssociationStatus.TENTATIVE


def _unmatched_status(
    track: TrackLike, p: Projection | None, config: Config, conflicts: MapConflicts
) -> AssociationStatus:
    """Return the status of a track that is not matched; ``p`` is the projection of its object."""
    if track.map_object_id in conflicts.absent:
        return AssociationStatus.ABSENT  # pixels that the track still has lie elsewhere
    if track.misses == 0:
        return AssociationStatus.TENTATIVE if track.map_object_id else AssociationStatus.NEW
    if track.state == TrackState.LOST:
        return AssociationStatus.LOST
    return _unseen_status(p, config) if track.map_object_id else AssociationStatus.OCCLUDED


def _of_object(
    o: MapObject, p: Projection | None, config: Config, conflicts: MapConflicts
) -> Association:
    """Return the status of an object without a track.

    It is absent, hidden, out of view, or visible but not followed (``tracking.max_objects``).
    """
    status = AssociationStatus.ABSENT if o.id in conflicts.absent else _unseen_status(p, config)
    if (
        status == AssociationStatus.OCCLUDED
        and p is not None
        and p.visible / (1.0 - p.truncated) >= config.tracking.seed_min_visible
    ):
        status = AssociationStatus.TENTATIVE
    visible = p.visible if p else 0.0
    return Association(0, o.id, status, 0.0, predicted_visible_fraction=visible)


def _unseen_status(p: Projection | None, config: Config) -> AssociationStatus:
    """Return why an object has no pixels: its part in the image is too small, or hidden."""
    if (
        p is None
        or (1.0 - p.truncated) * p.silhouette_roi.sum() == 0
        or p.truncated > 1.0 - 0.5 * config.tracking.seed_min_visible
    ):
        return AssociationStatus.OUT_OF_VIEW
    return AssociationStatus.OCCLUDED
