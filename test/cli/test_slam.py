"""A recording's poses are found again from its images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vos_ros.cli.main import main
from vos_ros.sources.bag import BagSource
from vos_ros.sources.bag_topics import BagTopics
from vos_ros.types import Frame, MapUpdate


@pytest.fixture
def recording(world: Path, tmp_path: Path) -> Path:
    """Six frames as a bag."""
    pytest.importorskip("open3d")
    assert main(["convert", str(world), str(tmp_path / "run.mcap")]) == 0
    return tmp_path / "run.mcap"


def test_a_bag_gets_tracked_poses_and_keeps_all_else(recording: Path, tmp_path: Path) -> None:
    out, figures = tmp_path / "tracked.mcap", tmp_path / "f.json"
    assert (
        main(
            [
                "slam",
                str(recording),
                "--out",
                str(out),
                "--json",
                str(figures),
                "--plot",
                str(tmp_path / "p.png"),
            ]
        )
        == 0
    )
    said = json.loads(figures.read_text())
    assert (
        said["frames"] == said["frames_with_truth"] == 6
        and said["frames_lost"] == said["new_starts"] == 0
    )
    assert (
        said["ate_m"] < 0.01
        and said["max_m"] < 0.02
        and said["rotation_max_deg"] < 1.0
        and 0 < said["nees"] < 12
        and said["fps"] > 0
    )
    assert (tmp_path / "p.png").stat().st_size > 10000
    covariances = []
    for a, b in zip(BagSource(recording), BagSource(out, BagTopics(pose="/pose")), strict=True):
        if isinstance(a, MapUpdate):
            assert (
                isinstance(b, MapUpdate)
                and a.session_id == b.session_id
                and len(a.objects) == len(b.objects) > 0
            )
            continue
        assert (
            isinstance(b, Frame)
            and a.stamp_ns == b.stamp_ns
            and (a.rgb == b.rgb).all()
            and a.depth is not None
        )
        np.testing.assert_allclose(a.depth, b.depth)
        assert b.T_map_camera is not None and b.pose_cov is not None
        np.testing.assert_allclose(b.T_map_camera, a.T_map_camera, atol=0.03)
        covariances.append(np.trace(b.pose_cov))
    assert len(covariances) == 6 and covariances[-1] > covariances[0]


def test_it_may_start_at_the_origin_and_write_nothing(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(
            [
                "slam",
                str(recording),
                "--initial-pose",
                "identity",
                "--start",
                "2",
                "--json",
                str(tmp_path / "f.json"),
            ]
        )
        == 0
    )
    said = json.loads((tmp_path / "f.json").read_text())
    assert said["frames"] == 4 and 0.015 < said["ate_m"] < 0.025, "it began 2 cm from the origin"
    assert "vos-ros slam: reading" in capsys.readouterr().err


def test_what_cannot_be_done_is_said(
    recording: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["slam", str(recording), "--out", str(recording)]) == 1
    assert "same file" in capsys.readouterr().err
    assert main(["slam", str(recording), "--set", "follow.keyframe=3"]) == 1
    assert "did you mean" in capsys.readouterr().err
    assert main(["slam", str(recording), "--start", "90"]) == 1
    assert "no frame to track" in capsys.readouterr().err
