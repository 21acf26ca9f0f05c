"""The stand-ins do, step by step, what the real packages do.

Random sequences of what a node can be given go to both. They need the real packages, so they are
skipped where only the stand-ins are; CONTRIBUTING.md says how to have both. VOS_ROS_SEQUENCES is
the number of sequences of each test, 300 where it is not set.
"""

from __future__ import annotations

import importlib
import math
import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="needs ROS: run through tools/env")
import message_filters
import rclpy.logging
import tf2_ros
from builtin_interfaces.msg import Time as TimeMsg
from geometry_msgs.msg import TransformStamped
from rclpy.duration import Duration
from rclpy.time import Time

STAND_INS = Path(__file__).parents[2] / "tools" / "underlay" / "python"
SEQUENCES = int(os.environ.get("VOS_ROS_SEQUENCES", "300"))
S = 1_000_000_000

pytestmark = pytest.mark.skipif(
    any(STAND_INS in Path(m.__file__).parents for m in (message_filters, tf2_ros)),
    reason="message_filters and tf2_ros are the stand-ins here, and there is nothing to compare"
    ' them with: CONTRIBUTING.md, "The stand-ins, and how to test with the real packages"',
)


def stand_in(name: str) -> ModuleType:
    """The stand-in of a package whose real one is imported under its name."""
    real = {key: sys.modules.pop(key) for key in list(sys.modules) if key.split(".")[0] == name}
    sys.path.insert(0, str(STAND_INS))
    try:
        importlib.invalidate_caches()
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(STAND_INS))
        for key in [key for key in sys.modules if key.split(".")[0] == name]:
            del sys.modules[key]
        sys.modules.update(real)


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Thousands of refusals are not logged."""
    before = rclpy.logging.get_logger_effective_level("")
    rclpy.logging.set_logger_level("", rclpy.logging.LoggingSeverity.FATAL)
    yield
    rclpy.logging.set_logger_level("", before)


def outcome(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call returns, or the name of the error that it raises."""
    try:
        return call(*arguments)
    except Exception as error:
        return f"raises {type(error).__name__}"


# --- message_filters ------------------------------------------------------------------------------


class FakeClock:
    """Stands in for rclpy's clock, so that times of arrival are the same for both."""

    now_ns = 0

    def now(self) -> Time:
        return Time(nanoseconds=self.now_ns)


class Filters:
    """A synchroniser of one package, and what has come out of it."""

    def __init__(self, package: Any, inputs: int, settings: dict[str, Any]) -> None:
        self._filter = package.SimpleFilter
        self.inputs = [package.SimpleFilter() for _ in range(inputs)]
        kind = "ApproximateTimeSynchronizer" if "slop" in settings else "TimeSynchronizer"
        self.sync = getattr(package, kind)(self.inputs, **settings)
        self.out: list[tuple[int, ...]] = []
        self.sync.registerCallback(lambda *m: self.out.append(tuple(one.number for one in m)))

    def do(self, what: str, index: int, msg: Any) -> None:
        if what == "signal":
            self.inputs[index].signalMessage(msg)
        elif what == "add":  # without saying which input it is
            self.sync.add(msg, self.sync.queues[index])
        else:
            self.inputs = [self._filter() for _ in self.inputs]
            self.sync.connectInput(self.inputs)


def random_stamp(rng: random.Random, usual_ns: int) -> Any:
    """A stamp near the usual one; with rclpy's type where it is a Time."""
    step = rng.choice([0, 1, 10_000_000, 16_666_666, 20_000_000, 29_000_000, 100_000_000, S])
    ns = max(0, usual_ns + rng.choice([-1, 0, 0, 1]) * step + rng.choice([0, 0, 1, -1]))
    return Time(nanoseconds=ns) if rng.random() < 0.1 else Time(nanoseconds=ns).to_msg()


def random_message(rng: random.Random, number: int, usual_ns: int, exact: bool) -> Any:
    """A message with an odd stamp, or with none, now and then."""
    header = SimpleNamespace(stamp=random_stamp(rng, usual_ns), frame_id="camera")
    kind = rng.random() * (20.0 if exact else 1.0)  # each ends the sequence of an exact one
    if kind < 0.05:
        seconds = rng.choice([-1, 1]) * rng.randrange(1, 2**31)
        header.stamp = TimeMsg(sec=seconds, nanosec=rng.choice([0, 5, 2**32 - 1]))
    elif kind < 0.1:
        del header.stamp
    elif kind < 0.15:
        return SimpleNamespace(number=number)
    if exact and isinstance(getattr(header, "stamp", None), Time):
        header.stamp = header.stamp.to_msg()
    return SimpleNamespace(number=number, header=header)


@pytest.mark.parametrize("kind", ["exact", "approximate"])
def test_synchronisers_hand_on_the_same_messages(kind: str, monkeypatch: Any) -> None:
    ours = stand_in("message_filters")
    for package in (message_filters, ours):
        monkeypatch.setattr(package, "ROSClock", FakeClock)
    handed_on = refused = 0
    for seed in range(SEQUENCES):
        rng = random.Random(f"{kind} {seed}")
        inputs = rng.randrange(1, 5)
        settings: dict[str, Any] = {"queue_size": rng.randrange(0, 6)}
        if kind == "approximate":
            settings["slop"] = rng.choice(
                [0.0, 1e-9, 0.01, 1 / 60, 0.02, 0.029, 0.1, 1.0, 5e3, -1.0]
            )
            settings["allow_headerless"] = rng.random() < 0.5
        both = [Filters(package, inputs, settings) for package in (message_filters, ours)]
        usual_ns, steps = rng.randrange(0, 3) * S, []
        for number in range(rng.randrange(5, 80)):
            usual_ns += rng.choice([0, 0, 10_000_000, 33_000_000])
            FakeClock.now_ns = usual_ns
            what = rng.choices(["signal", "add", "connect"], [95, 4, 1])[0]
            index = rng.randrange(inputs)
            msg = random_message(rng, number, usual_ns, kind == "exact")
            steps.append((what, index, msg))
            answers = [outcome(one.do, what, index, msg) for one in both]
            assert answers[0] == answers[1], (seed, inputs, settings, steps)
            assert both[0].out == both[1].out, (seed, inputs, settings, steps)
            if answers[0] is not None:
                refused += 1
                if kind == "exact":
                    break  # the real one keeps its lock, and would wait for ever
        handed_on += len(both[0].out)
    assert handed_on > SEQUENCES and refused > SEQUENCES / 10


# --- tf2_ros --------------------------------------------------------------------------------------

NAMES = ["map", "odom", "base", "camera", "lidar", "sea"]
ODD_NAMES = ["", "/", "/base", "//base", "nowhere", "base/", "käse"]


def random_name(rng: random.Random, odd: float) -> str:
    return rng.choice(ODD_NAMES if rng.random() < odd else NAMES)


def random_time(rng: random.Random) -> TimeMsg:
    """Mostly within a few seconds, on a grid, so that stamps meet."""
    kind = rng.random()
    if kind < 0.85:
        quarters = rng.randrange(0, 40)
        return TimeMsg(sec=100 + quarters // 4, nanosec=quarters % 4 * 250_000_000)
    if kind < 0.9:
        return TimeMsg(sec=0, nanosec=rng.choice([0, 0, 1]))
    if kind < 0.95:
        return TimeMsg(sec=rng.choice([115, 130, 3700, 2**30]), nanosec=rng.choice([0, 999]))
    return TimeMsg(sec=-rng.choice([1, 5, 2**29]), nanosec=rng.choice([0, 0, 7, 500_000_000]))


def random_quaternion(rng: random.Random) -> list[float]:
    kind = rng.random()
    if kind < 0.2:
        half = rng.choice([0.0, 0.1, 0.5, 1e-9, 1.0]) * math.pi
        return [0.0, 0.0, rng.choice([-1, 1]) * math.sin(half), math.cos(half)]
    q = [rng.gauss(0.0, 1.0) for _ in range(4)]
    if kind < 0.85:
        length = math.sqrt(sum(one * one for one in q)) * rng.choice([1.0, 1.0, 1.0, 1.004, -1.0])
        return [one / length for one in q]
    if kind < 0.92:
        size = rng.choice([1e-3, 7.0, 1e-150, 1e-170, 1e150, 1e170])
        return [one * size for one in q]
    return rng.choice([[0.0] * 4, [0.0, 0.0, 0.0, math.nan], [math.inf, 0.0, 0.0, 1.0]])


def random_transform(rng: random.Random, tree: bool) -> TransformStamped:
    """Of a tree with some new parents and loops, or between any frames."""
    child = random_name(rng, 0.03)
    parents = NAMES[: NAMES.index(child)] if tree and child in NAMES else NAMES
    msg = TransformStamped(child_frame_id=child)
    msg.header.frame_id = rng.choice(parents[-1:] + parents) if parents else "map"
    if rng.random() < 0.03:
        msg.header.frame_id = random_name(rng, 0.5)
    msg.header.stamp = random_time(rng)
    t, r = msg.transform.translation, msg.transform.rotation
    t.x, t.y, t.z = (rng.choice([0.0, 1.0, rng.gauss(0.0, 10.0)]) for _ in range(3))
    if rng.random() < 0.03:
        t.y = rng.choice([math.nan, math.inf, -math.inf])
    r.x, r.y, r.z, r.w = random_quaternion(rng)
    return msg


def random_step(rng: random.Random, tree: bool) -> tuple[str, tuple[Any, ...]]:
    """A method of Buffer and its arguments."""
    name = rng.choices(
        [
            "set_transform",
            "set_transform_static",
            "lookup_transform",
            "can_transform",
            "lookup_transform_full",
            "can_transform_full",
            "get_latest_common_time",
            "wait_for_transform_async",
            "wait_for_transform_full_async",
            "all_frames_as_string",
            "all_frames_as_yaml",
            "clear",
        ],
        [300, 20, 200, 50, 50, 20, 50, 10, 5, 5, 5, 3],
    )[0]
    if name.startswith("set"):
        return name, (random_transform(rng, tree), rng.choice(["odometry", "default_authority"]))
    if name.startswith(("all", "clear")):
        return name, ()
    target, source, fixed = (random_name(rng, 0.04) for _ in range(3))
    if name == "get_latest_common_time":
        return name, (target, source)
    times: list[Any] = [random_time(rng), random_time(rng)]
    times = [Time.from_msg(t) if t.sec >= 0 and rng.random() < 0.7 else t for t in times]
    if rng.random() < 0.2:
        times[0] = Time()
    if "full" in name:
        return name, (target, times[0], source, times[1], fixed)
    return name, (target, source, times[0])


def plain(answer: Any) -> Any:
    """An answer in words and numbers; a rotation by its products, so that its sign is free."""
    if isinstance(answer, TransformStamped):
        t, q = answer.transform.translation, answer.transform.rotation
        square = [a * b for a in (q.x, q.y, q.z, q.w) for b in (q.x, q.y, q.z, q.w)]
        stamp = answer.header.stamp
        names = [answer.header.frame_id, answer.child_frame_id]
        position = [t.x, t.y, t.z]
        if not all(map(math.isfinite, position)):  # where inf becomes NaN is free
            position = ["not finite"]
        return [*names, stamp.sec, stamp.nanosec, *position, *square]
    if isinstance(answer, Time):
        return answer.nanoseconds
    if isinstance(answer, tuple):  # with the reason, whose words are free
        return bool(answer[0])
    return bool(answer) if isinstance(answer, int) else answer


def same(a: Any, b: Any) -> bool:
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-7, abs_tol=1e-7)
    return bool(a == b)


def futures_state(futures: list[Any]) -> list[Any]:
    return [plain(outcome(f.result)) if f.done() else None for f in futures]


def test_buffers_answer_the_same() -> None:
    ours = stand_in("tf2_ros")
    answered = refused = 0
    for seed in range(SEQUENCES):
        rng = random.Random(seed)
        cache = rng.choice([(), (), (Duration(seconds=rng.choice([0, 1, 3, 100])),)])
        both, tree = [package.Buffer(*cache) for package in (tf2_ros, ours)], rng.random() < 0.8
        steps: list[tuple[str, tuple[Any, ...]]] = []
        waiting: list[list[Any]] = [[], []]
        for _ in range(rng.randrange(20, 200)):
            name, arguments = random_step(rng, tree)
            if name.startswith("set") and steps and rng.random() < 0.1:  # a sample comes twice
                name, arguments = next((s for s in reversed(steps) if s[0] == name), steps[-1])
            steps.append((name, arguments))
            answers = [outcome(getattr(one, name), *arguments) for one in both]
            if name.startswith("wait"):
                for futures, answer in zip(waiting, answers, strict=True):
                    futures.append(answer)
            else:
                a, b = map(plain, answers)
                assert same(a, b), (seed, cache, a, b, steps)
                answered += isinstance(a, list)
                refused += isinstance(a, str) and a.startswith("raises")
            a, b = map(futures_state, waiting)
            assert same(a, b), (seed, cache, a, b, steps)
    assert answered > 5 * SEQUENCES and refused > 5 * SEQUENCES


@pytest.mark.parametrize("edges", [1000, 1001])
def test_the_longest_way_to_the_root_is_as_long(edges: int) -> None:
    for at in (Time(), Time(seconds=5)):
        answers = []
        for package in (tf2_ros, stand_in("tf2_ros")):
            buffer = package.Buffer()
            for i in range(edges):
                msg = TransformStamped(child_frame_id=f"f{i + 1}")
                msg.header.frame_id = f"f{i}"
                msg.header.stamp.sec = 5
                buffer.set_transform(msg, "test")
            msg = TransformStamped(child_frame_id="side")
            msg.header.frame_id = "f0"
            msg.header.stamp.sec = 5
            buffer.set_transform(msg, "test")
            ways = [(f"f{edges}", "side"), ("side", f"f{edges}"), ("f0", f"f{edges}")]
            answers.append([plain(outcome(buffer.lookup_transform, *way, at)) for way in ways])
        assert same(*answers)
        assert any(isinstance(one, str) for one in answers[0]) == (edges > 1000)
