"""Videos from key points alone: each row takes its points from where it says."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support.moving_squares import draw, sequence

from vos_ros.evaluation.key_point_fusion import FusionScore, fusion_figures, score_fusion
from vos_ros.evaluation.point_tracking import clips_of
from vos_ros.segmentation.methods.one_point.model import OnePointModel
from vos_ros.segmentation.networks.one_point import OnePointNet, OnePointSpec
from vos_ros.segmentation.point_trackers.simple import FirstFrame


class Identity(OnePointModel):
    """An embedding that tells the objects apart by their ids in frame t: one cell per 8 px."""

    def __init__(self, changes: bool) -> None:
        self.net = OnePointNet(OnePointSpec(dims=4, width=8, normalize=False, aligned=False)).eval()
        self.device = torch.device("cpu")
        self._changes, self._calls = changes, 0

    def embed(self, rgb: np.ndarray) -> torch.Tensor:
        ids = draw(self._calls, 2)[1]
        code = torch.eye(4)[torch.from_numpy(ids.astype(int))].permute(2, 0, 1)
        code = code.roll(self._calls, 0) if self._changes else code
        self._calls += 1
        return code[:, 4::8, 4::8]

    def at(
        self, embedding: torch.Tensor, points: np.ndarray, shape: tuple[int, int]
    ) -> torch.Tensor:
        x, y = torch.from_numpy(points).div(8).long().reshape(-1, 2).t()
        return embedding[:, y, x].t()


@pytest.mark.parametrize("changes", [False, True])
def test_rows_take_their_points_where_they_say(changes: bool) -> None:
    """With embeddings that change, those of the first frame are of no use."""
    clips = clips_of([sequence(n=2, frames=3)], 0, 50)
    scores = score_fusion(Identity(changes), FirstFrame(), clips, None)
    means = {row: own["mean"] for row, own in fusion_figures(scores).items()}
    assert list(means) == ["perfect", "first_frame", "tracked"]
    assert means["perfect"] > 0.5
    assert means["tracked"] == pytest.approx(means["perfect"])
    if changes:
        assert means["first_frame"] < 0.1
    else:
        assert means["first_frame"] == pytest.approx(means["perfect"])


def test_means_are_over_sequences() -> None:
    scores = [FusionScore("perfect", "a", str(t), 1, v) for t, v in enumerate((0.2, 0.4, 0.6))]
    scores += [FusionScore("perfect", "b", "0", 1, 1.0)]
    assert fusion_figures(scores) == {
        "perfect": {"a": pytest.approx(0.4), "b": 1.0, "mean": pytest.approx(0.7)}
    }
