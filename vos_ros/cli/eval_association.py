"""``vos-ros eval association``: measure how far ids can be trusted on a recording made worse."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from jaxtyping import UInt8

    from vos_ros.cli.report import Figure
    from vos_ros.config import Config
    from vos_ros.datasets.source import SequenceSource
    from vos_ros.evaluation.association import Outcome
    from vos_ros.evaluation.score import Truth
    from vos_ros.sources.interface import FrameSource
    from vos_ros.types import Frame, MapUpdate

_EPILOG = """\
conditions (--conditions; all by default):
  given              the recording as it is
  noise_5cm          pose noise of 5 cm and 2 degrees
  noise_10cm         10 cm and 5 degrees
  noise_20cm         20 cm and 10 degrees
  drift              the pose drifts to 10 cm and 5 degrees at the end
  drift_uncorrected  the same drift with pose.correction off
  drift_colour_only  the same drift without depth
  missing            two fifths of the objects are not in the map
  invented           a fifth is in the map a second time, 40 cm higher
  covered            a board passes in front of the camera again and again
  lost               half of the frames is lost
  colour_only        no depth

ways to name the masks: vos_ros, and as baselines projection (no image: the map's projection is the
mask), centroid (nearest in 3-D) and frame_iou (IoU with the projections, frame by frame).

figures:
  f1, precision, recall, id_switches   as in vos-ros eval bag, but an object that the map lacks is
                                       no miss
  f1_margin                            by how much our F1 is above that of a baseline
  alike_swaps, alike_wrong             id switches and frames with a wrong name among objects that
                                       look alike (alike_group in objects.json)
  idf1, hota                           as the trackeval package computes them
  returns, returns_recognised          objects that were away for 2 s, the share recognised, and the
  reidentify_s_p50                     median time to it
  ece                                  calibration error of the scores
  absent_precision, absent_recall      of the statements; of the objects whose empty place was
                                       visible for a second
  said_absent, _merge, _split          how often that was reported
Those of the first condition have no suffix, those of the others its name (f1_drift), those of a
baseline its name too (f1_drift_centroid).

With --data, for the first condition, also: look-alikes by group, every return, the statuses of
instances on objects that the map lacks.

synthetic scenes (--scene): table, everything stands still; crossing, two look-alikes pass each
other behind a box; removed, some things are taken away after they were seen and stay in the map.

examples:
  vos-ros eval association --data kitchen --json association.json --plot association.png
  vos-ros eval association --data kitchen --map-from 100 --conditions given --pictures sheets
  vos-ros eval association --data kitchen --conditions drift,drift_uncorrected --every 3
  vos-ros eval association --synthetic 101,102,103 --conditions given,invented
  vos-ros eval association --synthetic 101,102,103 --conditions given --scene removed
  vos-ros eval association --fit --synthetic 201,202,203 --json weights.json
"""


def add_parser(kinds: Any) -> None:
    """Register the command."""
    p = kinds.add_parser(
        "association",
        help="ids under noise, drift, a wrong map, occlusion and loss, beside three baselines",
        description="Runs the pipeline on a recording made worse in several ways and scores the ids"
        " that it gives.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    where = p.add_mutually_exclusive_group(required=True)
    where.add_argument(
        "--data",
        metavar="DIR",
        help="recorded folder with truth: frames.csv, masks, objects.json (see vos-ros convert)",
    )
    where.add_argument(
        "--synthetic",
        metavar="SEEDS",
        help="rendered worlds of these seeds, e.g. 101,102: sequences of their own,"
        " figures are means over them (counts: sums; ece and absent_*: of all together)",
    )
    p.add_argument("--conditions", default="", metavar="A,B", help="only these")
    p.add_argument(
        "--every",
        type=int,
        default=1,
        metavar="N",
        help="take every Nth frame of --data (default: all)",
    )
    p.add_argument(
        "--map-from",
        type=int,
        default=0,
        metavar="N",
        help="in place of the given map, one made of the first N frames taken"
        " alone, from their true masks, depth and poses; the others are run and scored",
    )
    p.add_argument(
        "--map-whole",
        action="store_true",
        help="with --map-from: the given map's own entries of the objects that count in"
        " those frames, also the parts of them that are not seen there",
    )
    p.add_argument(
        "--frames",
        type=int,
        default=120,
        metavar="N",
        help="frames of a synthetic sequence (default: %(default)s)",
    )
    p.add_argument(
        "--scene",
        default="table",
        metavar="NAME",
        help="of a synthetic sequence: table, crossing or removed (default: table)",
    )
    p.add_argument(
        "--seed", type=int, default=0, help="of the noise and of what is left out (default: 0)"
    )
    p.add_argument("--method", metavar="NAME", help="segmenter (segmentation.method)")
    p.add_argument(
        "--features",
        metavar="NAME",
        help="lwl without trained networks on these features: classical, mobilenet_v2",
    )
    p.add_argument("--weights", metavar="FILE", help="its weights (segmentation.features.weights)")
    p.add_argument(
        "--config", metavar="FILE", help="YAML file of the configuration, or of a node's parameters"
    )
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one value of the configuration; may be repeated",
    )
    p.add_argument(
        "--fit",
        action="store_true",
        help="in place of scoring, fit the likelihood's weights on these sequences and"
        " conditions; prints the keys that --set takes",
    )
    p.add_argument("--json", metavar="FILE", help="write the figures there too")
    p.add_argument(
        "--plot",
        metavar="FILE",
        help="draw F1 by condition and the reliability of the scores there (.png, .pdf, .svg)",
    )
    p.add_argument(
        "--pictures",
        metavar="DIR",
        help="write contact sheets there, a folder per sequence and condition: map ids on the masks"
        " before objects left and after they returned, and wherever a name was wrong",
    )


def run_association(args: argparse.Namespace) -> int:
    """Run and score. Raises ValueError or OSError with a text for the user."""
    import tempfile

    from vos_ros.cli.association_report import details, flat, plot, table
    from vos_ros.cli.replay import configuration
    from vos_ros.cli.report import write_json
    from vos_ros.evaluation.association import CONDITIONS
    from vos_ros.evaluation.score import read_truth

    names = [n.strip() for n in args.conditions.split(",") if n.strip()] or list(CONDITIONS)
    if unknown := [n for n in names if n not in CONDITIONS]:
        raise ValueError(f"--conditions {', '.join(unknown)}: known are {', '.join(CONDITIONS)}")
    if args.every < 1 or args.map_from < 0:
        raise ValueError(
            f"--every {args.every}, --map-from {args.map_from}: wanted 1 or more,"
            " and 0 (the given map) or more"
        )
    if args.map_whole and not args.map_from:
        raise ValueError("--map-whole without --map-from: say of which frames, e.g. --map-from 100")
    if args.fit and args.map_from:
        raise ValueError(
            "--fit with --map-from: wanted one or the other;"
            " the weights are fitted with the given map"
        )
    config = configuration(args)
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(args.data)] if args.data else _render(args, Path(scratch))
        if args.fit:
            return _fit(folders, names, config, args)
        sources = {folder: _source(folder, args) for folder in folders}
        outcomes = {
            n: [_run(folder, source, config, n, args) for folder, source in sources.items()]
            for n in names
        }
        print(table(outcomes))
        if args.data:
            print(f"\n{names[0]}\n{details(outcomes[names[0]][0], read_truth(args.data))}")
    if args.json:
        write_json(flat(outcomes), args.json)
    if args.plot:
        plot(outcomes, args.plot)
    return 0


def _render(args: argparse.Namespace, scratch: Path) -> list[Path]:
    from vos_ros.synthetic.source import SyntheticSource, SyntheticSpec, write_folder

    try:
        seeds = [int(s) for s in args.synthetic.split(",") if s.strip()]
    except ValueError as e:
        raise ValueError(f"--synthetic {args.synthetic!r}: wanted numbers, e.g. 101,102") from e
    for n in seeds:
        spec = SyntheticSpec(seed=n, frames=args.frames, scene=args.scene)
        write_folder(SyntheticSource(spec), scratch / str(n), progress=True)
    return [scratch / str(n) for n in seeds]


def _fit(folders: list[Path], names: list[str], config: Config, args: argparse.Namespace) -> int:
    from vos_ros.association.likelihood import fitted_columns
    from vos_ros.cli.report import finish
    from vos_ros.evaluation.association import CONDITIONS
    from vos_ros.evaluation.association_fit import collect, fit
    from vos_ros.evaluation.score import read_truth

    cases = []
    for n in names:
        for folder in folders:
            cases += collect(
                _source(folder, args),
                read_truth(folder),
                config,
                CONDITIONS[n],
                args.seed,
                _progress(folder, n),
            )
    weights = fit(cases)
    figures: dict[str, Figure] = {
        f"association.terms.{column.key}": round(float(w), 3)
        for column, w in zip(fitted_columns(), weights, strict=True)
    }
    finish(
        {"cases": len(cases), "of_no_object": sum(c.right < 0 for c in cases), **figures}, args.json
    )
    return 0


def _source(folder: Path, args: argparse.Namespace) -> FrameSource:
    """Return the frames to run, with the map that is asked for."""
    from vos_ros.datasets.source import open_recording
    from vos_ros.evaluation.score import read_truth
    from vos_ros.sources.faults import GivenMap

    rest = open_recording(folder, frames=slice(args.map_from * args.every, None, args.every))
    if not args.map_from:
        return rest
    first = open_recording(folder, frames=slice(0, args.map_from * args.every, args.every))
    return GivenMap(rest, _map_of(first, read_truth(folder), rest, args.map_whole))


def _map_of(first: SequenceSource, truth: Truth, rest: SequenceSource, whole: bool) -> MapUpdate:
    """Return the source with the map that its first frames give, in place of its own."""
    import dataclasses

    from vos_ros.evaluation.association import Condition, counted, truth_of
    from vos_ros.reference_mapper.given_masks import map_from_masks
    from vos_ros.types import Frame

    given = rest.map_update()
    if given is None:
        raise ValueError(
            f"{rest.sequence.name}: no objects.json; --map-from needs it for the objects' ids"
            " and classes"
        )

    def views() -> Iterator[tuple[Frame, UInt8[np.ndarray, "H W"]]]:
        for item in first:
            if isinstance(item, Frame) and (mask := truth_of(truth, item, Condition())) is not None:
                yield item, mask

    if whole:
        known = set().union(*(counted(mask) for _, mask in views()))
        objects = tuple(o for o in given.objects if o.id in known)
    else:
        objects = map_from_masks(views(), {o.id: o.class_id for o in given.objects})
        known = {o.id for o in objects}
    lacking = [
        f"{o.id} {truth.names.get(o.id, '')}".strip() for o in given.objects if o.id not in known
    ]
    print(
        f"the map has {len(objects)} of {len(given.objects)} objects after {len(first)} frames"
        + (f"; it lacks {', '.join(lacking)}" if lacking else "")
    )
    return dataclasses.replace(given, objects=objects)


def _progress(folder: Path, condition: str) -> Callable[[FrameSource], Iterable[Frame | MapUpdate]]:
    from tqdm import tqdm

    return lambda items: tqdm(
        items, desc=f"{folder.name}, {condition}", total=len(items), leave=False
    )


def _run(
    folder: Path, source: FrameSource, config: Config, name: str, args: argparse.Namespace
) -> Outcome:
    from vos_ros.evaluation.association import CONDITIONS, run
    from vos_ros.evaluation.failure_gallery import FailureGallery
    from vos_ros.evaluation.score import read_truth

    truth = read_truth(folder)
    gallery = FailureGallery(truth.names) if args.pictures else None
    outcome = run(
        source, truth, config, CONDITIONS[name], args.seed, _progress(folder, name), gallery
    )
    if gallery is not None:
        gallery.write(Path(args.pictures) / f"{folder.name}_{name}")
    return outcome
