"""``vos-ros eval association``: how far the ids can be trusted, on a recording made worse in several ways."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vos_ros.cli.report import Figure
    from vos_ros.config import Config
    from vos_ros.evaluation.association import Outcome
    from vos_ros.sources.folder import FolderSource
    from vos_ros.sources.interface import FrameSource
    from vos_ros.types import Frame, MapUpdate

_EPILOG = """\
conditions (--conditions; all by default):
  given        the recording as it is               drift        the pose drifts to 10 cm and 5 degrees at the end
  noise_5cm    pose noise of 5 cm and 2 degrees     missing      two fifths of the objects aren't in the map
  noise_10cm   10 cm and 5 degrees                  invented     a fifth is in the map a second time, 40 cm above itself
  noise_20cm   20 cm and 10 degrees                 covered      a board passes before the camera, again and again
  colour_only  no depth                             lost         half of the frames is lost

ways to name the masks: vos_ros, and as baselines projection (no image: the map's projection is the mask), centroid (nearest in 3-D) and
frame_iou (IoU with the projections, frame by frame).

figures: f1, precision, recall, id_switches as in vos-ros eval bag; idf1 and hota as the trackeval package has them; returns_recognised and
reidentify_s_p50 of objects that were away for 2 s; ece, the calibration error of the scores; absent_precision, absent_recall; said_absent,
said_merge, said_split, how often that was said. Those of the first condition carry no suffix, those of the others its name (f1_drift),
those of a baseline its name too (f1_drift_centroid).

examples:
  vos-ros eval association --data kitchen --json association.json --plot association.png
  vos-ros eval association --data kitchen --conditions given,drift --every 3
  vos-ros eval association --synthetic 101,102,103 --conditions given,invented
  vos-ros eval association --fit --synthetic 201,202,203 --json weights.json
"""
_COUNTS = ("id_switches", "returns", "said_absent", "said_merge", "said_split")


def add_parser(kinds: Any) -> None:
    """Registers the command."""
    p = kinds.add_parser("association", help="ids under noise, drift, a wrong map, occlusion and loss, beside three baselines",
                         description="Runs the pipeline on a recording made worse in several ways and scores the ids that it gives.",
                         epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = p.add_mutually_exclusive_group(required=True)
    where.add_argument("--data", metavar="DIR", help="recorded folder with truth: frames.csv, masks, objects.json (see vos-ros convert)")
    where.add_argument("--synthetic", metavar="SEEDS", help="rendered worlds of these seeds, e.g. 101,102: sequences of their own,"
                       " figures are means over them (counts: sums)")
    p.add_argument("--conditions", default="", metavar="A,B", help="only these")
    p.add_argument("--every", type=int, default=1, metavar="N", help="take every Nth frame of --data (default: all)")
    p.add_argument("--frames", type=int, default=120, metavar="N", help="frames of a synthetic sequence (default: %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="of the noise and of what is left out (default: 0)")
    p.add_argument("--method", metavar="NAME", help="segmenter (segmentation.method)")
    p.add_argument("--features", metavar="NAME", help="lwl without trained networks on these features: classical, mobilenet_v2")
    p.add_argument("--weights", metavar="FILE", help="its weights (segmentation.features.weights)")
    p.add_argument("--config", metavar="FILE", help="YAML file of the configuration, or of a node's parameters")
    p.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="one value of the configuration; may be repeated")
    p.add_argument("--fit", action="store_true", help="in place of scoring, fit the likelihood's weights on these sequences and"
                   " conditions; prints the keys that --set takes")
    p.add_argument("--json", metavar="FILE", help="write the figures there too")
    p.add_argument("--plot", metavar="FILE", help="draw F1 by condition and the reliability of the scores there (.png, .pdf, .svg)")


def run_association(args: argparse.Namespace) -> int:
    """Runs and scores; ValueError or OSError with a message for people."""
    import tempfile

    from vos_ros.cli.replay import configuration
    from vos_ros.cli.report import write_json
    from vos_ros.evaluation.association import CONDITIONS

    names = [n.strip() for n in args.conditions.split(",") if n.strip()] or list(CONDITIONS)
    if unknown := [n for n in names if n not in CONDITIONS]:
        raise ValueError(f"--conditions {', '.join(unknown)}: known are {', '.join(CONDITIONS)}")
    if args.every < 1:
        raise ValueError(f"--every {args.every}: wanted 1 or more")
    config = configuration(args)
    with tempfile.TemporaryDirectory() as scratch:
        folders = [Path(args.data)] if args.data else _render(args.synthetic, args.frames, Path(scratch))
        if args.fit:
            return _fit(folders, names, config, args)
        outcomes = {n: [_run(folder, config, n, args) for folder in folders] for n in names}
    _print(outcomes)
    if args.json:
        write_json(flat(outcomes), args.json)
    if args.plot:
        plot(outcomes, args.plot)
    return 0


def _render(seeds: str, frames: int, scratch: Path) -> list[Path]:
    from vos_ros.sources.synthetic import SyntheticSource, SyntheticSpec, write_folder

    try:
        numbers = [int(s) for s in seeds.split(",") if s.strip()]
    except ValueError as e:
        raise ValueError(f"--synthetic {seeds!r}: wanted numbers, e.g. 101,102") from e
    for n in numbers:
        write_folder(SyntheticSource(SyntheticSpec(seed=n, frames=frames)), scratch / str(n), progress=True)
    return [scratch / str(n) for n in numbers]


def _fit(folders: list[Path], names: list[str], config: Config, args: argparse.Namespace) -> int:
    from vos_ros.association.likelihood import FEATURES
    from vos_ros.cli.report import finish
    from vos_ros.evaluation.association import CONDITIONS
    from vos_ros.evaluation.association_fit import collect, fit
    from vos_ros.evaluation.score import read_truth

    cases = []
    for n in names:
        for folder in folders:
            cases += collect(_source(folder, args), read_truth(folder), config, CONDITIONS[n], args.seed, _progress(folder, n))
    weights = fit(cases)
    figures: dict[str, Figure] = {f"association.weight_{name}": round(float(w), 3) for name, w in zip(FEATURES, weights, strict=True)}
    finish({"cases": len(cases), "of_no_object": sum(c.right < 0 for c in cases), **figures}, args.json)
    return 0


def _source(folder: Path, args: argparse.Namespace) -> FolderSource:
    from vos_ros.sources.folder import FolderSource

    return FolderSource(folder, frames=slice(None, None, args.every))


def _progress(folder: Path, condition: str) -> Callable[[FrameSource], Iterable[Frame | MapUpdate]]:
    from tqdm import tqdm

    return lambda items: tqdm(items, desc=f"{folder.name}, {condition}", total=len(items), leave=False)


def _run(folder: Path, config: Config, name: str, args: argparse.Namespace) -> Outcome:
    from vos_ros.evaluation.association import CONDITIONS, run
    from vos_ros.evaluation.score import read_truth

    return run(_source(folder, args), read_truth(folder), config, CONDITIONS[name], args.seed, _progress(folder, name))


def _mean(outcomes: list[Outcome]) -> dict[str, dict[str, float]]:
    """Figures by way of naming: means over the sequences, sums of counts."""
    import numpy as np

    out: dict[str, dict[str, float]] = {}
    for method in outcomes[0].figures:
        values = {k: np.array([o.figures[method][k] for o in outcomes], float) for k in outcomes[0].figures[method]}
        out[method] = {k: _whole(v) if k in _COUNTS else _nanmean(v) for k, v in values.items()}
    ours = out["vos_ros"]
    ours["ece"] = _nanmean(np.array([o.calibration.ece for o in outcomes]))
    ours["absent_precision"] = _nanmean(np.array([o.absent_precision for o in outcomes]))
    ours["absent_recall"] = _nanmean(np.array([o.absent_recall for o in outcomes]))
    return out


def _whole(values: Any) -> int:
    return int(values.sum())


def _nanmean(values: Any) -> float:
    import numpy as np

    known = values[~np.isnan(values)]
    return float(np.mean(known)) if len(known) else float("nan")


def flat(outcomes: Mapping[str, list[Outcome]]) -> dict[str, Figure]:
    """Flat keys: FIGURE[_CONDITION][_BASELINE]; the first condition's carry no name of it."""
    out: dict[str, Figure] = {}
    for place, (condition, some) in enumerate(outcomes.items()):
        for method, figures in _mean(some).items():
            suffix = (f"_{condition}" if place else "") + (f"_{method}" if method != "vos_ros" else "")
            out.update({f"{k}{suffix}": v for k, v in figures.items()})
    return out


def _print(outcomes: Mapping[str, list[Outcome]]) -> None:
    columns = ("f1", "precision", "recall", "id_switches", "idf1", "hota", "mean_iou", "returns_recognised", "reidentify_s_p50")
    print(f"{'condition':12s} {'named by':11s} " + " ".join(f"{c[:10]:>10s}" for c in columns) + f" {'ece':>7s} {'absent p, r':>13s}")
    for condition, some in outcomes.items():
        for method, f in _mean(some).items():
            line = f"{condition:12s} {method:11s} " + " ".join(
                f"{f[c]:10d}" if isinstance(f[c], int) else f"{f[c]:10.4f}" for c in columns)
            if method == "vos_ros":
                line += f" {f['ece']:7.4f} {f['absent_precision']:6.3f} {f['absent_recall']:6.3f}"
            print(line)


def plot(outcomes: Mapping[str, list[Outcome]], path: str) -> None:
    """Left: F1 by condition and way of naming. Right: the share of right names among those of like scores, for every condition."""
    import matplotlib
    import numpy as np

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 4.5), width_ratios=(2, 1), layout="constrained")
    means = {condition: _mean(some) for condition, some in outcomes.items()}
    methods = list(next(iter(means.values())))
    for k, method in enumerate(methods):
        places = np.arange(len(means)) + (k - (len(methods) - 1) / 2) * 0.8 / len(methods)
        left.bar(places, [m[method]["f1"] for m in means.values()], 0.8 / len(methods), label=method)
    left.set_xticks(range(len(means)), list(means), rotation=20, ha="right")
    left.set_ylabel("association F1")
    left.set_ylim(0, 1)
    left.legend(loc="lower left")
    right.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for condition, some in outcomes.items():
        c = some[0].calibration
        right.plot(c.score[c.count > 0], c.right[c.count > 0], marker="o", markersize=3, label=condition)
    right.set_xlabel("score")
    right.set_ylabel("share of right names")
    right.legend(fontsize=7)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
