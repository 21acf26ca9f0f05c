"""The score of instances from one point each, on images whose embedding is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from support.moving_squares import write_pair

from vos_ros.evaluation.key_points import InstanceScore, instance_figures, score_instances
from vos_ros.segmentation.networks.one_point import OnePointNet, OnePointSpec
from vos_ros.training.config import SourceConfig
from vos_ros.training.data import open_source


class ColorNet(OnePointNet):
    """Its embedding is the colour of the cell's pixel, 0..1."""

    def __init__(self) -> None:
        super().__init__(OnePointSpec(dims=3, width=4, normalize=False))
        self.requires_grad_(False).gamma.fill_(0.3)

    def forward(self, rgb: torch.Tensor) -> torch.Tensor:
        return rgb[:, :, ::8, ::8].float() / 255


def write_images(root: Path) -> None:
    """Two images: a red and a green square on black; and two red ones, one of them unknown."""
    for name, second in (("a", (0, 250, 0)), ("b", (250, 0, 0))):
        rgb, ids = np.zeros((97, 129, 3), np.uint8), np.zeros((97, 129), np.uint8)
        rgb[16:49, 16:49], ids[16:49, 16:49] = (250, 0, 0), 1
        rgb[56:89, 80:121], ids[56:89, 80:121] = second, 2 if name == "a" else 255
        write_pair(root / f"images/{name}.jpg", root / f"masks/{name}.png", rgb, ids)


def test_instances_from_their_inner_points(tmp_path: Path) -> None:
    write_images(tmp_path)
    images = open_source(SourceConfig(kind="folder"), tmp_path)
    scores = score_instances(ColorNet().eval(), images, 129)
    assert [(s.image[0], s.object_id) for s in scores] == [("a", 1), ("a", 2), ("b", 1)]
    # cells are 8 px: an outline lies within one of them; unknown pixels of the look-alike in b
    # don't count
    assert all(0.75 < s.iou <= 1.0 for s in scores)
    assert scores[0].share == pytest.approx(33 * 33 / (97 * 129))
    same = scores[0].iou
    assert scores[2].iou == pytest.approx(same, abs=0.06)


def test_an_instance_that_vanishes_at_the_networks_size_is_not_found(tmp_path: Path) -> None:
    rgb, ids = np.zeros((97, 129, 3), np.uint8), np.zeros((97, 129), np.uint8)
    ids[50, 51] = 3
    write_pair(tmp_path / "images/a.jpg", tmp_path / "masks/a.png", rgb, ids)
    images = open_source(SourceConfig(kind="folder"), tmp_path)
    (score,) = score_instances(ColorNet().eval(), images, 33)
    assert score.iou == 0.0 and score.object_id == 3


def test_figures_are_means_over_instances_of_a_size() -> None:
    scores = [
        InstanceScore("x", "a/0", 1, 0.5, 0.9),
        InstanceScore("x", "a/0", 2, 0.01, 0.4),
        InstanceScore("x", "b/0", 1, 0.001, 0.2),
    ]
    figures = instance_figures(scores, [0.0, 0.005, 0.7])
    assert figures["images"] == 2 and figures["instances_all"] == 3
    assert figures["miou_all"] == pytest.approx(0.5)
    assert figures["instances_from_0.5_percent"] == 2
    assert figures["miou_from_0.5_percent"] == pytest.approx(0.65)
    assert np.isnan(figures["miou_from_70_percent"])
    with pytest.raises(ValueError, match="no instance in any image"):
        instance_figures([], [0.0])
