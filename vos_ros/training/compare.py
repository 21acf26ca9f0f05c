"""The learned optimizer against others (paper 000): loss and IoU on frames that weren't learned from, after so many iterations on the first
frame, each optimizer from the same start and on the same cells."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch

from vos_ros.segmentation.networks.meta import MetaNet
from vos_ros.segmentation.networks.meta_optimizer import iterate
from vos_ros.training.interface import Batch
from vos_ros.training.meta_task import Episode, MetaTask, evaluate


@dataclass(frozen=True, slots=True)
class Curve:
    """One optimizer at one learning rate, with the loss multiplied by ``scale``. Tuples go with ``iterations``: means over objects and
    frames of the loss on the later frames, of the loss on what is learned from (both unscaled), and of the IoU."""

    optimizer: str
    rate: float
    scale: float
    iterations: tuple[int, ...]
    loss: tuple[float, ...]
    taught: tuple[float, ...]
    iou: tuple[float, ...]


@torch.no_grad()
def episodes(net: MetaNet, task: MetaTask, batches: Iterable[Batch]) -> list[Episode]:
    """What the objects of clips are learned from and measured on, the same on every call."""
    return [
        task.episode(net, batch, torch.Generator().manual_seed(k))
        for k, batch in enumerate(batches)
    ]


@torch.no_grad()
def curve(
    net: MetaNet,
    held_out: Sequence[Episode],
    optimizer: str,
    rate: float,
    iterations: Sequence[int],
    *,
    scale: float = 1.0,
    one_shot: bool = True,
) -> Curve:
    """Runs one optimizer on all objects, as far as the largest of ``iterations`` (0: the start)."""
    sums = {n: [0.0, 0.0, 0.0] for n in iterations}
    objects = 0
    rule = net.rule(optimizer, rate)
    for episode in held_out:
        objects += len(episode.support.labels)
        theta = net.start(episode.support, one_shot)

        def note(n: int, theta: torch.Tensor, episode: Episode = episode) -> None:
            figures = (
                net.head.loss(theta, episode.queries),
                net.head.loss(theta, episode.support),
                evaluate(net, theta, episode).mean(1),
            )
            sums[n] = [
                a + float(b.nan_to_num(10.0).sum()) for a, b in zip(sums[n], figures, strict=True)
            ]

        if 0 in sums:
            note(0, theta)
        state = rule.start(theta)
        for n, (learned, _) in enumerate(
            iterate(rule, net.head, theta, episode.support, state, max(iterations), scale=scale),
            start=1,
        ):
            if n in sums:
                note(n, learned)
    means = [tuple(sums[n][k] / max(1, objects) for n in iterations) for k in range(3)]
    return Curve(optimizer, rate, scale, tuple(iterations), *means)


def best(curves: Iterable[Curve]) -> Curve:
    """The one with the lowest loss on the later frames, on average over its iterations; one that diverged anywhere comes last."""
    return min(curves, key=lambda c: sum(c.loss))


def reached_after(curves: Sequence[Curve], loss: float) -> int | None:
    """Iterations after which any of the curves is as low as ``loss``, None where none ever is: a baseline that may take another learning
    rate for every number of iterations."""
    found = [
        n for c in curves for n, value in zip(c.iterations, c.loss, strict=True) if value <= loss
    ]
    return min(found, default=None)


def sweep(
    net: MetaNet,
    held_out: Sequence[Episode],
    rates: Mapping[str, Sequence[float]],
    iterations: Sequence[int],
    scales: Sequence[float],
    *,
    one_shot: bool = True,
) -> tuple[list[Curve], list[Curve]]:
    """All optimizers at all rates with the loss as it is; and the best of each, also with the loss at other ``scales``."""
    tried = [
        curve(net, held_out, name, rate, iterations, one_shot=one_shot)
        for name, all_rates in rates.items()
        for rate in all_rates
    ]
    chosen = [best(c for c in tried if c.optimizer == name) for name in rates]
    rescaled = [
        curve(net, held_out, c.optimizer, c.rate, iterations, scale=s, one_shot=one_shot)
        for c in chosen
        for s in scales
    ]
    return tried, [*chosen, *rescaled]
