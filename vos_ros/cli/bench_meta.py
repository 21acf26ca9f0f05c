"""``vos-ros bench meta``: compare the learned optimizer of paper 000 with the usual ones."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vos_ros.cli.bench_lwl import picture_path, positive

if TYPE_CHECKING:
    from vos_ros.segmentation.networks.meta import MetaNet
    from vos_ros.training.compare import Curve
    from vos_ros.training.config import TrainConfig
    from vos_ros.training.interface import Batch

_EPILOG = """\
Each optimizer learns every object of the clips from its first frame, from the same start and on the
same cells; loss and IoU are those of the later frames. Adam, RMSProp and SGD run at all of their
--rates; the table has each at the rate with the lowest loss, averaged over the numbers of
iterations. Then the same rates are used with a loss that is --scale times as large, and as small.

clips come from the validation section of a training configuration (its held-out clips), or from a
folder in DAVIS' layout:
  vos-ros bench meta --config config/train/meta_mnv2.yaml --data-root DIR --json meta.json
  vos-ros bench meta --davis DAVIS --split 2017/val --clips 64 --plot meta.png

figures (lr and iterations in the names):
  meta_OPTIMIZER_rate              the best learning rate
  meta_OPTIMIZER_N_loss, _iou      after N iterations
  meta_OPTIMIZER_xS_N_loss, _iou   the same with the loss multiplied by S
  meta_OPTIMIZER_reaches_lstm5     iterations after which the optimizer, at its best rate for that
                                   number, has a loss as low as five of the learned optimizer's;
                                   none: not within the largest number
"""
_ITERATIONS = (0, 1, 2, 5, 10, 20, 50, 100)
_RATES = {
    "adam": (0.001, 0.003, 0.01, 0.03, 0.1),
    "rmsprop": (0.0003, 0.001, 0.003, 0.01, 0.03),
    "sgd": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
}
_TARGET = 5


def add_parser(kinds: Any) -> None:
    """Register the command. Options that ``vos-ros bench`` has too keep their values."""
    p = kinds.add_parser(
        "meta",
        help="the learned optimizer against Adam, RMSProp, SGD and steepest descent",
        epilog=_EPILOG,
        description="Compares optimizers of the meta method's segmentation models.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = p.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--config",
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="training configuration whose held-out clips are taken",
    )
    where.add_argument("--davis", metavar="DIR", help="folder in DAVIS' layout")
    p.add_argument(
        "--split", default="2017/val", metavar="YEAR/SUBSET", help="of --davis (default: 2017/val)"
    )
    p.add_argument(
        "--data-root", metavar="DIR", help="folder that the configuration's sources are relative to"
    )
    p.add_argument(
        "--model",
        default="meta-mnv2",
        metavar="NAME_OR_FILE",
        help="weights (segmentation.meta.model; default: meta-mnv2)",
    )
    p.add_argument(
        "--clips", type=positive, default=32, metavar="N", help="how many clips (default: 32)"
    )
    p.add_argument(
        "--iterations",
        type=_numbers,
        default=_ITERATIONS,
        metavar="N,N",
        help=f"numbers of iterations that are shown (default: {','.join(map(str, _ITERATIONS))})",
    )
    p.add_argument(
        "--scale",
        type=float,
        default=10.0,
        metavar="S",
        help="the loss is also tried S times as large and as small (default: 10)",
    )
    p.add_argument(
        "--without-one-shot",
        action="store_true",
        help="start from the shared start, not from the weight generator's",
    )
    p.add_argument("--threads", type=positive, metavar="N", help="CPU threads of torch")
    p.add_argument(
        "--json", default=argparse.SUPPRESS, metavar="FILE", help="write the figures there too"
    )
    p.add_argument(
        "--plot",
        type=picture_path,
        metavar="FILE",
        help="draw loss and IoU against iterations there (.png, .pdf, .svg)",
    )


def _numbers(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(sorted({int(n) for n in text.split(",")}))
    except ValueError:
        numbers = ()
    if not numbers or numbers[0] < 0 or numbers[-1] < 1 or numbers[-1] > 10000:
        raise argparse.ArgumentTypeError(
            f"got {text!r}, wanted numbers of iterations from 0 to 10000 with commas, e.g. 1,5,50"
        )
    return numbers


def run(args: argparse.Namespace) -> int:
    """Run, print and draw. Raises ValueError with a text for the user."""
    import torch

    from vos_ros.cli.report import finish
    from vos_ros.segmentation.methods.meta.model import read_meta_network
    from vos_ros.segmentation.methods.meta.options import MetaOptions
    from vos_ros.segmentation.networks.meta_optimizer import OPTIMIZERS
    from vos_ros.training.compare import episodes, reached_after, sweep
    from vos_ros.training.meta_task import MetaTask

    if args.scale <= 0:
        raise ValueError(f"--scale {args.scale:g}: wanted a factor above 0")
    threads = torch.get_num_threads()
    torch.set_num_threads(args.threads or threads)
    try:
        net = read_meta_network(MetaOptions(model=args.model))
        task = MetaTask.of(net)
        held_out = episodes(net, task, _batches(args, net))
        iterations = tuple(sorted({*args.iterations, _TARGET}))
        tried, chosen = sweep(
            net,
            held_out,
            {name: _RATES.get(name, (0.0,)) for name in OPTIMIZERS},
            iterations,
            [args.scale, 1 / args.scale],
            one_shot=not args.without_one_shot,
        )
    finally:
        torch.set_num_threads(threads)
    plain = {c.optimizer: c for c in chosen if c.scale == 1}
    target = plain["lstm"].loss[iterations.index(_TARGET)]
    objects = sum(len(e.support.labels) for e in held_out)
    figures: dict[str, float | int | str] = {
        "meta_model": Path(args.model).name,
        "meta_objects": objects,
    }
    for c in chosen:
        name = f"meta_{c.optimizer}" + ("" if c.scale == 1 else f"_x{c.scale:g}")
        if c.scale == 1 and c.rate:
            figures[f"{name}_rate"] = c.rate
        for n, loss, iou in zip(c.iterations, c.loss, c.iou, strict=True):
            figures |= {f"{name}_{n}_loss": loss, f"{name}_{n}_iou": iou}
    for name in plain:
        reached = reached_after([c for c in tried if c.optimizer == name], target)
        figures[f"meta_{name}_reaches_lstm{_TARGET}"] = "none" if reached is None else reached
    _print_table(chosen)
    finish({k: v for k, v in figures.items() if not k.endswith(("_loss", "_iou"))}, None)
    if args.json:
        from vos_ros.cli.report import write_json

        write_json(figures, args.json)
    if args.plot:
        _plot(chosen, args.plot)
    return 0


def _batches(args: argparse.Namespace, net: MetaNet) -> list[Batch]:
    """Yield the clips, the same ones on every call."""
    from vos_ros.config import ConfigError
    from vos_ros.training.clips import Clips, loader
    from vos_ros.training.config import (
        AugmentConfig,
        ClipConfig,
        SourceConfig,
        ValidationConfig,
        load,
    )
    from vos_ros.training.data import open_source

    if args.davis:
        still = AugmentConfig(flip=0.0, rotation_deg=0.0, scale=0.0, brightness=0.0, grayscale=0.0)
        height, width = net.embedding.fits(257, 257)
        clip = ClipConfig(
            width=width,
            height=height,
            objects=4,
            gap=60,
            area_factor=3.0,
            recenter=0.0,
            jitter_center=0.0,
            augment=still,
        )
        sources, root = {"davis": SourceConfig(kind="davis", split=args.split)}, args.davis
        validation = ValidationConfig(mix={"davis": 1.0}, clip=clip)
    else:
        config: TrainConfig = load(
            args.config, {"data_root": args.data_root} if args.data_root else {}
        )
        sources, root, validation = dict(config.data), config.data_root, config.validation
        if not any(validation.mix.values()):
            raise ConfigError(
                f"{args.config}: its validation section names no source of held-out clips"
            )
    sequences = {
        name: open_source(sources[name], root) for name, share in validation.mix.items() if share
    }
    clips = Clips(
        sequences, {n: s for n, s in validation.mix.items() if s}, validation.clip, (0, 2**31)
    )
    numbers = list(range(args.clips))
    return list(loader(clips, [numbers[k : k + 4] for k in range(0, len(numbers), 4)], 0, 1))


def _print_table(chosen: Sequence[Curve]) -> None:
    """Print optimizers as rows, iterations as columns: loss, and IoU in per cent."""
    print(
        f"{'optimizer':18s}{'rate':>8s}{'scale':>7s}"
        + "".join(f"{n:>14d}" for n in chosen[0].iterations)
        + "  iterations: loss  IoU"
    )
    for c in chosen:
        cells = (
            f"{f'{loss:.4f}' if loss < 100 else f'{loss:.0e}':>9s}{100 * iou:5.1f}"
            for loss, iou in zip(c.loss, c.iou, strict=True)
        )
        print(
            f"{c.optimizer:18s}{f'{c.rate:g}' if c.rate else '':>8s}{c.scale:7g}" + "".join(cells)
        )


def _plot(chosen: Sequence[Curve], path: str) -> None:
    """Draw loss and IoU of the later frames over the iterations.

    Lines are dashed and dotted where the loss is scaled.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 2, figsize=(13, 4.5), layout="constrained")
    colors = {name: f"C{k}" for k, name in enumerate(dict.fromkeys(c.optimizer for c in chosen))}
    for c in chosen:
        style = "-" if c.scale == 1 else "--" if c.scale > 1 else ":"
        label = (
            c.optimizer
            + (f", rate {c.rate:g}" if c.rate else "")
            + ("" if c.scale == 1 else f", loss x{c.scale:g}")
        )
        for ax, values in zip(axes, (c.loss, c.iou), strict=True):
            ax.plot(
                c.iterations,
                values,
                style,
                color=colors[c.optimizer],
                label=label,
                marker="." if c.scale == 1 else "",
                linewidth=2 if c.optimizer == "lstm" else 1,
            )
    shown = [c for c in chosen if c.scale == 1 and max(c.loss) < 2 * c.loss[0]] or chosen[
        :1
    ]  # what diverges may leave the picture
    for ax, kind in zip(axes, ("loss", "iou"), strict=True):
        held = [v for c in shown for v in getattr(c, kind)]
        margin = 0.1 * (max(held) - min(held)) + 1e-3
        ax.set_ylim(min(held) - margin, max(held) + margin)
    for ax, what in zip(axes, ("loss on later frames", "mean IoU on later frames"), strict=True):
        ax.set_xscale("symlog", linthresh=1)
        ax.set_xlim(chosen[0].iterations[0] - 0.1, 1.1 * chosen[0].iterations[-1])
        ax.set_xticks(chosen[0].iterations, [str(n) for n in chosen[0].iterations])
        ax.set_xlabel("iterations on the first frame")
        ax.set_ylabel(what)
        ax.grid(alpha=0.3)
    axes[1].legend(fontsize=7, loc="upper left", bbox_to_anchor=(1.01, 1))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
