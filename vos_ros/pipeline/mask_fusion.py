"""Fuse the segmenter's probabilities with the map's predictions: which track owns each pixel."""

from __future__ import annotations

from dataclasses import replace

from vos_ros.pipeline.instance_masks import InstanceMasks
from vos_ros.pipeline.map_view import MapView
from vos_ros.segmentation.fusion import Prior, follows_box, fuse, limit_runaway_masks
from vos_ros.tracking.track_manager import TrackManager
from vos_ros.types import Segmentation


class MaskFusion:
    """Fuse frame by frame. Remembers where each track was in the last frame."""

    def __init__(self, *, uses_image: bool) -> None:
        """``uses_image``: the segmenter's; masks of one that doesn't are taken as they are."""
        self._uses_image = uses_image
        self._boxes: dict[int, tuple[int, int, int, int]] = {}

    def fuse(
        self, view: MapView, segmentation: Segmentation, tracks: TrackManager
    ) -> InstanceMasks:
        """Return the masks of all segmented tracks under the predictions of the map."""
        rows = None
        if self._uses_image:
            without_object = {
                t: box
                for t, box in self._boxes.items()
                if t in tracks and not tracks[t].map_object_id
            }
            priors = {
                **_priors(view, segmentation, tracks),
                **limit_runaway_masks(segmentation, without_object),
            }
            sigma_px = max(view.sigma_px.values(), default=0.0)
            rows = fuse(segmentation, priors, self._boxes, sigma_px)
        masks = InstanceMasks.from_segmentation(segmentation, rows)
        self._boxes = {masks.track_ids[row - 1]: box for row, box in masks.boxes.items()}
        return masks


def _priors(
    view: MapView, segmentation: Segmentation, tracks: TrackManager
) -> dict[int, Prior | None]:
    """Return the priors of tracks with a map object; none where there is no pose."""
    if view.T_map_camera is None:
        return {}
    # What is left of the projection of an absent object belongs to whatever stands behind it.
    priors = {
        r.track_id: None if r.map_object_id in view.absent else view.priors.get(r.map_object_id)
        for r in tracks
        if r.map_object_id
    }
    for row, t in enumerate(segmentation.object_ids, start=1):
        prior, object_id = priors.get(t), tracks[t].map_object_id
        if prior is None or object_id not in view.box_centers:
            continue
        if not follows_box(segmentation, row, view.projections[object_id]):
            priors[t] = replace(prior, sigma_px=0.0)  # the image says nothing of it any more
    return priors
