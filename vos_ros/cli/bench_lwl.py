"""``vos-ros bench lwl``: measure a frame of LWL by stage and number of objects."""

from __future__ import annotations

import argparse
import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vos_ros.cli.lwl_cost import Cost
    from vos_ros.cli.report import Figure
    from vos_ros.config import Config

_EPILOG = """\
A scene of slowly moving textures is segmented by LWL with its networks. First every object's memory
is filled; then the steady state is measured, from the decoded image to the label image.

stages:
  upload    the image to the device, scaled or cropped to the network's size
  backbone  features of the image
  scores    the target models' features, and the target models on them
  decoder   masks of the objects
  merge     the masks into one image, search windows updated, label image made
  encode    labels and weights of the masks that are learned from
  learn     steepest descent of the target models
  other     the rest

figures, per number N of objects (lwl_N_...):
  total_ms_p50, _p95, _mean   of --frames frames. With segmentation.lwl.update_every=4 three of four
                              frames learn nothing: p50 is one of those, p95 one that learns; the
                              mean and fps count both
  STAGE_ms                    mean per frame, over as many further frames, in which stages are timed
  STAGE_gflop, total_gflop    per frame: convolutions and matrix products; a multiplication with its
                              addition is 2
  STAGE_roofline, roofline    achieved GFLOP/s as a share of the best of a large matrix product and
                              a 3x3 convolution in this run, with the same threads and precision
                              (lwl_peak_gflop_per_s)
  peak_rss_mb, peak_cuda_mb   peak memory of the process, or of torch on the GPU, when steady
  over_1                      mean time, as a multiple of that of one object (with 1 in --objects)

Without --model the weights are random, which costs the same. A synthetic scene can't tell how often
a real frame is learned from, so every frame is: update_error, min_confidence and tolerance are 0
unless --set gives them. The figures are the largest cost of following. The network sees the image
at segmentation.lwl.long_side, as always.

examples:
  vos-ros bench lwl --objects 1,5,10 --size 480x832 --backbone resnet50 --json lwl.json
  vos-ros bench lwl --backbone mobilenet_v2 --objects 1,8 --threads 2 --plot lwl.png
  vos-ros bench lwl --set segmentation.lwl.long_side=832     at the image's own size
  vos-ros bench lwl --model mine.safetensors --set segmentation.lwl.update_error=0.02
  vos-ros bench lwl --compat reference --set segmentation.lwl.long_side=832 \
      --set segmentation.lwl.memory_size=32                 rules and sizes of the published program
"""
_WORST_CASE = (
    "segmentation.lwl.update_error=0.0",
    "segmentation.lwl.min_confidence=0.0",
    "segmentation.lwl.tolerance=0.0",
)
_UNITS = ("ms", "gflop", "roofline")
_MAX_OBJECTS, _MIN_SIDE_PX, _MAX_SIDE_PX = 200, 32, 8192


def _objects(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(sorted({int(n) for n in text.split(",")}))
    except ValueError:
        counts = ()
    if not counts or not all(1 <= n <= _MAX_OBJECTS for n in counts):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, wanted numbers of objects from 1 to {_MAX_OBJECTS} with commas,"
            " e.g. 1,5,10"
        )
    return counts


def image_size(text: str) -> tuple[int, int]:
    """Parse HEIGHTxWIDTH, px. Raises ArgumentTypeError."""
    found = re.fullmatch(r"(\d+)[xX](\d+)", text)
    size = (int(found[1]), int(found[2])) if found else (0, 0)
    if not all(_MIN_SIDE_PX <= n <= _MAX_SIDE_PX for n in size):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, wanted HEIGHTxWIDTH in px, each {_MIN_SIDE_PX} to {_MAX_SIDE_PX},"
            " e.g. 480x832"
        )
    return size


def positive(text: str) -> int:
    """Parse a whole number from 1 on. Raises ArgumentTypeError."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"got {text!r}, wanted a number from 1 on")
    return int(text)


def picture_path(text: str) -> str:
    """Parse a file name that matplotlib can draw into. Raises ArgumentTypeError."""
    if Path(text).suffix not in (".png", ".pdf", ".svg"):
        raise argparse.ArgumentTypeError(
            f"got {text!r}, wanted a name that ends in .png, .pdf or .svg"
        )
    return text


def add_parser(kinds: Any) -> None:
    """Register the command. Options that ``vos-ros bench`` has too keep their values."""
    p = kinds.add_parser(
        "lwl",
        help="LWL with its networks: ms by stage, GFLOP, memory, for some numbers of objects",
        epilog=_EPILOG,
        description="Measures what a frame of LWL costs here, by stage and number of objects.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--objects",
        type=_objects,
        default=(1, 5, 10),
        metavar="N,N",
        help="numbers of objects (default: 1,5,10)",
    )
    p.add_argument(
        "--size",
        type=image_size,
        default=(480, 832),
        metavar="HxW",
        help="of the images, px (default: 480x832)",
    )
    which = p.add_mutually_exclusive_group()
    which.add_argument(
        "--backbone",
        choices=("resnet50", "mobilenet_v2"),
        help="network with random weights (default: the configured one,"
        " resnet50 where that is plain)",
    )
    which.add_argument("--model", metavar="NAME_OR_FILE", help="weights (segmentation.lwl.model)")
    p.add_argument(
        "--frames",
        type=positive,
        default=24,
        metavar="N",
        help="frames that are timed, rounded up to whole periods of"
        " update_every; as many more for the stages (default: 24)",
    )
    p.add_argument(
        "--compat", choices=("paper", "reference"), help="rules (segmentation.lwl.compat)"
    )
    p.add_argument("--device", metavar="NAME", help="torch device (segmentation.device)")
    p.add_argument(
        "--threads", type=positive, metavar="N", help="CPU threads of torch (segmentation.threads)"
    )
    p.add_argument(
        "--config",
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="YAML file of the configuration, or of a node's parameters",
    )
    p.add_argument(
        "--set",
        action="append",
        default=argparse.SUPPRESS,
        metavar="KEY=VALUE",
        help="one value of the configuration; may be repeated",
    )
    p.add_argument(
        "--json", default=argparse.SUPPRESS, metavar="FILE", help="write all figures there"
    )
    p.add_argument(
        "--plot",
        type=picture_path,
        metavar="FILE",
        help="draw the cost against the number of objects there (.png, .pdf, .svg)",
    )


def run(args: argparse.Namespace) -> int:
    """Measure, print and draw. Raises ValueError with a text for the user."""
    import tempfile

    import torch

    from vos_ros.cli.lwl_cost import STAGES, measure
    from vos_ros.cli.report import finish, write_json

    threads = torch.get_num_threads()
    try:
        with tempfile.TemporaryDirectory(prefix="vos_ros_bench_") as folder:
            config, name = _configuration(args, Path(folder) / "random.safetensors")
            costs, about = measure(config, args.objects, args.size, args.frames)
    finally:
        torch.set_num_threads(threads)
    about = {"lwl_model": name, "lwl_compat": config.segmentation.methods["lwl"].compat, **about}
    peak = float(about["lwl_peak_gflop_per_s"])
    figures = about | {
        f"lwl_{c.objects}_{k}": v for c in costs for k, v in c.figures(costs[0], peak).items()
    }
    _print_table(costs, figures)
    in_table = {f"lwl_{c.objects}_{s}_{unit}" for c in costs for s in STAGES for unit in _UNITS}
    finish({k: v for k, v in figures.items() if k not in in_table}, None)
    if args.json:
        write_json(figures, args.json)
    if args.plot:
        _plot(costs, figures, args.plot)
    return 0


def _configuration(args: argparse.Namespace, random: Path) -> tuple[Config, str]:
    """Return the configuration and its name; random weights go to ``random`` where no others are
    given.
    """
    from vos_ros.cli.lwl_cost import write_random_weights
    from vos_ros.cli.replay import configuration
    from vos_ros.config import ConfigError, from_flat

    args.set = [*_WORST_CASE, *args.set]
    config = configuration(args)
    lwl = config.segmentation.methods["lwl"]
    if config.segmentation.method != "lwl":
        raise ConfigError(
            f"segmentation.method is {config.segmentation.method!r}: bench lwl measures lwl;"
            " the other methods are in"
            " vos-ros bench"
        )
    model = args.model or ("" if args.backbone or lwl.model == "plain" else lwl.model)
    if model == "plain":
        raise ConfigError(
            "--model plain has no networks: vos-ros bench measures it; name weights,"
            " or give --backbone"
        )
    name = model or f"{args.backbone or 'resnet50'}, random weights"
    if not model:
        write_random_weights(args.backbone or "resnet50", random)
    values = {
        "segmentation.lwl.model": model or str(random),
        "segmentation.lwl.sha256": lwl.sha256 if model else "",
        "segmentation.lwl.compat": args.compat,
        "segmentation.device": args.device,
        "segmentation.threads": args.threads,
    }
    return from_flat({k: v for k, v in values.items() if v is not None}, config), name


def _print_table(costs: Sequence[Cost], figures: Mapping[str, Figure]) -> None:
    """Print the stages as rows, the numbers of objects as columns."""
    from vos_ros.cli.lwl_cost import STAGES

    print(
        "stage     "
        + "".join(f"{f'{c.objects} object' + 's' * (c.objects > 1):>30s}" for c in costs)
    )
    print("          " + f"{'ms':>12s}{'GFLOP':>9s}{'of peak':>9s}" * len(costs))
    for s in STAGES:
        cells = ((float(figures[f"lwl_{c.objects}_{s}_{k}"]) for k in _UNITS) for c in costs)
        print(
            f"{s:10s}"
            + "".join(f"{ms:12.2f}{gflop:9.2f}{100 * share:8.0f}%" for ms, gflop, share in cells)
        )


def _plot(costs: Sequence[Cost], figures: Mapping[str, Figure], path: str) -> None:
    """Draw bars of the stages over the number of objects.

    Points are the mean, and p50 to p95, of frames whose stages were not timed.
    """
    import matplotlib

    from vos_ros.cli.lwl_cost import STAGES

    matplotlib.use("Agg")
    from matplotlib import pyplot

    at = [c.objects for c in costs]
    width = 0.7 * min((b - a for a, b in pairwise(at)), default=1)
    figure, axes = pyplot.subplots(figsize=(8, 4.5), layout="constrained")
    floor = [0.0] * len(costs)
    for s in STAGES:
        heights = [c.ms[s] for c in costs]
        axes.bar(at, heights, width, bottom=floor, label=s)
        floor = [a + b for a, b in zip(floor, heights, strict=True)]
    low, high = ([float(figures[f"lwl_{n}_total_ms_{p}"]) for n in at] for p in ("p50", "p95"))
    axes.vlines(at, low, high, color="0.15", label="p50 to p95")
    axes.plot(at, [c.mean_ms for c in costs], "o", color="0.15", label="mean")
    axes.set_xticks(at)
    axes.set_xlabel("objects")
    axes.set_ylabel("ms per frame")
    axes.set_title(
        f"LWL ({figures['lwl_compat']}), {Path(str(figures['lwl_model'])).name},"
        f" {figures['lwl_size']} seen at"
        f" {figures['lwl_network_size']},\n{figures['lwl_device']}, {figures['lwl_precision']},"
        f" {figures['torch_threads']} threads",
        fontsize=9,
    )
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(handles[::-1], labels[::-1], fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)
