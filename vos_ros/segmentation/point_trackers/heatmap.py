"""The paper's first tracker (sec. 3.2, 4.3.1): a heatmap that is learned for each sequence.

A head on a backbone learns from the first image, changed at random, to draw eq. (3.1) of each point
for three widths. On later images the three are summed, and their maximum is the point.

The paper trains everything for 3000 iterations of SGD, 10 to 30 minutes a sequence on a GPU
(``paper_options``). By default the backbone, that of ``one_point``, stays as it is, and its maps of
a few changed images are computed once: seconds on a CPU.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import nn
from tqdm import tqdm

from vos_ros.config import option
from vos_ros.segmentation.checkpoints import ONE_POINT_FORMAT, load_weights, read_network
from vos_ros.segmentation.network_input import resolve_precision, scaled_size, upload
from vos_ros.segmentation.networks.backbones import GRID, image_input
from vos_ros.segmentation.networks.batch_norm import fold
from vos_ros.segmentation.networks.decoder import resize
from vos_ros.segmentation.networks.heatmap import HeatmapHead, heatmap, heatmap_loss
from vos_ros.segmentation.networks.one_point import SPECS, OnePointNet, OnePointSpec
from vos_ros.segmentation.point_trackers.interface import (
    Pixels,
    Rgb,
    Track,
    Tracked,
    check_points,
    check_size,
)

SIGMAS_PX = (24.0, 48.0, 96.0)
"""Widths of the heatmaps, px of an image that is 480 px high (sec. 4.3.1)."""
_PAPER_HEIGHT = 480
_TURN_DEG, _GROW, _SHIFT, _LIGHT = 15.0, 0.2, 0.15, 0.15


@dataclass(frozen=True)
class HeatmapOptions:
    """Options of the tracker by heatmaps."""

    model: str = option(
        "one_point-mnv2",
        "weights of one_point whose backbone is taken; empty = a backbone of its own",
        names_file=True,
    )
    backbone: str = option(
        "resnet50",
        "backbone where model is empty",
        choices=("mobilenet_v2", "resnet50", "resnet101"),
    )
    weights: str = option(
        "", "weights of that backbone, torchvision's names; empty = random", names_file=True
    )
    train: str = option(
        "head",
        "what learns on the first image: the head, or all with the backbone (the paper)",
        choices=("head", "all"),
    )
    long_side: int = option(481, "longer side of the network's input", unit="px", low=64, high=2048)
    width: int = option(64, "channels inside the head", low=4, high=4096)
    steps: int = option(120, "optimiser steps on the first image", low=1, high=10**6)
    batch: int = option(2, "changed images per step", low=1, high=256)
    images: int = option(
        16, "changed images that are made once, where only the head learns", low=1, high=4096
    )
    optimizer: str = option("adam", "optimiser", choices=("adam", "sgd"))
    rate: float = option(5e-4, "learning rate", low=1e-12, high=1.0)
    momentum: float = option(0.9, "of sgd", low=0.0, high=1.0)
    weight_decay: float = option(5e-4, "of sgd", low=0.0, high=1.0)
    min_peak: float = option(
        0.3, "a point is visible where the mean of its heatmaps is above this", low=0.0, high=1.0
    )
    seed: int = option(0, "of the changes", low=0, high=2**31)


def paper_options() -> HeatmapOptions:
    """Return the paper's setting; ``weights`` are to be added."""
    return HeatmapOptions(
        model="",
        train="all",
        long_side=896,
        width=512,
        steps=3000,
        optimizer="sgd",
        rate=1e-6,
    )


class Heatmap:
    """The tracker; what it learns for a sequence is in the track."""

    def __init__(self, options: HeatmapOptions, device: torch.device) -> None:
        self.options, self.device = options, device
        if options.model:
            self.net = read_network(
                "point_trackers.heatmap.model",
                options.model,
                "",
                ONE_POINT_FORMAT,
                lambda text: OnePointNet(OnePointSpec.from_json(text)),
            )
        else:
            self.net = OnePointNet(SPECS[options.backbone]).eval().requires_grad_(False)
            if options.weights:
                load_weights(self.net.feature_extractor, options.weights)
        self.net.to(device)
        if options.train == "head":  # for the backbone is then only used
            fold(self.net.feature_extractor)
            self.net.cast(resolve_precision("auto", device))

    @torch.inference_mode(False)  # the caller's may be on, and here something learns
    def start(self, rgb: Rgb, points: Pixels) -> Track:
        """Begin with points on an image: learn their heatmaps."""
        points = check_points(rgb, points)
        backbone, o = self.net.feature_extractor, self.options
        if o.train == "all":
            backbone = copy.deepcopy(backbone).requires_grad_(True)
        rng = np.random.default_rng(o.seed)
        shape = (rgb.shape[0], rgb.shape[1])
        view = _View(self, backbone, shape)
        head = self._learn(view, rgb, points, rng)
        return _Peaks(view, head, o.min_peak, shape)

    def _learn(
        self, view: _View, rgb: Rgb, points: Pixels, rng: np.random.Generator
    ) -> HeatmapHead:
        """Train a head, and the backbone where the options say so, on changes of one image."""
        o = self.options
        frozen = o.train == "head"
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(o.seed)
            with torch.set_grad_enabled(not frozen):
                channels = int(view.features(rgb).shape[1])
            head = HeatmapHead(channels, len(points), len(SIGMAS_PX), o.width).to(self.device)
        if not len(points):
            return head
        learned: list[nn.Parameter] = list(head.parameters())
        if not frozen:
            learned += list(view.backbone.parameters())
        optimizer: torch.optim.Optimizer = (
            torch.optim.Adam(learned, o.rate)
            if o.optimizer == "adam"
            else torch.optim.SGD(learned, o.rate, o.momentum, weight_decay=o.weight_decay)
        )
        made = [self._sample(view, rgb, points, rng) for _ in range(o.images)] if frozen else []
        with torch.enable_grad():
            for _ in tqdm(range(o.steps), desc="learning heatmaps", leave=False, disable=None):
                batch = [
                    made[int(rng.integers(len(made)))]
                    if frozen
                    else self._sample(view, rgb, points, rng)
                    for _ in range(o.batch)
                ]
                x, wanted = (torch.stack(part) for part in zip(*batch, strict=True))
                value = heatmap_loss(head(x), wanted)
                optimizer.zero_grad()
                value.backward()  # type: ignore[no-untyped-call]
                optimizer.step()
        return head.eval().requires_grad_(False)

    def _sample(
        self, view: _View, rgb: Rgb, points: Pixels, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the features of a changed image, and its points' heatmaps."""
        image, moved = changed(rgb, points, rng)
        with torch.set_grad_enabled(self.options.train == "all"):
            return view.features(image)[0], view.target(moved)


class _View:
    """A backbone on images of one size."""

    def __init__(self, tracker: Heatmap, backbone: nn.Module, shape: tuple[int, int]) -> None:
        self.backbone, self._device = backbone, tracker.device
        self._spec, self._dtype = tracker.net.spec, tracker.net.dtype
        h, w = self._size = tracker.net.fits(*scaled_size(shape, tracker.options.long_side))
        last = 1 if self._spec.aligned else 0
        self._scale = np.array([(w - last) / (shape[1] - last), (h - last) / (shape[0] - last)])
        self._sigmas = [s * h / _PAPER_HEIGHT for s in SIGMAS_PX]

    def features(self, rgb: Rgb) -> Float[torch.Tensor, "1 c h w"]:
        """Return the backbone's deepest map of an image."""
        image = resize(upload(rgb, self._device), self._size, self._spec.aligned)
        maps = self.backbone(image_input(image, self._spec.convention, self._dtype))
        out: torch.Tensor = maps[GRID].float()
        return out

    def target(self, points: Pixels) -> Float[torch.Tensor, "K S h w"]:
        """Return the heatmaps of points of the image, eq. (3.1), at the cells."""
        stride = self._spec.stride
        h, w = (-(-n // stride) for n in self._size)
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        cells = torch.stack([x, y], -1).to(self._device, torch.float32) * stride + self._first
        at = torch.tensor(points * self._scale, dtype=torch.float32, device=self._device)
        return heatmap(at, self._sigmas, cells)

    def pixels(self, cells: Float[np.ndarray, "K 2"]) -> Pixels:
        """Return where (column, row) of cells lie in the image, px."""
        return np.asarray((cells * self._spec.stride + self._first) / self._scale)

    @property
    def _first(self) -> float:
        """Pixel of the network's input on which cell 0 sits."""
        return 0.0 if self._spec.aligned else (self._spec.stride - 1) / 2


class _Peaks:
    def __init__(
        self, view: _View, head: HeatmapHead, min_peak: float, shape: tuple[int, int]
    ) -> None:
        self._view, self._head, self._min_peak, self._shape = view, head, min_peak, shape

    @torch.inference_mode()
    def step(self, rgb: Rgb) -> Tracked:
        check_size(rgb, self._shape)
        if not self._head.shape[0]:
            return Tracked(np.zeros((0, 2)), np.zeros(0, bool), np.zeros(0))
        summed = self._head(self._view.features(rgb))[0].sum(1).cpu().numpy()
        cells, peaks = peak(summed)
        mean = np.clip(peaks / len(SIGMAS_PX), 0, 1)
        points = np.clip(self._view.pixels(cells), 0, np.array(self._shape[::-1]) - 1)
        return Tracked(points, mean > self._min_peak, mean)


def peak(
    planes: Float[np.ndarray, "K h w"],
) -> tuple[Float[np.ndarray, "K 2"], Float[np.ndarray, "K"]]:
    """Return (column, row) of the maximum of each plane, and its value.

    Between cells it is the maximum of the parabola through the logarithms of the neighbours in each
    direction, which is exact for a Gaussian.
    """
    k, h, w = planes.shape
    row, column = np.unravel_index(planes.reshape(k, -1).argmax(1), (h, w))
    every = np.arange(k)
    offsets = []
    for at, last, step in ((column, w - 1, (0, 1)), (row, h - 1, (1, 0))):
        inner = (at > 0) & (at < last)
        dy, dx = (np.where(inner, s, 0) for s in step)
        low, middle, high = (
            np.log(np.maximum(planes[every, row + n * dy, column + n * dx], 1e-6))
            for n in (-1, 0, 1)
        )
        curve = low - 2 * middle + high
        shift = np.where(curve < -1e-9, 0.5 * (low - high) / np.minimum(curve, -1e-9), 0.0)
        offsets.append(np.clip(shift, -0.5, 0.5))
    found = np.stack([column, row], 1) + np.stack(offsets, 1)
    return found.astype(np.float64), planes[every, row, column]


def changed(
    rgb: Rgb, points: Pixels, rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "H W 3"], Pixels]:
    """Return an image turned, scaled, shifted and lit at random, and where its points are then."""
    h, w = rgb.shape[:2]
    turn, grow = np.radians(_TURN_DEG) * rng.uniform(-1, 1), math.exp(_GROW * rng.uniform(-1, 1))
    c, s = grow * math.cos(turn), grow * math.sin(turn)
    linear = np.array([[c, -s], [s, c]])
    center = np.array([(w - 1) / 2, (h - 1) / 2])
    shift = center + _SHIFT * rng.uniform(-1, 1, 2) * [w, h] - linear @ center
    image = cv2.warpAffine(
        rgb, np.column_stack([linear, shift]), (w, h), borderMode=cv2.BORDER_REFLECT_101
    )
    light = np.exp(_LIGHT * rng.uniform(-1, 1, 3))
    table = np.clip(np.arange(256)[:, None] * light, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(cv2.LUT(image, table[None])), points @ linear.T + shift
