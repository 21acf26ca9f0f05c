"""``vos-ros slam``: track the camera of a recording, and write a bag with the poses."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from vos_ros.cli.replay import add_frames

if TYPE_CHECKING:
    from pathlib import Path

    from vos_ros.cli.report import Figure
    from vos_ros.rgbd_odometry.config import SlamConfig
    from vos_ros.rgbd_odometry.rgbd import Tracked
    from vos_ros.types import Frame

_EPILOG = """\
The bag is as that of vos-ros convert, with the tracked poses in /tf and (with their covariance) in
/pose; frames in which the camera was lost have no pose. Where the recording has poses, they are
only compared with: see the figures ate_* (RMS distance), rpe_* (error of a second's motion), nees
(6 where the covariances are right, less where they are too large).

examples:
  vos-ros slam run.mcap --out tracked.mcap --plot tracked.png
  vos-ros replay tracked.mcap out.mcap --pose /pose     masks and associations with these poses
  vos-ros slam kitchen --set follow.keyframe_m=0.3            a folder works too; no bag is written

All keys for --set, with defaults: config/rgbd_slam.yaml
"""


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    p = subparsers.add_parser(
        "slam",
        help="track the camera of a recording by its colour and depth",
        epilog=_EPILOG,
        description="Tracks the camera of a recording by its colour and depth alone.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "src",
        metavar="IN",
        help="a bag (.mcap, .db3, or the folder of one) or a recorded folder (see vos-ros convert)",
    )
    p.add_argument(
        "--out",
        metavar="OUT.mcap",
        help="bag to write; one of that name is replaced when the new one is whole",
    )
    p.add_argument(
        "--initial-pose",
        choices=("truth", "identity"),
        default="truth",
        help="the first pose: the recording's, so that its objects lie where the camera shows them,"
        " or the map's origin (default: truth; identity where there is none)",
    )
    p.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="one parameter of the tracker; may be repeated",
    )
    add_frames(p, "registered depth", "pose of the camera to compare with, or tf, or none")
    p.add_argument(
        "--plot",
        metavar="FILE.png",
        help="draw the trajectory and the true one, and the error with its standard deviation",
    )
    p.add_argument("--json", metavar="FILE", help="write the figures there too")


def run(args: argparse.Namespace) -> int:
    """Track the recording. Raises ValueError or OSError: with a message for people."""
    from contextlib import nullcontext
    from pathlib import Path

    from tqdm import tqdm

    from vos_ros.cli.replay import open_source
    from vos_ros.cli.report import finish, settings
    from vos_ros.config import changed
    from vos_ros.rgbd_odometry.config import SlamConfig
    from vos_ros.sinks.mcap import McapFile
    from vos_ros.sinks.recording import Recorder
    from vos_ros.types import MapUpdate

    if args.out and Path(args.src).resolve() == Path(args.out).resolve():
        raise ValueError(
            f"{args.out}: the input and the output are the same file; name another output"
        )
    config = changed(SlamConfig(), settings(args.set, "follow.keyframe_m=0.3"))
    args.pose_noise_m = args.pose_noise_deg = 0.0
    source = open_source(args)
    wanted = range(len(source))[args.start : args.stop]
    tracker = _Tracker(config, args.initial_pose)
    with (
        (
            McapFile(args.out, {"source": Path(args.src).resolve().name, "poses": "vos-ros slam"})
            if args.out
            else nullcontext()
        ) as file,
        tqdm(total=len(wanted), unit="frame", desc="tracking", disable=None) as bar,
    ):
        recorder = None
        for item in source:
            if isinstance(item, MapUpdate):
                if file is not None:
                    recorder = recorder or Recorder(file, map_frame=source.map_frame)
                    recorder.map_update(item)
                continue
            if item.index not in wanted:
                continue
            tracked = tracker.step(item)
            if file is not None:
                Recorder(file, item.frame_id, source.map_frame).frame(tracked)
            bar.update()
    if not tracker.results:
        raise ValueError(
            f"no frame to track: the recording has {len(source)}, wanted were {args.start} to"
            f" {args.stop}"
        )
    figures = tracker.figures()
    if args.plot:
        _plot(tracker, Path(args.plot))
    finish(figures, args.json)
    return 0


class _Tracker:
    """The tracker with a record of its poses, and of the true ones where there are some."""

    def __init__(self, config: SlamConfig, initial: str) -> None:
        self._config, self._initial = config, initial
        self._slam: Any = None
        self.results: list[Tracked] = []
        self.truth: list[Any] = []
        self.times_ms: list[float] = []

    def step(self, frame: Frame) -> Frame:
        """Return the frame with its tracked pose; without one where the camera is lost."""
        from dataclasses import replace

        from vos_ros.rgbd_odometry.rgbd import RgbdSlam, TrackingState

        if self._slam is None:
            self._slam = RgbdSlam(
                self._config, frame.T_map_camera if self._initial == "truth" else None
            )
        begun = time.perf_counter()
        tracked = self._slam.track(frame.stamp_ns, frame.rgb, frame.depth, frame.intrinsics)
        self.times_ms.append(1e3 * (time.perf_counter() - begun))
        self.results.append(tracked)
        self.truth.append(frame.T_map_camera)
        lost = tracked.state is TrackingState.LOST
        return replace(
            frame,
            T_map_camera=None if lost else tracked.T_map_camera,
            pose_cov=None if lost else tracked.cov,
        )

    def tracked_with_truth(self) -> list[int]:
        """Return the indices of the frames that were tracked and have a true pose."""
        from vos_ros.rgbd_odometry.rgbd import TrackingState

        return [
            i
            for i, (r, T) in enumerate(zip(self.results, self.truth, strict=True))
            if r.state is not TrackingState.LOST and T is not None
        ]

    def figures(self) -> dict[str, Figure]:
        """Compute the figures, with their units in their names."""
        from dataclasses import asdict

        import numpy as np

        from vos_ros.rgbd_odometry.rgbd import FOUND_AGAIN, TrackingState
        from vos_ros.rgbd_odometry.trajectory import trajectory_error

        states = [r.state for r in self.results]
        p50, p95 = np.percentile(self.times_ms, (50, 95))
        way = np.diff([r.T_map_camera[:3, 3] for r in self.results], axis=0)
        out: dict[str, Figure] = {
            "frames": len(states),
            "frames_lost": states.count(TrackingState.LOST),
            "frames_by_corners": states.count(TrackingState.CORNERS),
            "times_found_again": sum(r.why == FOUND_AGAIN for r in self.results),
            "new_starts": self._slam.run,
            "keyframes": len(self._slam.keyframes),
            "way_m": float(np.linalg.norm(way, axis=1).sum()),
            "track_ms_p50": float(p50),
            "track_ms_p95": float(p95),
            "fps": 1e3 * len(states) / sum(self.times_ms),
        }
        chosen = self.tracked_with_truth()
        if chosen:
            error = trajectory_error(
                [self.results[i].stamp_ns for i in chosen],
                np.stack([self.results[i].T_map_camera for i in chosen]),
                np.stack([self.truth[i] for i in chosen]),
                np.stack([self.results[i].cov for i in chosen]),
            )
            out |= {"frames_with_truth": len(chosen), **asdict(error)}
        return out


def _plot(tracker: _Tracker, path: Path) -> None:
    """Draw both trajectories from above, and the error over time with two standard deviations."""
    import matplotlib
    import numpy as np

    from vos_ros.rgbd_odometry.rgbd import TrackingState

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, (left, right) = pyplot.subplots(1, 2, figsize=(13, 5.5))
    way = np.array([r.T_map_camera[:3, 3] for r in tracker.results])
    chosen = tracker.tracked_with_truth()
    if chosen:
        true = np.array([tracker.truth[i][:3, 3] for i in chosen])
        left.plot(true[:, 0], true[:, 1], color="0.6", linewidth=3, label="true")
        t = (
            np.array([tracker.results[i].stamp_ns - tracker.results[0].stamp_ns for i in chosen])
            / 1e9
        )
        sigma = np.array([np.sqrt(np.trace(tracker.results[i].cov[:3, :3])) for i in chosen])
        right.plot(
            t, np.linalg.norm(way[chosen] - true, axis=1), color="C0", label="error of the position"
        )
        right.plot(
            t, 2 * sigma, color="C1", linestyle="--", label="two standard deviations, as stated"
        )
        right.set(xlabel="s", ylabel="m")
        right.legend()
    left.plot(way[:, 0], way[:, 1], color="C0", linewidth=1, label="tracked")
    lost = np.array([r.state is TrackingState.LOST for r in tracker.results])
    if lost.any():
        left.plot(way[lost, 0], way[lost, 1], "x", color="C3", label="lost")
    left.set(xlabel="x, m", ylabel="y, m", aspect="equal", title="from above")
    left.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)
