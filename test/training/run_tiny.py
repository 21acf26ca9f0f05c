"""A task that trains in milliseconds, and a program that trains it: ``run_tiny.py OUT DATA``."""

from __future__ import annotations

import argparse
import dataclasses
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from vos_ros.config import ConfigError
from vos_ros.training.config import StageConfig, TrainConfig, build
from vos_ros.training.interface import IGNORE, Batch
from vos_ros.training.loop import train


class TinyNet(nn.Module):
    """Colour and the first mask in, a mask out.

    It has a buffer that changes, and dropout, whose random numbers a resumed run must repeat.
    """

    def __init__(self, dropout: float) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(4, 6, 3, padding=1), nn.Conv2d(6, 1, 3, padding=1)
        self.drop = nn.Dropout(dropout)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.seen += 1
        return self.last(self.drop(torch.relu(self.first(x))))


class TinyTask:
    """Groups of parameters: first, last."""

    name = "tiny"

    def __init__(self, dropout: float = 0.1, slow_s: float = 0.0, break_at: int = -1) -> None:
        self.dropout, self.slow_s, self.break_at = dropout, slow_s, break_at

    def build(self) -> nn.Module:
        return TinyNet(self.dropout)

    def parameter_groups(self, model: Any, stage: StageConfig) -> list[dict[str, Any]]:
        if unknown := set(stage.rates) - {"first", "last"}:
            raise ConfigError(f"rates: no group {sorted(unknown)}")
        return [
            {"name": n, "params": list(getattr(model, n).parameters()), "lr": rate}
            for n, rate in stage.rates.items()
            if rate
        ]

    def loss(self, model: Any, batch: Batch) -> tuple[torch.Tensor, dict[str, Any]]:
        time.sleep(self.slow_s)
        mask = (batch.labels == 1).float()
        frames = batch.frames[:, 1:].flatten(0, 1) / 255.0 - 0.5
        given = mask[:, :1].expand_as(mask[:, 1:]).flatten(0, 1)[:, None]
        logits = model(torch.cat([frames, given], 1)).unflatten(0, mask[:, 1:].shape[:2])[:, :, 0]
        valid = batch.labels[:, 1:] != IGNORE
        errors = F.binary_cross_entropy_with_logits(logits, mask[:, 1:], reduction="none") * valid
        loss = (errors.flatten(1).sum(1) / valid.flatten(1).sum(1)).mean()
        if model.training and int(model.seen) == self.break_at:
            loss = loss * float("nan")
        return loss, {
            "iou": ((logits > 0) & (mask[:, 1:] > 0)).sum()
            / ((logits > 0) | (mask[:, 1:] > 0)).sum().clamp_min(1)
        }

    def picture(self, model: Any, batch: Batch) -> np.ndarray:
        return batch.frames[0, 0].permute(1, 2, 0).cpu().numpy()

    def metadata(self) -> dict[str, str]:
        return {"format": "tiny"}


def config(data: Path, **changes: Any) -> TrainConfig:
    """Two stages of 6 and 8 steps; the first trains only the last layer."""
    clip = {
        "width": 33,
        "height": 33,
        "frames": 3,
        "gap": 4,
        "min_px": 20,
        "augment": {"color": 0.5, "degrade": 0.5},
    }
    tree = {
        "task": "tiny",
        "name": "tiny",
        "seed": 3,
        "data_root": str(data),
        "workers": 0,
        "ema": 0.9,
        "checkpoint_every": 4,
        "log_every": 1,
        "picture_every": 5,
        "data": {
            "all": {"kind": "folder", "licence": "CC0"},
            "kept": {"kind": "folder", "only": ["b"]},
        },
        "stages": {
            "one": {
                "steps": 6,
                "batch": 4,
                "mix": {"all": 1.0},
                "rates": {"last": 0.01},
                "clip": clip,
                "clip_norm": 1.0,
            },
            "two": {
                "steps": 8,
                "batch": 4,
                "mix": {"all": 1.0},
                "rates": {"first": 0.01, "last": 0.01},
                "clip": clip,
                "milestones": [4],
                "accumulate": 2,
            },
        },
        "validation": {"mix": {"kept": 1.0}, "clips": 4, "batch": 2, "every": 7, "clip": clip},
    }
    return dataclasses.replace(build(TrainConfig, tree), **changes)


def main() -> int:
    """Trains; arguments as the names of TrainConfig, of TinyTask or of train."""
    p = argparse.ArgumentParser()
    p.add_argument("out", type=Path)
    p.add_argument("data", type=Path)
    p.add_argument("--slow", type=float, default=0.0)
    p.add_argument("--dropout", type=float, default=0.1)
    p.add_argument("--workers", type=int, default=0)
    p.add_argument("--resume", action="store_true")
    p.add_argument("--accumulate", type=int, default=0)
    args = p.parse_args()
    run = config(args.data, workers=args.workers)
    if args.accumulate:
        run = dataclasses.replace(
            run,
            stages={
                n: dataclasses.replace(s, accumulate=args.accumulate) for n, s in run.stages.items()
            },
        )
    done = train(
        run,
        TinyTask(args.dropout, args.slow),
        args.out,
        resume=args.resume,
        device="cpu",
        show=False,
    )
    assert not torch.distributed.is_initialized(), "its threads can abort the end of the process"
    return 130 if done.interrupted else 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
