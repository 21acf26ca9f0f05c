"""Inputs that contradict each other: the node names the cause, and the mapper deletes nothing.

Each of the twelve is tried from the start, and again after the check has passed: a camera driver
may be started anew with other settings.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS 2: run it with tools/env python -m pytest")
pytest.importorskip("open3d", reason="the synthetic world is rendered by Open3D")

from support import contradictions
from support.contradictions import Contradiction
from support.robot import PERCEPTION, Robot, end_process, start_process
from support.saved_maps import saved_map

from vos_ros.msg import Association, AssociationArray
from vos_ros.reference_mapper.store import save
from vos_ros.synthetic.source import SyntheticSource, SyntheticSpec
from vos_ros.types import Frame

RATE_HZ, FRAMES = 10.0, 40
SAYS_WITHIN = 30
"""Frames, three seconds of them."""
MAPPER = "object_mapper: map"


class Run:
    """A node and a mapper with the map of a rendered table, and frames at the camera's rate."""

    def __init__(self, robot: Robot, source: SyntheticSource, frames: Sequence[Frame]) -> None:
        self.robot, self.source, self.sent = robot, source, 0
        self.frames = frames

    def text(self) -> str:
        """All that is said on /diagnostics."""
        return "\n".join(f"{name}: {text}" for name, (_, text, _) in self.robot.diagnostics.items())

    def play(self, wrong: Contradiction | None, frames: int) -> int:
        """Play some frames; return after how many the cause was named, 0 where it was not."""
        named = 0
        for k in range(frames):
            began = time.monotonic()
            frame = self._frame()
            change = (lambda m, f=frame: wrong.messages(m, f)) if wrong else (lambda m: None)
            header = self.robot.send(frame, change=change)
            if wrong is None or wrong.answered:
                self.robot.answered(header, "associations")
            self.robot.spin(max(0.0, began + 1 / RATE_HZ - time.monotonic()))
            if wrong and not named and any(w in self.text() for w in wrong.words):
                named = k + 1
        return named

    def _frame(self) -> Frame:
        """Return the next frame; the camera goes to and fro, time goes on."""
        there = self.sent % (2 * FRAMES - 2)
        index = there if there < FRAMES else 2 * FRAMES - 2 - there
        frame = self.frames[index]
        self.sent += 1
        stamp_ns = frame.stamp_ns - index * 100_000_000 + self.sent * 100_000_000
        return Frame(
            self.sent,
            stamp_ns,
            frame.rgb,
            frame.depth,
            frame.intrinsics,
            frame.T_map_camera,
            frame_id=frame.frame_id,
        )

    @property
    def verdict(self) -> int:
        return int(self.robot.got["associations"][-1].self_check)

    @property
    def said_absent(self) -> int:
        """Frames in which something was reported absent."""
        return sum(
            any(a.status == Association.ABSENT for a in m.associations)
            for m in self.robot.got["associations"]
        )

    def mapped(self, key: str) -> str:
        return str(self.robot.values(MAPPER).get(key, ""))


@pytest.fixture(scope="module")
def source() -> SyntheticSource:
    return SyntheticSource(SyntheticSpec(seed=3, frames=FRAMES, width=240, height=180))


@pytest.fixture(scope="module")
def frames(source: SyntheticSource) -> list[Frame]:
    """All frames of it, rendered once."""
    return [source.capture(i).frame for i in range(FRAMES)]


@pytest.fixture
def run(
    request: pytest.FixtureRequest,
    start: Any,
    source: SyntheticSource,
    frames: list[Frame],
    tmp_path: Path,
) -> Iterator[Run]:
    wrong: Contradiction = request.param
    points = {o.id: o.points for o in source.map_snapshot().objects}
    save(saved_map(wrong.points(points), stamp_ns=1), tmp_path / "map.json")
    robot = start(**{"node.input_timeout_s": 2.0})
    processes = [
        start_process(
            "vos_ros.ros.mapper.object_mapper",
            tmp_path / "mapper.log",
            robot.domain,
            {"node.map_file": tmp_path / "map.json", "node.diagnostics_period_s": 0.2},
        )
    ]
    if wrong.twin:
        values = {"segmentation.method": "null"}
        log = tmp_path / "twin.log"
        processes.append(start_process(PERCEPTION, log, robot.domain, values))
    try:
        robot.ready()
        count = str(len(points))
        robot.wait(lambda: robot.values("map").get("map_objects") == count, "the map", 40)
        if wrong.twin:
            publishers = lambda: robot.node.count_publishers("/vos_ros/labels")  # noqa: E731
            robot.wait(lambda: publishers() == 2, "the twin", 40)
        yield Run(robot, source, frames)
    finally:
        for process in processes:
            end_process(process)


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("run", "wrong"),
    [pytest.param(c, c, id=c.name.replace(" ", "-")) for c in contradictions.ALL],
    indirect=["run"],
)
def test_the_cause_is_named_and_the_mapper_deletes_nothing(run: Run, wrong: Contradiction) -> None:
    objects = str(len(run.source.map_snapshot().objects))
    named = run.play(wrong, FRAMES)
    print(f"{wrong.name}: named after {named} frames")
    assert 0 < named <= SAYS_WITHIN, run.text()
    assert run.mapped("objects") == objects
    assert run.said_absent == 0
    if wrong.messages is not contradictions.same_messages:
        run.play(None, FRAMES)
        assert run.verdict == AssociationArray.PASSED, run.text()
        before = run.said_absent
        named = run.play(wrong, FRAMES)
        print(f"{wrong.name}: named after {named} frames of a run that had passed")
        assert 0 < named <= SAYS_WITHIN, run.text()
        assert run.mapped("objects") == objects and run.said_absent == before
