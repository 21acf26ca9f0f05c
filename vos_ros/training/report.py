"""The report of a run: pictures of clips, the loss curve, and the card of the weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml
from jaxtyping import Bool, UInt8

from vos_ros.config import flat_keys
from vos_ros.datasets.interface import VideoSequence
from vos_ros.sinks.images import track_color
from vos_ros.training.config import TrainConfig
from vos_ros.training.state import described, whole

Rows = Sequence[Mapping[str, Any]]


def flat(text: str) -> dict[str, Any]:
    """Return a configuration's YAML as dotted keys."""
    return flat_keys(yaml.safe_load(text))


def tinted(
    rgb: UInt8[np.ndarray, "H W 3"],
    shown: Bool[np.ndarray, "n H W"],
    truth: Bool[np.ndarray, "n H W"],
) -> UInt8[np.ndarray, "H W 3"]:
    """Draw the shown masks in colour, and the true outlines in white, on a frame."""
    picture = rgb.copy()
    for i, mask in enumerate(shown, start=1):
        picture[mask] = (picture[mask] // 2 + np.array(track_color(i), np.uint16) // 2).astype(
            np.uint8
        )
    for mask in truth:
        outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(picture, outlines, -1, (255, 255, 255), 1)
    return picture


def draw_curve(rows: Rows, config: TrainConfig, path: Path) -> None:
    """Draw loss and IoU over steps, of training (also smoothed) and of held-out clips.

    Stages begin at vertical lines.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (top, bottom) = pyplot.subplots(
        2, 1, figsize=(9, 6.5), sharex=True, layout="constrained"
    )
    for axes, key in ((top, "loss"), (bottom, "iou")):
        for kind, color in (("train", "tab:blue"), ("validation", "tab:orange")):
            points = [(r["step"], r[key]) for r in rows if r["kind"] == kind and key in r]
            if not points:
                continue
            steps, values = np.array(points).T
            if kind == "train":
                axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
                axes.plot(steps, smoothed(values), color=color, label="training")
            else:
                axes.plot(
                    steps,
                    values,
                    "o-",
                    color=color,
                    markersize=3,
                    label="held-out clips, averaged weights",
                )
        axes.set_ylabel(key)
        axes.grid(alpha=0.3)
        if axes.has_data():
            axes.legend()
    start = 0
    for name, stage in config.stages.items():
        for axes in (top, bottom):
            axes.axvline(start, color="0.5", linewidth=0.8)
        top.annotate(
            name,
            (start, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(3, 3),
            textcoords="offset points",
            fontsize=8,
        )
        start += stage.steps
    bottom.set_xlabel("step")
    with whole(path) as part:
        figure.savefig(part, dpi=110, format="png")
    pyplot.close(figure)


def smoothed(values: np.ndarray, share: float = 0.1) -> np.ndarray:
    """Return the exponential moving average, without a bias towards the first value.

    Its memory is about ``share`` of all values.
    """
    decay = 1 - 1 / max(1.0, share * len(values))
    out, total, weight = [], 0.0, 0.0
    for v in values:
        total, weight = decay * total + v, decay * weight + 1
        out.append(total / weight)
    return np.array(out)


def card(
    name: str,
    config: TrainConfig,
    sources: Mapping[str, Sequence[VideoSequence]],
    rows: Rows,
    step: int,
    seconds: float,
) -> str:
    """Return the card as Markdown: what the weights are, how they were made, what they reach.

    Args:
        name: of the weights.
        config: the run.
        sources: sequences by source.
        rows: the history.
        step: steps that are done.
        seconds: device time.
    """
    starts = [r for r in rows if r["kind"] == "start"]
    first = starts[0] if starts else {}
    lines = [
        f"# {name}",
        "",
        f"Weights of the task `{config.task}`, made by `vos-ros train`. Floats in fp32"
        f" (`{name}.safetensors`) and fp16 (`{name}-fp16.safetensors`); the file's header says how"
        " to build the network. Exponential moving average of the training weights (decay"
        f" {config.ema}).",
        "",
    ]
    done = "all" if step >= config.steps else f"{step} of {config.steps}"
    lines += [
        "## Made",
        "",
        f"- steps: {done} ({config.steps}); device hours: {seconds / 3600:.2f} on"
        f" {first.get('device', '?')} ({first.get('world', 1)} at once); precision"
        f" {config.precision}",
        f"- seed {config.seed}; source tree {first.get('git', '?')}; torch"
        f" {first.get('torch', '?')}; started or resumed {len(starts)} times",
    ]
    lines += [f"- {key}: {described(value)}" for key, value in config.options.items()]
    lines += [
        "",
        "## Schedule",
        "",
        "| stage | steps | clips per step | frames | size | data | rates | falls |",
        "| --- " * 8 + "|",
    ]
    for stage_name, s in config.stages.items():
        falls = (
            f"x {s.gamma:g} at {', '.join(map(str, s.milestones)) or 'no step'}"
            if s.schedule == "steps"
            else f"cosine to {s.gamma:g}"
        )
        rates = ", ".join(f"{k} {v:g}" for k, v in s.rates.items())
        mix = ", ".join(f"{k} {v:g}" for k, v in s.mix.items())
        lines.append(
            f"| {stage_name} | {s.steps} | {s.batch} | {s.clip.frames} |"
            f" {s.clip.width}x{s.clip.height} | {mix} | {s.optimizer}: {rates} | {falls} |"
        )
    lines += [
        "",
        "## Data",
        "",
        "| source | data set | sequences | frames | licence |",
        "| --- " * 5 + "|",
    ]
    for source, sequences in sources.items():
        held_out = " (held out)" if source in config.validation.mix else ""
        for dataset, licence in sorted({(f.dataset, f.licence) for f in sequences}):
            own = [f for f in sequences if (f.dataset, f.licence) == (dataset, licence)]
            lines.append(
                f"| {source}{held_out} | {dataset} | {len(own)} | {sum(map(len, own))} |"
                f" {licence or 'not stated'} |"
            )
    lines += ["", "## Figures", "", "| | step | loss | IoU |", "| --- " * 4 + "|"]
    trained, measured = ([r for r in rows if r["kind"] == kind] for kind in ("train", "validation"))
    best = sorted(measured, key=lambda r: r.get("iou", -r["loss"]))[-1:]
    for text, last in (
        ("training, mean of the last tenth", trained[-max(1, len(trained) // 10) :]),
        ("held-out clips, last", measured[-1:]),
        (f"held-out clips, best (`{name}-best.safetensors`)", best),
    ):
        if last:
            mean = {k: np.mean([r[k] for r in last]) for k in ("loss", "iou") if k in last[-1]}
            lines.append(
                f"| {text} | {last[-1]['step']} | {mean.get('loss', float('nan')):.4f} |"
                f" {mean.get('iou', float('nan')):.4f} |"
            )
    return "\n".join(lines) + "\n"
