"""``vos-ros train``: train a segmenter's networks."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

_EPILOG = """\
DIR gets: config.yaml, log.jsonl, curve.png, tensorboard/, checkpoints/, and the averaged weights
with their card (NAME.safetensors, NAME-fp16.safetensors, NAME.md), written with every checkpoint.
NAME-best.safetensors had the best figures on the held-out clips. Ctrl-C or SIGTERM writes a
checkpoint first. A source of the configuration is any data set of vos_ros/datasets that has masks.

examples:
  three minutes on a CPU, nothing needed:
    vos-ros train lwl --config config/train/tiny.yaml --out out/tiny
  the small default network, and how to resume it from the last checkpoint:
    vos-ros train lwl --config config/train/lwl_mnv2.yaml --set data_root=/data
    vos-ros train lwl --config config/train/lwl_mnv2.yaml --set data_root=/data --resume
  other values of a run:
    vos-ros train lwl --config mine.yaml --set stages.video.steps=2000
  eight GPUs:
    torchrun --nproc-per-node 8 -m vos_ros.cli.main train lwl --config mine.yaml
"""


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    p = subparsers.add_parser(
        "train",
        help="train a segmenter's networks",
        epilog=_EPILOG,
        description="Trains a segmenter's networks on videos and stills.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "task",
        metavar="TASK",
        help="what is trained: lwl, lwl_box, embedding, meta, one_point, point_tracker",
    )
    p.add_argument(
        "--config", required=True, metavar="FILE", help="YAML file of the run (see config/train)"
    )
    p.add_argument(
        "--out",
        metavar="DIR",
        help="where everything goes (default: out/train/NAME, NAME being that of the file)",
    )
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one value of the run; may be repeated",
    )
    p.add_argument(
        "--resume",
        action="store_true",
        help="go on from the last checkpoint in DIR, or begin where there is none",
    )
    p.add_argument(
        "--steps", type=int, metavar="N", help="end this call after N steps; --resume goes on"
    )
    p.add_argument(
        "--device",
        default="auto",
        choices=("auto", "cpu", "cuda"),
        help="(default: auto, a GPU where there is one)",
    )
    p.add_argument(
        "--threads",
        type=int,
        default=0,
        metavar="N",
        help="CPU threads of torch (default: torch's own choice)",
    )
    p.add_argument("--quiet", action="store_true", help="no progress bar")


def run(args: argparse.Namespace) -> int:
    """Train. Raises ValueError or OSError with a message for people."""
    import torch

    from vos_ros.cli.report import settings
    from vos_ros.config import ConfigError
    from vos_ros.training.config import load
    from vos_ros.training.loop import train
    from vos_ros.training.tasks import create

    config = load(args.config, settings(args.set, "stages.video.steps=2000"))
    if config.task != args.task:
        raise ConfigError(
            f"{args.config} is for the task {config.task!r}, not {args.task!r}: name that one, or"
            " another file"
        )
    if args.threads:
        torch.set_num_threads(args.threads)
    out = Path(args.out or f"out/train/{config.name}")
    done = train(
        config,
        create(config.task, config.options),
        out,
        resume=args.resume,
        max_steps=args.steps,
        device=args.device,
        show=not args.quiet,
    )
    print(
        f"{'finished' if done.finished else 'stopped'} at step {done.step} of {config.steps}:"
        f" {done.out}" + ("" if done.finished else "; --resume goes on")
    )
    return 130 if done.interrupted else 0
