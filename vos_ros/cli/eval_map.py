"""``vos-ros eval map``: compare a saved map with annotated objects."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vos_ros.evaluation.map_score import MapScore
    from vos_ros.types import MapObject

_RULES = """\
figures (boxes are the upright ones around the points; their IoU is of volumes, sides shorter than
1 cm count as 1 cm):
  found              annotated objects whose box a map object's overlaps with IoU >= 0.3, one-to-one
  found_once         those of them without a duplicate
  duplicates         map objects beyond the first that claim the same annotated object: by the box,
                     or with most of their surface
  duplicates_by_box  those of them that claim it by the box
  others             map objects that claim none: not annotated, or nothing

example:
  vos-ros eval map kitchen.json --truth kitchen --json score.json --plot map.png
"""


def add_parser(kinds: Any) -> None:
    """Register the command."""
    p = kinds.add_parser(
        "map",
        help="a map that object_mapper saved",
        epilog=_RULES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Compares the objects of a saved map with annotated ones.",
    )
    p.add_argument("map", metavar="MAP.json", help="a map that object_mapper saved (node.map_file)")
    p.add_argument(
        "--truth",
        required=True,
        metavar="PATH",
        help="recorded folder with objects.json, or a bag whose map_objects are the"
        " annotated objects; in the frame of the map",
    )
    p.add_argument("--json", metavar="FILE", help="write the figures there too")
    p.add_argument(
        "--plot", metavar="FILE", help="draw the boxes from above there (.png, .pdf, .svg)"
    )


def run_map(args: argparse.Namespace) -> int:
    """Score a map. Raises ValueError or OSError: with a message for people."""
    from vos_ros.cli.report import finish
    from vos_ros.evaluation.map_score import score_map
    from vos_ros.reference_mapper.config import ModelConfig
    from vos_ros.reference_mapper.store import load

    saved = load(Path(args.map))
    truth, names, frame = annotated(Path(args.truth))
    if frame != saved.frame_id:
        raise ValueError(
            f"{args.map} is in frame {saved.frame_id!r}, {args.truth} in {frame!r}: wanted both in"
            " one frame"
        )
    objects = [o.map_object(saved.revision, ModelConfig()) for o in saved.objects]
    score = score_map(objects, truth)
    print(table(score, objects, names))
    finish(score.figures(), args.json)
    if args.plot:
        plot(score, objects, truth, names, args.plot)
    return 0


def annotated(path: Path) -> tuple[tuple[MapObject, ...], dict[int, str], str]:
    """Read the objects, names where there are some, and the frame, of a folder or a bag.

    Raises ValueError: it holds no objects.
    """
    from vos_ros.datasets.source import open_recording
    from vos_ros.sources.bag import BagSource
    from vos_ros.types import MapUpdate

    if path.is_dir() and not (path / "metadata.yaml").is_file():
        source = open_recording(path)
        update, names = source.map_update(), {o.id: o.name for o in source.sequence.objects}
    else:
        update, names = (
            next((u for u in BagSource(path) if isinstance(u, MapUpdate) and u.objects), None),
            {},
        )
    if update is None or not update.objects:
        raise ValueError(
            f"{path} holds no annotated objects: wanted a folder with objects.json, or a bag with"
            " map_objects"
        )
    return update.objects, names, update.frame_id


def table(score: MapScore, objects: Sequence[MapObject], names: Mapping[int, str]) -> str:
    """Format a line per annotated object, then one per map object that is none of them."""
    by_id = {c.object_id: c for c in score.claims}
    lines = [f"{'annotated':24s} {'IoU':>5s}  map object, duplicates"]
    for truth_id, best in score.best.items():
        own, rivals = score.found.get(truth_id), score.rivals(truth_id)
        unpaired = [
            c.object_id
            for c in score.claims
            if c.truth_id == truth_id and c.object_id not in (own, *rivals)
        ]
        claims = f"{own}" if own else f"({', '.join(map(str, unpaired))})" if unpaired else "-"
        claims += "".join(f" +{r}" for r in rivals)
        lines.append(
            f"{f'{truth_id} {names.get(truth_id, str())}':24s}"
            f" {by_id[own].iou if own else best:5.2f}  {claims}"
        )
    others = [o for o in objects if not by_id[o.id].truth_id]
    for o in others:
        x, y, z = o.T_map_object[:3, 3]
        w, d, h = o.size
        lines.append(
            f"{'(not annotated)':24s} {'':5s}  {o.id} at {x:.2f} {y:.2f} {z:.2f},"
            f" {w:.2f} x {d:.2f} x {h:.2f} m"
        )
    return "\n".join(lines)


def plot(
    score: MapScore,
    objects: Sequence[MapObject],
    truth: Sequence[MapObject],
    names: Mapping[int, str],
    path: str,
) -> None:
    """Draw the boxes from above, x to the right and y up.

    Annotated boxes are grey; map objects green (found), red (duplicates), orange (the first piece
    of an object that was not found) or blue (others).

    Args:
        score: which map object is which annotated one.
        objects: the map.
        truth: annotated objects.
        names: their names.
        path: the picture.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Rectangle

    from vos_ros.evaluation.map_score import box_of

    figure, axes = pyplot.subplots(figsize=(13, 10), layout="constrained")
    for t in truth:
        low, high = box_of(t)
        axes.add_patch(
            Rectangle(
                (low[0], low[1]), *(high - low)[:2], facecolor="0.93", edgecolor="0.6", zorder=0
            )
        )
        axes.text(
            low[0],
            high[1],
            f"{t.id} {names.get(t.id, '')}",
            fontsize=6,
            color="0.45",
            va="top",
            zorder=1,
        )
    claims = {c.object_id: c for c in score.claims}
    for o in objects:
        claim = claims[o.id]
        color = (
            "tab:green"
            if o.id in score.found.values()
            else "tab:blue"
            if not claim.truth_id
            else "tab:red"
            if o.id in score.rivals(claim.truth_id)
            else "tab:orange"
        )
        low, high = box_of(o)
        axes.plot(*o.points[:, :2].T, ",", color=color, alpha=0.5, zorder=2)
        axes.add_patch(
            Rectangle(
                (low[0], low[1]),
                *(high - low)[:2],
                fill=False,
                edgecolor=color,
                linewidth=1.2,
                zorder=3,
            )
        )
        axes.text(high[0], low[1], f"{o.id}", fontsize=8, color=color, ha="right", zorder=4)
    axes.set_aspect("equal")
    axes.autoscale_view()
    axes.set_xlabel("x, m")
    axes.set_ylabel("y, m")
    axes.set_title(
        ", ".join(
            f"{k} {v:.2f}" if isinstance(v, float) else f"{k} {v}"
            for k, v in score.figures().items()
        ),
        fontsize=9,
    )
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
