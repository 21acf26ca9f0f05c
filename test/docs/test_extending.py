"""The worked examples of docs/extending.md, written into a copy of the tree and run."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs/extending.md").read_text(encoding="utf-8")
BLOCK = re.compile(r'^```(python|diff) title="([^"]+)"\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def section(title: str) -> str:
    """Return the text below a heading of the page, up to the next one."""
    return PAGE.split(f"## {title}\n", 1)[1].split("\n## ", 1)[0]


def write_example(tree: Path, title: str) -> list[str]:
    """Write the files of a section into the tree; returns their paths."""
    paths = []
    for language, path, text in BLOCK.findall(section(title)):
        target = tree / path
        if language == "python":
            assert not target.exists(), f"{path} exists already"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        else:
            lines = text.splitlines(keepends=True)
            old = "".join(line[1:] for line in lines if line[0] in " -")
            new = "".join(line[1:] for line in lines if line[0] in " +")
            before = target.read_text(encoding="utf-8")
            assert before.count(old) == 1, f"the lines to change are not in {path}"
            target.write_text(before.replace(old, new), encoding="utf-8")
        paths.append(path)
    assert paths, f"the section {title!r} has no files"
    return paths


Run = Callable[..., str]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A copy of what the examples change or import."""
    copy = tmp_path / "tree"
    ignore = shutil.ignore_patterns("__pycache__")
    for folder in ("vos_ros", "config", "msg", "docs"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=ignore)
    shutil.copytree(ROOT / "test/support", copy / "test/support", ignore=ignore)
    return copy


@pytest.fixture
def run(tree: Path) -> Run:
    """Run Python in the copy; returns what it prints."""

    def in_tree(*command: str) -> str:
        env = {**os.environ}
        kept = [p for p in env.get("PYTHONPATH", "").split(os.pathsep) if p and Path(p) != ROOT]
        env["PYTHONPATH"] = os.pathsep.join([str(tree), str(tree / "test"), *kept])
        done = subprocess.run(
            [sys.executable, *command],
            cwd=tree,
            env=env,
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout if command[0] == "-c" else done.stdout + done.stderr

    return in_tree


TERM = """
import json
import numpy as np
from support.association import frame_evidence, map_object, projection, rect
from vos_ros.association.assignment import HungarianAssociator
from vos_ros.config import AssociationConfig, Config, from_flat, params
from vos_ros.evaluation import association_fit

key = "association.terms.map_embedding.weight"
mask = rect(10, 10, 30, 30)
objects = {
    11: map_object(11, embedding=np.array([1.0, 0.0], np.float32)),
    12: map_object(12, embedding=np.array([0.0, 1.0], np.float32)),
    13: map_object(13),
}
frame = frame_evidence(
    {1: mask},
    [projection(i, mask) for i in objects],
    objects=objects,
    descriptors={1: np.array([2.0, 0.0], np.float32)},
)


def scores(weight):
    config = from_flat({key: weight}).association
    matching = HungarianAssociator(config)(frame)
    values = dict(zip(matching.pairs.object_ids.tolist(), matching.pairs.values("map_embedding")))
    best = matching.matches[0].evidence
    return best.map_object_id, best.score, values


known = {p.key for p in params(Config)}
print(json.dumps([key in known, scores(0.0)[1], *scores(3.0)], default=float))
"""


def test_a_term_of_evidence(tree: Path, run: Run) -> None:
    paths = write_example(tree, "A term of evidence")
    assert len(paths) == 1
    known, without, best, score, values = json.loads(run("-c", TERM))
    assert known, "its weight is a parameter"
    assert best == 11 and score > without + 0.1, "it tells equal masks apart"
    assert values["11"] == 1.0 and values["12"] == 0.0 and np.isnan(values["13"])


POSE = """
import json
import numpy as np
from vos_ros.config import Config, from_flat, params
from vos_ros.geometry import se3
from vos_ros.messages.factory import make
from vos_ros.messages.geometry import transform_stamped_message
from vos_ros.messages.stamps import header_message
from vos_ros.sinks.mcap import McapFile
from vos_ros.sources.bag import BagSource
from vos_ros.sources.bag_topics import BagTopics
from vos_ros.messages.camera import camera_info_message
from vos_ros.messages.images import image_message
from vos_ros.types import Intrinsics

camera = Intrinsics(60.0, 61.0, 31.5, 23.5, 64, 48)
with McapFile("run.mcap") as bag:
    for k in range(3):
        ns = 1_000_000_000 + k * 100_000_000
        T = se3.from_rt(np.eye(3), np.array([0.5 * k, 0.0, 1.0]))
        head = header_message(make, ns, "cam")
        pose = transform_stamped_message(make, header_message(make, ns, "map"), "cam", T)
        bag.write("/image", image_message(make, head, "rgb8", np.zeros((48, 64, 3), np.uint8)), ns)
        bag.write("/camera_info", camera_info_message(make, head, camera), ns)
        bag.write("/pose", pose, ns)
frames = list(BagSource("run.mcap", BagTopics(pose="/pose")))
choices = next(p for p in params(Config) if p.key == "node.pose_source").choices
from_flat({"node.pose_source": "transform"})
print(json.dumps([list(choices), [f.T_map_camera[0, 3] for f in frames]]))
"""


def test_a_pose_source(tree: Path, run: Run) -> None:
    paths = write_example(tree, "A pose source")
    assert paths == ["vos_ros/messages/pose_sources.py"]
    choices, x = json.loads(run("-c", POSE))
    assert "transform" in choices
    assert x == [0.0, 0.5, 1.0]


def walk(root: Path, frames: int = 5) -> Path:
    """Write a recording in the example's layout: a red square that moves over a dark wall."""
    for name in ("rgb", "ids", "depth"):
        (root / name).mkdir(parents=True)
    noise = np.random.default_rng(0).integers(20, 60, (96, 128, 3), np.uint8)
    lines = []
    for k in range(frames):
        rgb, ids = noise.copy(), np.zeros((96, 128), np.uint8)
        square = np.s_[30:60, 20 + 6 * k : 50 + 6 * k]
        rgb[square], ids[square] = (30, 30, 220), 7
        depth = np.where(ids > 0, 1000, 2000).astype(np.uint16)
        for folder, image in (("rgb", rgb), ("ids", ids), ("depth", depth)):
            assert cv2.imwrite(str(root / folder / f"{k:04d}.png"), image)
        lines.append(f"{100 + k / 10:.1f} {0.01 * k:.2f} 0 0 0 0 0 1\n")
    (root / "trajectory.txt").write_text("".join(lines))
    (root / "camera.txt").write_text("100 100 63.5 47.5 128 96\n")
    (root / "objects.txt").write_text("7 red square\n")
    return root


REPLAYED = """
import json, sys
from vos_ros.messages.definitions import typestore
from rosbags.highlevel import AnyReader
from pathlib import Path

x = []
with AnyReader([Path("out.mcap")], default_typestore=typestore()) as bag:
    topic = [c for c in bag.connections if c.topic.endswith("/associations")]
    for connection, _, raw in bag.messages(topic):
        msg = bag.deserialize(raw, connection.msgtype)
        x.append([msg.header.stamp.sec, msg.map_from_camera.pose.position.x])
print(json.dumps(x))
"""
TRAINED = """
import json, sys
from vos_ros.training.config import SourceConfig
from vos_ros.training.data import open_source

(sequence,) = open_source(SourceConfig(kind="labelled_walk", root=sys.argv[1]), "/")
rgb, ids = sequence.read(2)
print(json.dumps([len(sequence), rgb.shape, sorted(set(ids.ravel().tolist()))]))
"""


@pytest.mark.slow
def test_a_data_set(tree: Path, run: Run, tmp_path: Path) -> None:
    paths = write_example(tree, "A data set")
    assert len(paths) == 1
    root = walk(tmp_path / "walk")
    vos_ros = ("-m", "vos_ros.cli.main")
    said = run(*vos_ros, "replay", str(root), "out.mcap", "--method", "null")
    assert "no object was followed" in said
    replayed = json.loads(run("-c", REPLAYED))
    assert replayed == [[100, pytest.approx(0.01 * k)] for k in range(5)]
    run(*vos_ros, "eval", "bag", "out.mcap", "--truth", str(root), "--json", "bag.json")
    scored = json.loads((tree / "bag.json").read_text())
    assert scored["frames_scored"] == scored["objects_counted"] == 5, scored
    frames, shape, ids = json.loads(run("-c", TRAINED, str(root)))
    assert (frames, shape, ids) == (5, [96, 128, 3], [0, 7])
    command = ("eval", "davis", "--layout", "labelled_walk", "--root", str(root))
    plain = ("--method", "lwl", "--set", "segmentation.lwl.model=plain", "--json", "score.json")
    run(*vos_ros, *command, *plain)
    figures = json.loads((tree / "score.json").read_text())
    assert figures["j_mean"] > 0.8, figures


METHOD = """
import json
import numpy as np
from vos_ros.config import from_flat
from vos_ros.segmentation.registry import create
from vos_ros.types import Frame, Intrinsics, Mask, Seed

camera = Intrinsics(100.0, 100.0, 63.5, 47.5, 128, 96)


def frame(k):
    rgb = np.random.default_rng(0).integers(20, 60, (96, 128, 3), np.uint8)
    mask = np.zeros((96, 128), bool)
    mask[30:60, 20 + 3 * k : 50 + 3 * k] = True
    rgb[mask] = (220, 30, 30)
    return Frame(k, k * 10**8, rgb, None, camera), mask


config = from_flat({"segmentation.method": "lab_colors", "segmentation.lab_colors.color_bins": 48})
segmenter = create(config.segmentation)
first, mask = frame(0)
segmenter.seed(first, [Seed(9, Mask(mask))])
ious = []
for k in range(1, 6):
    image, mask = frame(k)
    got = segmenter.step(image).labels() == 9
    ious.append(np.count_nonzero(got & mask) / np.count_nonzero(got | mask))
print(json.dumps(min(ious)))
"""


def test_a_method(tree: Path, run: Run, tmp_path: Path) -> None:
    paths = write_example(tree, "A method")
    assert {Path(p).parent.name for p in paths} == {"lab_colors"}
    assert json.loads(run("-c", METHOD)) > 0.8
    command = ("-m", "vos_ros.cli.main", "replay", str(walk(tmp_path / "walk", 2)), "out.mcap")
    write_example(tree, "A data set")
    setting = "segmentation.lab_colors.color_bins=32"
    run(*command, "--method", "lab_colors", "--set", setting)
