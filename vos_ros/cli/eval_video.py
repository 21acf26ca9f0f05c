"""``vos-ros eval davis`` and ``vos-ros eval ytvos``: a segmenter on public benchmarks."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from vos_ros.cli.replay import ListConfig

if TYPE_CHECKING:
    from pathlib import Path

    from vos_ros.cli.report import Figure
    from vos_ros.datasets.interface import Selection, VideoSequence
    from vos_ros.evaluation.export import Timing
    from vos_ros.evaluation.video import ObjectCurves, Row

_FILES = """\
OUT gets predictions/NAME/FRAME.png (palette images of object ids), predictions/timing.json,
config.yaml (the configuration), objects.csv, and pictures/NAME.png: first, middle and last frame,
predicted objects in colour, the annotated outline in white. fps counts frames in which objects
are only followed, from the decoded image to the label image.
"""
_DAVIS = f"""\
The figures equal those of the official DAVIS 2017 tool: first and last frame don't count, the
whole is the mean over objects, recall is the share of frames above 0.5, decay is the first
quarter minus the last. The tool's decay is wrong for more than 256 frames (its index is 8 bits
wide) and is given as it is; decay_unwrapped is the right one.

{_FILES}
examples:
  vos-ros eval davis --root DAVIS --method lwl
  vos-ros eval davis --root DAVIS --prompt click --method lwl --set segmentation.seed_with=one_point
  vos-ros eval davis --root DAVIS --year 2016 --sequences blackswan,dog --json davis.json
  vos-ros eval davis --root DAVIS --features mobilenet_v2 --weights mobilenet_v2.pt
  vos-ros eval davis --root DAVIS --predictions theirs         score masks that are there already
"""
_YTVOS = f"""\
J and F are means over objects, each over the annotated frames after its first; objects are seeded
where meta.json says they start. G is the mean of J and F of seen and unseen categories; seen are
those in the meta.json that --seen names, without it all.

{_FILES}
examples:
  vos-ros eval ytvos --root valid --seen train/meta.json --method lwl --json ytvos.json
"""


def add_parsers(kinds: Any) -> None:
    """Register both commands."""
    p = kinds.add_parser(
        "davis",
        help="a segmenter on DAVIS 2016 or 2017",
        epilog=_DAVIS,
        description="Segment DAVIS' sequences from their first masks (semi-supervised), and score"
        " the result.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--year",
        type=int,
        choices=(2016, 2017),
        help="2016: all objects are one; 2017: each by itself"
        " (default: 2016 where the masks hold 0 and 255 alone)",
    )
    p.add_argument(
        "--subset",
        default="",
        metavar="NAME",
        help="list of sequences in ROOT/ImageSets/YEAR (default: val where there are"
        " lists, else all there are)",
    )
    p.add_argument(
        "--resolution",
        default="",
        metavar="NAME",
        help="480p or Full-Resolution (default: the first of them that is there)",
    )
    p.add_argument(
        "--void",
        choices=("leave-out", "background"),
        default="leave-out",
        help="pixels annotated 255 (year 2017): leave them"
        " out, or count them as background like the official tool; DAVIS has none",
    )
    _add_common(
        p, "out/davis", "DAVIS' folder: JPEGImages, Annotations, ImageSets if you have them"
    )
    p = kinds.add_parser(
        "ytvos",
        help="a segmenter on YouTube-VOS",
        epilog=_YTVOS,
        description="Segment YouTube-VOS' sequences from the objects' first masks, and score the"
        " result.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--seen",
        metavar="FILE",
        help="meta.json of the training split: its categories are the seen ones",
    )
    _add_common(p, "out/ytvos", "a split: JPEGImages, Annotations, meta.json")


def _add_common(p: argparse.ArgumentParser, out: str, root: str) -> None:
    p.add_argument("--root", required=True, metavar="DIR", help=root)
    p.add_argument(
        "--layout",
        default="",
        metavar="NAME",
        help="data set of DIR, scored by the same rules; auto = recognise it by its files"
        " (default: this benchmark's own)",
    )
    p.add_argument("--sequences", default="", metavar="A,B", help="only these")
    p.add_argument(
        "--out", default=out, metavar="DIR", help="where everything is written (%(default)s)"
    )
    p.add_argument(
        "--predictions",
        metavar="DIR",
        help="score these masks (DIR/NAME/FRAME.png) in place of running a method",
    )
    p.add_argument("--json", metavar="FILE", help="write the figures there too")
    what = p.add_argument_group("what runs")
    what.add_argument("--method", metavar="NAME", help="segmenter (segmentation.method)")
    what.add_argument(
        "--features",
        metavar="NAME",
        help="lwl without trained networks on these features: classical, mobilenet_v2",
    )
    what.add_argument(
        "--weights", metavar="FILE", help="its weights (segmentation.features.weights)"
    )
    what.add_argument(
        "--prompt",
        choices=("mask", "click"),
        default="mask",
        help="what starts an object: its first mask, or one click, the point of that mask which is"
        " farthest from its outline (default: mask)",
    )
    what.add_argument(
        "--config", metavar="FILE", help="YAML file of the configuration, or of a node's parameters"
    )
    what.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one value of the configuration; may be repeated",
    )
    what.add_argument(
        "--list-config",
        nargs=0,
        action=ListConfig,
        help="print every key with default, unit and meaning, and end",
    )


def run_davis(args: argparse.Namespace) -> int:
    """Predict and score. Raises ValueError or OSError with a message for people."""
    from vos_ros.datasets.davis import DavisOptions
    from vos_ros.datasets.interface import Selection
    from vos_ros.evaluation.video import davis_frames, rows, score, totals

    own = Selection(
        split=f"{args.year or ''}/{args.subset}",
        names=_names(args),
        complete=True,
        options=DavisOptions(args.resolution),
    )
    sequences = _sequences(args, "davis", own, args.subset)
    predictions, timings = _predict(args, sequences)
    curves = score(
        sequences, predictions, davis_frames, void_is_background=args.void == "background"
    )
    table = rows(curves, timings)
    return _report(args, sequences, predictions, curves, table, totals(table))


def run_ytvos(args: argparse.Namespace) -> int:
    """Predict and score. Raises ValueError or OSError with a message for people."""
    from vos_ros.datasets.interface import Selection
    from vos_ros.datasets.youtube_vos import categories
    from vos_ros.evaluation.video import overall, rows, score, totals, youtube_vos_frames

    own = Selection(split=".", names=_names(args), complete=True)  # the root is the split
    sequences = _sequences(args, "youtube_vos", own, "")
    seen = (
        categories(args.seen) if args.seen else {o.category for s in sequences for o in s.objects}
    )
    predictions, timings = _predict(args, sequences)
    curves = score(sequences, predictions, youtube_vos_frames)
    table = rows(curves, timings)
    return _report(
        args, sequences, predictions, curves, table, overall(curves, seen) | totals(table)
    )


def _names(args: argparse.Namespace) -> tuple[str, ...]:
    return tuple(n.strip() for n in args.sequences.split(",") if n.strip())


def _sequences(
    args: argparse.Namespace, benchmark: str, own: Selection, split: str
) -> tuple[VideoSequence, ...]:
    """Open the sequences of the benchmark's own data set, or of the one that --layout names.

    Args:
        args: the command line.
        benchmark: name of the benchmark's own data set.
        own: what is chosen of that.
        split: the split of another data set; empty = its default.

    Raises ValueError: nothing to score, or an object that can't start.
    """
    from dataclasses import replace
    from pathlib import Path

    from vos_ros.datasets.registry import data_sets, get, open_sequences, recognise

    root = Path(args.root)
    name = args.layout or benchmark
    if name == "auto":
        name = recognise(root, data_sets(has_masks=True)).name
    selection = own if name == benchmark else replace(own, split=split, options=None)
    sequences = open_sequences(get(name), root, selection)
    if not sequences:
        raise ValueError(f"{root}: no sequence there")
    for sequence in sequences:
        _ = sequence.starts  # what can't start is refused before anything is predicted
    return sequences


def _predict(
    args: argparse.Namespace, sequences: tuple[VideoSequence, ...]
) -> tuple[Path, dict[str, Timing]]:
    """Return folder and timing of the predictions, made now unless they were named."""
    from pathlib import Path

    from vos_ros.cli.replay import configuration
    from vos_ros.config import dump
    from vos_ros.evaluation.export import click, export, read_timing
    from vos_ros.segmentation.registry import create
    from vos_ros.types import Mask

    if args.predictions:
        return Path(args.predictions), read_timing(args.predictions)
    config = configuration(args)
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(dump(config), encoding="utf-8")
    return out / "predictions", export(
        sequences,
        lambda: create(config.segmentation),
        out / "predictions",
        click if args.prompt == "click" else Mask,
    )


def _report(
    args: argparse.Namespace,
    sequences: tuple[VideoSequence, ...],
    predictions: Path,
    curves: tuple[ObjectCurves, ...],
    table: tuple[Row, ...],
    figures: dict[str, Figure],
) -> int:
    """Print the table; write CSV, pictures and JSON."""
    from pathlib import Path

    from tqdm import tqdm

    from vos_ros.cli.report import finish, write_json
    from vos_ros.evaluation.pictures import strip
    from vos_ros.evaluation.video import by_sequence, write_csv
    from vos_ros.sinks.images import write_png

    out = Path(args.out)
    (out / "pictures").mkdir(parents=True, exist_ok=True)
    for sequence in tqdm(sequences, desc="drawing", unit="sequence", disable=None):
        write_png(out / "pictures" / f"{sequence.name}.png", strip(sequence, predictions))
    write_csv(out / "objects.csv", curves)
    _print_table(table)
    finish(figures, None)
    print(
        f"written: {out / 'pictures'}, {out / 'objects.csv'}"
        + ("" if args.predictions else f", {predictions}")
    )
    if args.json:
        write_json(figures | by_sequence(table), args.json)
    return 0


def _print_table(table: tuple[Row, ...]) -> None:
    width = max(len("sequence"), *(len(r.name) for r in table))
    print(
        f"{'sequence':{width}s}  objects  frames    J&F  J mean  recall   decay"
        "  F mean  recall   decay     fps"
    )
    for r in table:
        values = "".join(
            f"  {v:6.3f}"
            for v in (r.j.mean, r.j.recall, r.j.decay, r.f.mean, r.f.recall, r.f.decay)
        )
        print(
            f"{r.name:{width}s}  {r.objects:7d}  {r.frames:6d}  {r.jf_mean:5.3f}{values}"
            f"  {r.fps:6.1f}"
        )
