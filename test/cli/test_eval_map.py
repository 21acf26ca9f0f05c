"""``vos-ros eval map`` on a saved map."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.saved_maps import saved_map

from vos_ros.cli.main import main
from vos_ros.datasets.source import open_recording
from vos_ros.reference_mapper.store import save


@pytest.fixture
def saved(world: Path, tmp_path: Path) -> Path:
    """The world's second square as object 8, a piece of it as 9, and 10 where nothing is."""
    update = open_recording(world).map_update()
    assert update is not None
    points = update.objects[1].points
    objects = {
        8: points,
        9: points[points[:, 0] < points[:, 0].min() + 0.05],
        10: points + np.float32(3),
    }
    save(saved_map(objects), tmp_path / "map.json")
    return tmp_path / "map.json"


def test_a_saved_map_beside_a_folder_and_a_bag(
    world: Path, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = ["--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "a.png")]
    assert main(["eval", "map", str(saved), "--truth", str(world), *outputs]) == 0
    table = capsys.readouterr().out
    assert "2 square_2" in table and "8 +9" in table and "10 at 3." in table
    figures = json.loads((tmp_path / "a.json").read_text())
    assert (figures["found"], figures["found_once"], figures["duplicates"], figures["others"]) == (
        1,
        0,
        1,
        1,
    )
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert main(["convert", str(world), str(tmp_path / "w.mcap")]) == 0
    truth, figures_file = str(tmp_path / "w.mcap"), str(tmp_path / "b.json")
    assert main(["eval", "map", str(saved), "--truth", truth, "--json", figures_file]) == 0
    assert json.loads((tmp_path / "b.json").read_text()) == figures


def test_what_it_refuses(
    world: Path, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["eval", "map", str(saved), "--truth", str(tmp_path / "nowhere")]) == 1
    saved.write_text(saved.read_text().replace('"frame_id": "map"', '"frame_id": "odom"'))
    assert main(["eval", "map", str(saved), "--truth", str(world)]) == 1
    assert "in frame 'odom'" in capsys.readouterr().err
