"""A folder as a bag, read by a reader that is not ours and by ours."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from vos_ros.cli.main import main
from vos_ros.datasets.source import open_recording
from vos_ros.sources.bag import BagSource
from vos_ros.types import Frame, MapUpdate


@pytest.mark.parametrize("compressed", [False, True])
def test_nothing_is_lost(world: Path, tmp_path: Path, compressed: bool) -> None:
    out = tmp_path / "new" / "run.mcap"
    options = ["--compressed"] if compressed else []
    assert (
        main(["convert", str(world), str(out), "--json", str(tmp_path / "c.json"), *options]) == 0
    )
    figures = json.loads((tmp_path / "c.json").read_text())
    assert figures == {
        "frames": 6,
        "frames_with_pose": 6,
        "map_objects": 2,
        "size_mb": figures["size_mb"],
    }
    for a, b in zip(open_recording(world), BagSource(out), strict=True):
        if isinstance(a, MapUpdate):
            assert isinstance(b, MapUpdate) and all(
                (x.points == y.points).all() for x, y in zip(a.objects, b.objects, strict=True)
            )
            assert (a.session_id, a.revision) == (b.session_id, b.revision)
        else:
            assert (
                isinstance(b, Frame)
                and (a.rgb == b.rgb).all()
                and a.depth is not None
                and b.depth is not None
            )
            np.testing.assert_allclose(a.depth, b.depth)
            np.testing.assert_allclose(a.T_map_camera, b.T_map_camera, atol=1e-12)
            assert (a.stamp_ns, a.index) == (
                b.stamp_ns,
                b.index,
            ) and b.frame_id == "camera_color_optical_frame"


def test_another_reader_decodes_it(world: Path, tmp_path: Path) -> None:
    assert (
        main(
            [
                "convert",
                str(world),
                str(tmp_path / "a.mcap"),
                "--start",
                "2",
                "--stop",
                "4",
                "--map-frame",
                "world",
            ]
        )
        == 0
    )
    with open(tmp_path / "a.mcap", "rb") as f:
        got = [
            (c.topic, m)
            for _, c, _, m in make_reader(
                f, decoder_factories=[DecoderFactory()]
            ).iter_decoded_messages()
        ]
    topics = [t for t, _ in got]
    assert (
        topics[0] == "/map_objects"
        and topics.count("/tf")
        == topics.count("/pose")
        == topics.count("/camera/depth/image_raw")
        == 2
    )
    objects = got[0][1]
    assert objects.header.frame_id == objects.points.header.frame_id == "world"
    assert [o.point_count for o in objects.objects] == [3600, 3600] and objects.points.width == 7200
    transform = next(m for t, m in got if t == "/tf").transforms[0]
    assert (transform.header.frame_id, transform.child_frame_id) == (
        "world",
        "camera_color_optical_frame",
    )
    assert transform.transform.translation.x == pytest.approx(0.02)
