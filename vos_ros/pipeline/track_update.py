"""Advance the tracks by the masks and associations of a frame."""

from __future__ import annotations

from collections.abc import Sequence

from vos_ros.association.interface import Match
from vos_ros.config import Config
from vos_ros.pipeline.instance_masks import InstanceMasks
from vos_ros.pipeline.map_view import MapView
from vos_ros.tracking.track_manager import TrackManager


def advance_tracks(
    tracks: TrackManager,
    stamp_ns: int,
    view: MapView,
    masks: InstanceMasks,
    matches: Sequence[Match],
    config: Config,
) -> None:
    """Advance each matched track's life by one frame.

    A track whose object is not in the image is not expected there. Without a pose, and without a
    map object, every track is: nothing explains that it isn't found.

    Args:
        tracks: to advance.
        stamp_ns: of the frame.
        view: what the map predicts.
        masks: of the tracks.
        matches: one per track of ``masks``.
        config: of the pipeline.
    """
    area_px = dict(zip(masks.track_ids, masks.areas_px[1:].tolist(), strict=True))
    for m in matches:
        map_object_id = tracks[m.track_id].map_object_id
        e = m.evidence
        agreed = e is not None and e.score >= config.association.match_score
        p = view.projections.get(map_object_id)
        if p is not None:
            expected = view.is_expected(p, config.tracking)
        else:
            expected = not map_object_id or view.T_map_camera is None
        tracks.advance(
            m.track_id,
            stamp_ns,
            area_px=area_px[m.track_id],
            matched_object=e.map_object_id if e is not None and agreed else 0,
            expected=expected,
        )
