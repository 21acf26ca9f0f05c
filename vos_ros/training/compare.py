"""Comparison of the learned optimizer with others (paper 000).

Loss and IoU are measured on frames that weren't learned from, after each number of iterations on
the first frame. Every optimizer has the same start and the same cells.
"""

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
    """Hold the figures of one optimizer at one learning rate; means over objects and frames."""

    optimizer: str
    """Name of the rule."""
    rate: float
    """Its learning rate."""
    scale: float
    """Factor of the loss while learning."""
    iterations: tuple[int, ...]
    """Numbers of iterations at which the following are measured."""
    loss: tuple[float, ...]
    """Unscaled loss on the later frames."""
    taught: tuple[float, ...]
    """Unscaled loss on the cells that are learned from."""
    iou: tuple[float, ...]
    """IoU on the later frames."""


@torch.no_grad()
def episodes(net: MetaNet, task: MetaTask, batches: Iterable[Batch]) -> list[Episode]:
    """Draw the cells of the objects of clips, the same on every call."""
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
    """Run one optimizer on all objects.

    Args:
        net: the networks.
        held_out: the objects.
        optimizer: name of the rule.
        rate: its learning rate.
        iterations: numbers at which to measure, 0 = the start; the largest is how far it runs.
        scale: factor of the loss while learning.
        one_shot: start from the generator's prediction.
    """
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
    """Return the curve with the lowest loss on the later frames, on average over its iterations.

    One that diverged anywhere comes last.
    """
    return min(curves, key=lambda c: sum(c.loss))


def reached_after(curves: Sequence[Curve], loss: float) -> int | None:
    """Return the iterations after which any curve is as low as ``loss``; None where none is.

    Curves of several rates are a baseline that may choose its rate for every number of iterations.
    """
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
    """Run all optimizers at all rates, then the best of each with the loss at other scales.

    Args:
        net: the networks.
        held_out: the objects.
        rates: learning rates to try, by name of the optimizer.
        iterations: numbers at which to measure.
        scales: factors of the loss.
        one_shot: start from the generator's prediction.

    Returns all curves of the first part, and the best of each followed by the rescaled ones.
    """
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
