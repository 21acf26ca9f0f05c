"""Trackers of points: equations, and what every one of them keeps to."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.networks import calibrate

from vos_ros.config import ConfigError
from vos_ros.segmentation.checkpoints import ONE_POINT_FORMAT, POINT_TRACKER_FORMAT
from vos_ros.segmentation.networks.heatmap import HeatmapHead, heatmap, heatmap_loss
from vos_ros.segmentation.networks.one_point import OnePointNet, OnePointSpec
from vos_ros.segmentation.networks.point_tracker import PointTrackerNet, PointTrackerSpec
from vos_ros.segmentation.point_trackers.heatmap import (
    Heatmap,
    HeatmapOptions,
    changed,
    paper_options,
    peak,
)
from vos_ros.segmentation.point_trackers.interface import PointTracker
from vos_ros.segmentation.point_trackers.learned import Learned, LearnedOptions
from vos_ros.segmentation.point_trackers.registry import OPTIONS, create

CPU = torch.device("cpu")
HEIGHT, WIDTH = 97, 129
POINTS = np.array([[40.0, 32.0], [80.0, 56.0]])


def image(shift: tuple[int, int] = (0, 0)) -> np.ndarray:
    """Return a smooth random texture, shifted by (x, y) px."""
    rng = np.random.default_rng(3)
    wide = cv2.GaussianBlur(
        rng.integers(0, 256, (HEIGHT + 64, WIDTH + 64, 3)).astype(np.float32), (0, 0), 2.5
    )
    wide = (wide - wide.min()) / (wide.max() - wide.min()) * 255
    x, y = 32 - shift[0], 32 - shift[1]
    return wide[y : y + HEIGHT, x : x + WIDTH].astype(np.uint8)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Write weights that nothing was learned for."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    nets = {
        ONE_POINT_FORMAT: OnePointNet(OnePointSpec(dims=16, width=8)),
        POINT_TRACKER_FORMAT: PointTrackerNet(PointTrackerSpec()),
    }
    for kind, net in nets.items():
        calibrate(net.feature_extractor, image())
        path = folder / f"{kind}.safetensors"
        save_file(net.state_dict(), path, {"format": kind, "spec": net.spec.to_json()})
    return {kind: str(folder / f"{kind}.safetensors") for kind in nets}


class Colors:
    """An embedding of cells of 8 px by their colours, at 4 x 4 places of each."""

    gamma = 5.0

    def embed(self, rgb: np.ndarray) -> torch.Tensor:
        planes = torch.from_numpy(rgb[:96, :128].copy()).permute(2, 0, 1)[None].float()
        return torch.nn.functional.unfold(
            torch.nn.functional.avg_pool2d(planes, 2), 4, stride=4
        ).reshape(48, 12, 16)

    def at(
        self, embedding: torch.Tensor, points: np.ndarray, shape: tuple[int, int]
    ) -> torch.Tensor:
        x, y = torch.from_numpy(points).div(8).long().t()
        return embedding[:, y, x].t()

    def pixels(self, cells: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
        return cells * 8 + 3.5


def tracker(name: str, files: dict[str, str], steps: int = 3) -> PointTracker:
    options: object = None
    embedding = None
    if name == "heatmap":
        options = HeatmapOptions(
            model=files[ONE_POINT_FORMAT], long_side=225, width=16, steps=steps, images=6, rate=5e-3
        )
    elif name == "learned":
        options = LearnedOptions(model=files[POINT_TRACKER_FORMAT], long_side=129)
    elif name == "embedding":
        embedding = Colors()
    return create(name, CPU, embedding=embedding, options=options)


def test_heatmap_is_equation_3_1() -> None:
    rng = np.random.default_rng(0)
    points, sigmas = rng.uniform(0, 60, (3, 2)), (24.0, 48.0, 96.0)
    y, x = np.mgrid[:7, :9] * 8.0
    got = heatmap(torch.tensor(points), sigmas, torch.tensor(np.stack([x, y], -1)))
    for k, (px, py) in enumerate(points):
        for s, sigma in enumerate(sigmas):
            wanted = np.exp(-4 * np.log(2) * ((x - px) ** 2 + (y - py) ** 2) / sigma**2)
            np.testing.assert_allclose(got[k, s].numpy(), wanted, rtol=1e-12)
    half = heatmap(torch.tensor([0.0, 0.0]), [32.0], torch.tensor([[[16.0, 0.0]]]))
    assert float(half) == pytest.approx(0.5), "sigma is the full width at half maximum"


def test_gradient_of_head_and_loss() -> None:
    torch.manual_seed(0)
    head = HeatmapHead(3, points=2, sigmas=3, width=4).double()
    torch.nn.init.normal_(head.out.weight)
    x = torch.randn(2, 3, 6, 7, dtype=torch.float64, requires_grad=True)
    wanted = torch.rand(2, 2, 3, 6, 7, dtype=torch.float64)
    names = [n for n, _ in head.named_parameters()]

    def loss(x: torch.Tensor, *values: torch.Tensor) -> torch.Tensor:
        found = torch.func.functional_call(head, dict(zip(names, values, strict=True)), (x,))
        return heatmap_loss(found, wanted)

    assert torch.autograd.gradcheck(loss, (x, *head.parameters()))
    by_hand = ((head(x) - wanted) ** 2).sum() / 2
    torch.testing.assert_close(heatmap_loss(head(x), wanted), by_hand)


def test_peak_of_a_gaussian_is_found_between_cells() -> None:
    places = np.array([[3.3, 2.6], [0.0, 4.0], [6.8, 1.2]])
    y, x = np.mgrid[:6, :9]
    planes = np.stack([np.exp(-((x - a) ** 2 + (y - b) ** 2) / 4) for a, b in places])
    cells, values = peak(planes)
    np.testing.assert_allclose(cells, places, atol=1e-6)
    assert values == pytest.approx(planes.reshape(3, -1).max(1))


def test_points_move_with_a_changed_image() -> None:
    dark = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    cv2.circle(dark, (60, 48), 4, (255, 255, 255), -1)
    rng = np.random.default_rng(1)
    moved = []
    for _ in range(5):
        made, points = changed(dark, np.array([[60.0, 48.0]]), rng)
        y, x = np.nonzero(made[..., 0] > 100)
        np.testing.assert_allclose(points[0], [x.mean(), y.mean()], atol=0.5)
        moved.append(points[0])
    assert np.ptp(moved, axis=0).min() > 5


@pytest.mark.parametrize("name", OPTIONS)
def test_every_tracker_keeps_to_the_interface(name: str, files: dict[str, str]) -> None:
    made = tracker(name, files)
    first = image()
    track = made.start(first, POINTS)
    now = track.step(first)
    error = np.linalg.norm(now.points - POINTS, axis=1)
    if name != "heatmap":  # see below
        assert error.max() < {"embedding": 8}.get(name, 1.0), now.points
    assert now.visible.shape == now.confidence.shape == (2,) and now.visible.dtype == bool
    assert ((now.confidence >= 0) & (now.confidence <= 1)).all()
    with pytest.raises(ValueError, match=r"image of 129x96 px, but .* 129x97 px"):
        track.step(first[:-1])
    with pytest.raises(ValueError, match=r"a point to track at \(140, 5\) px: wanted one inside"):
        made.start(first, np.array([[140.0, 5.0]]))
    with pytest.raises(ValueError, match=r"array of \(3,\), wanted \(K, 2\)"):
        made.start(first, np.zeros(3))
    nothing = made.start(first, np.zeros((0, 2))).step(first)
    assert nothing.points.shape == (0, 2) and nothing.visible.shape == (0,)


@pytest.mark.parametrize("name", ["embedding", "flow"])
def test_trackers_follow_a_shift(name: str, files: dict[str, str]) -> None:
    track = tracker(name, files).start(image(), POINTS)
    for step in range(1, 3):
        now = track.step(image((8 * step, -8 * step)))
    error = np.linalg.norm(now.points - POINTS - [16, -16], axis=1)
    assert error.max() < {"flow": 0.5, "embedding": 6.0}[name], now.points
    assert now.visible.all() and (now.confidence > 0.5).all()


def test_the_shipped_network_follows_and_finds_again() -> None:
    track = create("learned", CPU).start(image(), POINTS)
    for step in range(1, 4):
        now = track.step(image((4 * step, 2 * step)))
    error = np.linalg.norm(now.points - POINTS - [12, 6], axis=1)
    assert error.max() < 2 and now.visible.all(), now.points
    grey = np.full_like(image(), 120)
    assert not track.step(grey).visible.any()
    back = track.step(image((8, 4)))
    assert np.linalg.norm(back.points - POINTS - [8, 4], axis=1).max() < 2 and back.visible.all()


def test_a_heatmap_is_learned_from_one_image(files: dict[str, str]) -> None:
    def discs(shift: tuple[int, int]) -> np.ndarray:
        made = image() // 6
        for (x, y), color in zip(POINTS.astype(int), ((250, 60, 60), (60, 60, 250)), strict=True):
            cv2.circle(made, (x + shift[0], y + shift[1]), 11, color, -1)
        return made

    track = tracker("heatmap", files, 100).start(discs((0, 0)), POINTS)
    now = track.step(discs((10, 8)))
    error = np.linalg.norm(now.points - POINTS - [10, 8], axis=1)
    assert error.max() < 9, now.points
    away = track.step(image() // 6)
    assert (away.confidence < 0.7 * now.confidence).all()


def test_the_baseline_stays_and_the_flow_is_lost_behind_something(files: dict[str, str]) -> None:
    still, flow = (tracker(n, files).start(image(), POINTS) for n in ("first_frame", "flow"))
    np.testing.assert_array_equal(still.step(image((9, 9))).points, POINTS)
    hidden = image()
    hidden[20:44, 26:54] = np.random.default_rng(5).integers(0, 256, (24, 28, 3))
    assert flow.step(hidden).visible.tolist() == [False, True]
    assert flow.step(image()).visible.tolist() == [False, True], "what is lost stays lost"


def test_tracks_share_the_features_of_an_image(
    files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tracker("learned", files)
    assert isinstance(made, Learned)
    seen: list[int] = []
    inner = made.net.features

    def counted(rgb: torch.Tensor) -> dict[int, torch.Tensor]:
        seen.append(1)
        return inner(rgb)

    monkeypatch.setattr(made.net, "features", counted)
    first, second = image(), image((2, 0))
    tracks = [made.start(first, POINTS[n : n + 1]) for n in range(2)]
    apart = np.concatenate([t.step(second).points for t in tracks])
    assert len(seen) == 2
    together = made.start(first, POINTS).step(second).points
    np.testing.assert_allclose(apart, together, atol=1e-3)


def test_the_papers_setting_trains_the_backbone(files: dict[str, str]) -> None:
    paper = paper_options()
    assert (paper.optimizer, paper.rate, paper.momentum, paper.weight_decay) == (
        "sgd", 1e-6, 0.9, 5e-4)  # fmt: skip
    assert (paper.steps, paper.batch, paper.backbone) == (3000, 2, "resnet50")
    options = HeatmapOptions(
        model=files[ONE_POINT_FORMAT], train="all", long_side=128, width=8, steps=1, rate=1e-2
    )
    made = Heatmap(options, CPU)
    before = {k: v.clone() for k, v in made.net.state_dict().items()}
    head_only = Heatmap(HeatmapOptions(**{**vars(options), "train": "head", "images": 1}), CPU)
    found = [t.start(image(), POINTS).step(image()).confidence for t in (made, head_only)]
    assert not np.allclose(*found), "one learns with the backbone, the other without"
    for name, value in made.net.state_dict().items():
        assert torch.equal(value, before[name]), "a track learns on a copy"


def test_what_cannot_be_made(files: dict[str, str], tmp_path: Path) -> None:
    make = partial(create, device=CPU)
    with pytest.raises(ConfigError, match=r"'kalman': known are embedding, first_frame, flow"):
        make("kalman")
    with pytest.raises(ConfigError, match="embedding needs a network of one_point"):
        make("embedding")
    for name, options in (
        ("heatmap", HeatmapOptions(model=files[POINT_TRACKER_FORMAT])),
        ("learned", LearnedOptions(model=files[ONE_POINT_FORMAT])),
    ):
        with pytest.raises(ConfigError, match=rf"{name}.model: .*names no network of this method"):
            make(name, options=options)
