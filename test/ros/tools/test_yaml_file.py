"""The parameter files in config/ and the config trees have the same parameters."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vos_ros.config import Config, changed, flat_keys, load, params
from vos_ros.ros.tools.yaml_file import FILES, text

FOLDER = Path(__file__).resolve().parents[3] / "config"


def values_of(name: str) -> dict[str, object]:
    """Every parameter that a file sets, by its dotted key."""
    return flat_keys(yaml.safe_load((FOLDER / name).read_text())["/**"]["ros__parameters"])


@pytest.mark.parametrize("name", FILES)
def test_the_file_is_the_one_that_the_tree_gives(name: str) -> None:
    written = (FOLDER / name).read_text(encoding="utf-8")
    assert written == text(FILES[name]), "run: python -m vos_ros.ros.tools.yaml_file config"
    assert max(map(len, written.splitlines())) <= 100


@pytest.mark.parametrize("name", [n for n, f in FILES.items() if not f.only_basic])
def test_the_file_sets_every_parameter_of_its_tree_to_its_default(name: str) -> None:
    tree = FILES[name].tree
    assert set(values_of(name)) == {p.key for p in params(tree)}
    assert changed(tree(), values_of(name)) == tree()


def test_the_file_to_start_from_sets_the_basic_parameters_alone() -> None:
    given = values_of("vos_ros.yaml")
    assert set(given) == {p.key for p in params(Config) if p.basic}
    assert 8 <= len(given) <= 12
    assert load(FOLDER / "vos_ros.yaml") == Config()


def test_a_changed_value_in_a_copy_reaches_the_tree(tmp_path: Path) -> None:
    copy = tmp_path / "mine.yaml"
    original = (FOLDER / "vos_ros_advanced.yaml").read_text()
    copy.write_text(original.replace("lost_s: 1.0", "lost_s: 4.5"))
    assert load(copy) == changed(Config(), {"tracking.lost_s": 4.5})


def test_help_unit_and_bounds_are_above_a_parameter() -> None:
    lines = (FOLDER / "vos_ros_advanced.yaml").read_text().splitlines()
    at = lines.index("      sync_slop_s: 0.02")
    above = []
    while lines[at - 1].lstrip().startswith("#"):
        at -= 1
        above.insert(0, lines[at].lstrip(" #"))
    help_text = (
        "images, depth and camera_info whose stamps differ by less belong together [s] (0..1)"
    )
    assert " ".join(above) == help_text
