"""The whole pipeline with a map of positions and sizes alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support import squares

from vos_ros import config as configuration
from vos_ros.pipeline import Pipeline
from vos_ros.types import AssociationStatus, FrameResult, MapUpdate


def boxes_only(pipeline: Pipeline) -> None:
    bare = tuple(replace(o, points=o.points[:0]) for o in squares.map_objects())
    assert pipeline.update_map(MapUpdate(squares.START, "map", 1, True, bare)) == ""


def run(pipeline: Pipeline, frames: int, start: int = 0) -> FrameResult:
    for index in range(start, start + frames):
        frame = squares.frame_at(squares.START + index * squares.STEP, index)
        result = pipeline.step(frame)
    return result


@pytest.mark.parametrize(
    ("method", "seed_with"), [("null", ""), ("template", ""), ("template", "one_point")]
)
def test_boxes_are_seeded_followed_and_associated(method: str, seed_with: str) -> None:
    chosen = {"segmentation.method": method, "segmentation.seed_with": seed_with}
    pipeline = Pipeline(configuration.from_flat({**chosen, "segmentation.device": "cpu"}))
    boxes_only(pipeline)
    result = run(pipeline, 5)
    of_track = {a.track_id: a for a in result.associations if a.track_id}
    labels, found = result.labels(), {}
    for track in result.tracks:
        found[of_track[track.track_id].map_object_id] = labels == track.label_value
        assert of_track[track.track_id].status == AssociationStatus.MATCHED
    assert sorted(found) == sorted(squares.BOXES)
    for i, (x0, y0, x1, y1) in squares.BOXES.items():
        truth = np.zeros(labels.shape, bool)
        truth[y0:y1, x0:x1] = True
        assert (found[i] & truth).sum() > 0.8 * (found[i] | truth).sum()
    pipeline.close()
