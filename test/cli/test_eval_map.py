"""``vos-ros eval map`` on a saved map."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from vos_ros.cli.main import main
from vos_ros.datasets.source import open_recording
from vos_ros.reference_mapper.model import ObjectModel
from vos_ros.reference_mapper.object_mapper import SavedMap
from vos_ros.reference_mapper.store import save
from vos_ros.reference_mapper.voxels import grid_of


@pytest.fixture
def saved(world: Path, tmp_path: Path) -> Path:
    """The world's second square as object 8, a piece of it as 9, and 10 where nothing is."""
    update = open_recording(world).map_update()
    assert update is not None
    points = update.objects[1].points
    some = {
        8: points,
        9: points[points[:, 0] < points[:, 0].min() + 0.05],
        10: points + np.float32(3),
    }
    models = []
    for i, p in some.items():
        ones = np.ones(len(p))
        models.append(
            ObjectModel(
                i,
                grid_of(
                    0.01,
                    np.zeros(3),
                    p,
                    ones,
                    (9 * ones).astype(np.int32),
                    (0 * ones).astype(np.int32),
                ),
                1,
                2,
                9,
                {},
                2.0,
            )
        )
    save(SavedMap("s", 3, 2, "map", 11, {}, tuple(models)), tmp_path / "map.json")
    return tmp_path / "map.json"


def test_a_saved_map_beside_a_folder_and_a_bag(
    world: Path, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    outputs = ["--json", str(tmp_path / "a.json"), "--plot", str(tmp_path / "a.png")]
    assert main(["eval", "map", str(saved), "--truth", str(world), *outputs]) == 0
    said = capsys.readouterr().out
    assert "2 square_2" in said and "8 +9" in said and "10 at 3." in said
    figures = json.loads((tmp_path / "a.json").read_text())
    assert (figures["found"], figures["found_once"], figures["duplicates"], figures["others"]) == (
        1,
        0,
        1,
        1,
    )
    assert (tmp_path / "a.png").stat().st_size > 1000
    assert main(["convert", str(world), str(tmp_path / "w.mcap")]) == 0
    assert (
        main(
            [
                "eval",
                "map",
                str(saved),
                "--truth",
                str(tmp_path / "w.mcap"),
                "--json",
                str(tmp_path / "b.json"),
            ]
        )
        == 0
    )
    assert json.loads((tmp_path / "b.json").read_text()) == figures


def test_what_it_refuses(
    world: Path, saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["eval", "map", str(saved), "--truth", str(tmp_path / "nowhere")]) == 1
    saved.write_text(saved.read_text().replace('"frame_id": "map"', '"frame_id": "odom"'))
    assert main(["eval", "map", str(saved), "--truth", str(world)]) == 1
    assert "in frame 'odom'" in capsys.readouterr().err
