"""``vos-ros bench``: measure the times of the parts on this machine."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vos_ros.cli.bench_lwl import add_parser as add_lwl
from vos_ros.cli.bench_lwl import image_size
from vos_ros.cli.bench_lwl import run as run_lwl
from vos_ros.cli.bench_meta import add_parser as add_meta
from vos_ros.cli.bench_meta import run as run_meta

if TYPE_CHECKING:
    from collections.abc import Callable

    from vos_ros.cli.report import Figure
    from vos_ros.types import MapObject

_EPILOG = """\
render_*     the map's objects into one z-buffer with the depth test (50 objects of 5,000 points,
             640x480)
associate_*  50 tracks against 200 map objects in view, all evidence included; gather_*, part of it:
             surfaces in 3-D, appearance, motion; predict_200: the predicted pixels of the map's
             objects, which run beside the segmenter
segment_*    one step of the segmenter, with learning, for 1, 5 and 10 objects in an
             image of --segment-size
node_*       from the image's callback in the node to its last publication, at 640x480, over DDS,
             with 14 map objects: latency_ms everything; overhead_ms without the segmenter;
             outside_ms without the whole pipeline; learning_ms: the time after that for frames
             that it learns from (95th percentile)

examples:
  vos-ros bench --json out/bench.json
  vos-ros bench --skip-node              where ROS is missing
  vos-ros bench lwl --backbone resnet50  LWL with its networks, by stage and number of objects
  vos-ros bench meta --davis DIR         the learned optimizer of meta against others
"""
_WARM_UP, _RENDER_RUNS, _SEGMENT_FRAMES, _NODE_FRAMES = 4, 40, 12, 40
_NODE_HZ = 2.0
"""Slow enough for two cores: a frame that waits for the previous one would count that wait as its
own time."""


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    p = subparsers.add_parser(
        "bench",
        help="times of the parts on this machine",
        description="Measures what the parts cost here.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
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
        "--segment-size",
        type=image_size,
        default=(480, 640),
        metavar="HxW",
        help="of the images of segment_*, px (default: 480x640)",
    )
    p.add_argument("--skip-node", action="store_true", help="leave out the node, which needs ROS")
    p.add_argument(
        "--out",
        type=Path,
        default=Path("out/bench"),
        metavar="DIR",
        help="for the node's log (default: out/bench)",
    )
    p.add_argument("--json", metavar="FILE", help="write the figures there too")
    kinds = p.add_subparsers(dest="kind", metavar="KIND", title="more of one part")
    add_lwl(kinds)
    add_meta(kinds)


def run(args: argparse.Namespace) -> int:
    """Measure and print. Raises ValueError with a text for the user."""
    if args.kind == "lwl":
        return run_lwl(args)
    if args.kind == "meta":
        return run_meta(args)
    import importlib.util

    import torch

    from vos_ros.cli.replay import configuration
    from vos_ros.cli.report import finish

    config = configuration(args)
    figures: dict[str, Figure] = {
        "torch_threads": torch.get_num_threads(),
        **_render(),
        **_associate(config),
        **_segment(config, *args.segment_size),
    }
    if not args.skip_node:
        if importlib.util.find_spec("rclpy") is None:
            raise ValueError(
                "rclpy was not found: run tools/env vos-ros bench (or make bench), source a ROS 2"
                " distribution, or leave the node out with --skip-node"
            )
        figures.update(_node(config, args.out))
    finish(figures, args.json)
    return 0


def _times_ms(work: Callable[[], object], runs: int, name: str) -> dict[str, Figure]:
    """Return median and 95th percentile of ``runs`` runs, after some that are not counted."""
    import numpy as np
    from tqdm import tqdm

    for _ in range(_WARM_UP):
        work()
    taken = []
    for _ in tqdm(range(runs), desc=name, leave=False):
        start = time.perf_counter()
        work()
        taken.append(1e3 * (time.perf_counter() - start))
    return {
        f"{name}_ms_p50": float(np.median(taken)),
        f"{name}_ms_p95": float(np.percentile(taken, 95)),
    }


def _ellipsoids(n: int, points: int) -> list[MapObject]:
    """Return n ellipsoids of 10 to 30 cm, 1.2 to 2.5 m in front of a camera at the origin."""
    import numpy as np

    from vos_ros.types import MapObject

    rng = np.random.default_rng(0)
    out = []
    for i in range(1, n + 1):
        direction = rng.normal(size=(points, 3))
        radii = rng.uniform(0.05, 0.15, 3)
        z = rng.uniform(1.2, 2.5)
        centre = np.array([rng.uniform(-0.5, 0.5) * z, rng.uniform(-0.35, 0.35) * z, z])
        surface = centre + radii * direction / np.linalg.norm(direction, axis=1, keepdims=True)
        pose = np.eye(4)
        pose[:3, 3] = centre
        spacing = np.sqrt(4 * np.pi * np.mean(radii) ** 2 / points)
        out.append(MapObject(i, 1, pose, 2 * radii, surface.astype(np.float32), float(spacing)))
    return out


def _render() -> dict[str, Figure]:
    import numpy as np

    from vos_ros.mapping.render import render
    from vos_ros.types import Intrinsics

    objects, camera = _ellipsoids(50, 5000), Intrinsics(525.0, 525.0, 319.5, 239.5, 640, 480)
    depth = np.full((480, 640), 3.0, np.float32)
    for p in render(objects, np.eye(4), camera):
        x0, y0, x1, y1 = p.roi
        depth[y0:y1, x0:x1][p.mask_roi] = p.depth_roi[p.mask_roi]
    return _times_ms(
        lambda: render(objects, np.eye(4), camera, depth=depth), _RENDER_RUNS, "render_50x5000"
    )


def _associate(config: Any) -> dict[str, Figure]:
    """Time evidence and assignment of 50 tracks and 200 map objects in view.

    The predicted pixels are timed apart, because they are computed beside the segmenter.
    """
    import numpy as np
    import torch

    from vos_ros.association.assignment import HungarianAssociator
    from vos_ros.association.predicted_pixels import predict_pixels
    from vos_ros.geometry.boxes import boxes_of
    from vos_ros.mapping.object_map import ObjectMap
    from vos_ros.mapping.render import render
    from vos_ros.pipeline.evidence_collector import EvidenceCollector
    from vos_ros.pipeline.instance_masks import InstanceMasks
    from vos_ros.pipeline.map_view import MapView
    from vos_ros.tracking.track_manager import TrackManager
    from vos_ros.types import Frame, Intrinsics, MapUpdate, TrackSource

    camera = Intrinsics(525.0, 525.0, 319.5, 239.5, 640, 480)
    features = torch.rand(256, 31, 41)  # of the size that lwl has
    objects, object_map = _ellipsoids(200, 500), ObjectMap()
    object_map.apply(MapUpdate(0, "bench", 1, True, tuple(objects)))
    projections = render(objects, np.eye(4), camera)
    depth, index = np.full((480, 640), 3.0, np.float32), np.zeros((480, 640), np.uint8)
    for k, p in enumerate(projections):
        x0, y0, x1, y1 = p.roi
        depth[y0:y1, x0:x1][p.mask_roi] = p.depth_roi[p.mask_roi]
        if k % 4 == 0 and k < 200:
            index[y0:y1, x0:x1][p.mask_roi] = k // 4 + 1
    predicted_pixels = [predict_pixels(p, 2.0, depth, 0.04) for p in projections]
    tracks = TrackManager(config.tracking)
    for t in range(1, 51):
        tracks.start(tracks.reserve(), map_object_id=4 * t - 3, class_id=0, source=TrackSource.MAP)
    nothing = np.zeros(51)
    frame = Frame(0, 0, np.zeros((480, 640, 3), np.uint8), depth, camera, np.eye(4))
    view = MapView(
        T_map_camera=np.eye(4),
        pose_cov=np.diag([1e-4] * 3 + [3e-5] * 3),
        projections={p.object_id: p for p in projections},
        sigma_px={},
        priors={},
        predicted_pixels=tuple(predicted_pixels),
    )
    masks = InstanceMasks(
        track_ids=tuple(range(1, 51)),
        instance_index=index,
        prob=np.ones((480, 640), np.float32),
        areas_px=nothing.astype(int),
        scores=nothing,
        boxes=boxes_of(index, 50),
    )
    collector = EvidenceCollector(config.association, config.mapping)
    associate = HungarianAssociator(config.association)

    def gather() -> Any:
        return collector.collect(frame, view, masks, tracks, tuple(object_map), features)

    return {
        **_times_ms(lambda: associate(gather()), _RENDER_RUNS, "associate_50x200"),
        **_times_ms(gather, _RENDER_RUNS, "gather_50x200"),
        **_times_ms(
            lambda: [predict_pixels(p, 2.0, depth, 0.04) for p in projections], 8, "predict_200"
        ),
    }


def _segment(config: Any, height: int, width: int) -> dict[str, Figure]:
    import cv2
    import numpy as np

    from vos_ros.segmentation.registry import create
    from vos_ros.types import Frame, Intrinsics, Mask, Seed

    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 255, (15, 20, 3), np.uint8)
    texture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_NEAREST)
    camera = Intrinsics(525.0, 525.0, (width - 1) / 2, (height - 1) / 2, width, height)
    figures: dict[str, Figure] = {}
    for n in (1, 5, 10):
        segmenter = create(config.segmentation)
        masks = []
        for i in range(n):
            box = np.zeros((480, 640), np.uint8)
            y, x = divmod(i, 5)
            box[40 + 200 * y : 168 + 200 * y, 32 + 120 * x : 128 + 120 * x] = 1
            mask = cv2.resize(box, (width, height), interpolation=cv2.INTER_NEAREST) > 0
            masks.append(Seed(i + 1, Mask(mask)))
        frames = iter(
            [
                Frame(k, k * 10**8, np.roll(texture, k, 1), None, camera)
                for k in range(_SEGMENT_FRAMES + _WARM_UP + 1)
            ]
        )
        segmenter.seed(next(frames), masks)

        def step(segmenter: Any = segmenter, frames: Any = frames) -> None:
            segmenter.step(next(frames))

        figures.update(_times_ms(step, _SEGMENT_FRAMES, f"segment_{n}"))
    figures["segment_10_over_1"] = float(figures["segment_10_ms_p50"]) / float(
        figures["segment_1_ms_p50"]
    )
    return figures


def _node(config: Any, out: Path) -> dict[str, Figure]:
    """Run the real node over DDS on a small scene of 640x480; the figures come from its
    /diagnostics.
    """
    import shutil

    from vos_ros.cli.demo import play, read_counts
    from vos_ros.synthetic.source import SyntheticSource, SyntheticSpec, write_folder

    out.mkdir(parents=True, exist_ok=True)
    sequence, bag = out / "sequence", out / "bench.mcap"
    try:
        write_folder(
            SyntheticSource(SyntheticSpec(frames=_NODE_FRAMES, width=640, height=480)),
            sequence,
            progress=True,
        )
        play(config, sequence, bag, out, frames=_NODE_FRAMES, rate_hz=_NODE_HZ)
        counts = read_counts(bag)
    finally:
        shutil.rmtree(sequence, ignore_errors=True)
    return {
        f"node_{ours}": float(counts[theirs])
        for ours, theirs in (
            ("latency_ms_p50", "latency_ms_p50"),
            ("overhead_ms_p50", "overhead_ms_p50"),
            ("outside_ms_p50", "node_ms_p50"),
            ("learning_ms_p95", "learning_ms_p95"),
        )
    }
