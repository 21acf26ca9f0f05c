"""From verdicts to what is told the mapper: one statement per track, and one per map object that no track follows."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple, Protocol

from vos_ros.association.interface import Evidence, Match
from vos_ros.config import Config
from vos_ros.types import Association, AssociationStatus, MapObject, Projection, TrackState


class Followed(Protocol):
    """What must be known of a track to report on it."""

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


class MapConflicts(NamedTuple):
    """What the map seems to have wrong: objects whose places are known to be empty; per track the other map objects that it is too
    (MERGE), or the other tracks that are its object too (SPLIT)."""

    absent: Collection[int] = ()
    merged: Mapping[int, Collection[int]] = MappingProxyType({})
    split: Mapping[int, Collection[int]] = MappingProxyType({})


_NO_CONFLICTS = MapConflicts()


class Tracks(Protocol):
    """Tracks by id."""

    def __getitem__(self, track_id: int, /) -> Followed: ...


def associations(
    tracks: Tracks,
    objects: Iterable[MapObject],
    projections: Mapping[int, Projection],
    matches: Sequence[Match],
    config: Config,
    doubts: MapConflicts = _NO_CONFLICTS,
) -> tuple[Association, ...]:
    """The associations of a frame after its tracks have advanced."""
    out = [_of_track(m, tracks[m.track_id], projections, config, doubts) for m in matches]
    told = {a.map_object_id for a in out}
    out.extend(
        _of_object(o, projections.get(o.id), config, doubts) for o in objects if o.id not in told
    )
    return tuple(out)


def _of_track(
    m: Match,
    track: Followed,
    projections: Mapping[int, Projection],
    config: Config,
    doubts: MapConflicts,
) -> Association:
    runner_up = (m.runner_up.map_object_id, m.runner_up.score) if m.runner_up else (0, 0.0)
    e = m.evidence
    seen = track.misses == 0
    if seen and e is not None:
        said = None
        related: Collection[int] = ()
        if e.map_object_id == track.map_object_id and (
            m.track_id in doubts.merged or m.track_id in doubts.split
        ):
            # how probable the pair is says little here: the other object, or the other track, has its share of the same evidence
            said = (
                AssociationStatus.MERGE if m.track_id in doubts.merged else AssociationStatus.SPLIT
            )
            related = doubts.merged.get(m.track_id) or doubts.split[m.track_id]
        elif e.score >= config.association.match_score:
            said = AssociationStatus.TENTATIVE
            if track.recovered:
                said = AssociationStatus.REIDENTIFIED
            elif track.state == TrackState.CONFIRMED and e.map_object_id == track.map_object_id:
                said = AssociationStatus.MATCHED
        if said is not None:
            p = projections.get(e.map_object_id)
            return Association(
                m.track_id,
                e.map_object_id,
                said,
                e.score,
                e.mask_iou,
                e.depth_inlier_ratio,
                _looks(e),
                *runner_up,
                p.visible if p else math.nan,
                track.n_observations,
                tuple(sorted(related)),
            )
    p = projections.get(track.map_object_id)
    visible = p.visible if p else (0.0 if track.map_object_id and projections else math.nan)
    score = e.score if e is not None and e.map_object_id == track.map_object_id else 0.0
    if not track.map_object_id:
        status = (
            AssociationStatus.NEW
            if seen
            else AssociationStatus.LOST
            if track.state == TrackState.LOST
            else AssociationStatus.OCCLUDED
        )
    elif track.map_object_id in doubts.absent:
        status = (
            AssociationStatus.ABSENT
        )  # whatever pixels the track still has, they aren't where the object was
    elif seen:
        status = AssociationStatus.TENTATIVE
    elif track.state == TrackState.LOST:
        status = AssociationStatus.LOST
    else:
        status = _unseen(p, config)
    iou, inliers, looks = (
        (e.mask_iou, e.depth_inlier_ratio, _looks(e)) if e else (math.nan, math.nan, math.nan)
    )
    return Association(
        m.track_id,
        track.map_object_id,
        status,
        score,
        iou,
        inliers,
        looks,
        *runner_up,
        visible,
        track.n_observations,
    )


def _looks(e: Evidence) -> float:
    """Similarity of looks, 0..1, NaN where it isn't known: what is less than unlike is unlike."""
    return e.similarity if math.isnan(e.similarity) else max(0.0, e.similarity)


def _of_object(
    o: MapObject, p: Projection | None, config: Config, doubts: MapConflicts
) -> Association:
    """An object that no track follows: gone, hidden, out of view, or visible and waiting for a place (``tracking.max_objects``)."""
    status = AssociationStatus.ABSENT if o.id in doubts.absent else _unseen(p, config)
    if (
        status == AssociationStatus.OCCLUDED
        and p is not None
        and p.visible / (1.0 - p.truncated) >= config.tracking.seed_min_visible
    ):
        status = AssociationStatus.TENTATIVE
    return Association(0, o.id, status, 0.0, predicted_visible_fraction=p.visible if p else 0.0)


def _unseen(p: Projection | None, config: Config) -> AssociationStatus:
    """Why an object has no pixels: its part inside the image is too small, or hidden."""
    if (
        p is None
        or (1.0 - p.truncated) * p.silhouette_roi.sum() == 0
        or p.truncated > 1.0 - 0.5 * config.tracking.seed_min_visible
    ):
        return AssociationStatus.OUT_OF_VIEW
    return AssociationStatus.OCCLUDED
