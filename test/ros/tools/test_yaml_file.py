"""The parameter files in config/ and the config trees say the same."""

from __future__ import annotations

from pathlib import Path

import yaml

from vos_ros import config
from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.rgbd_odometry.config import SlamConfig
from vos_ros.ros.tools import yaml_file

FILE = Path(__file__).resolve().parents[3] / "config/vos_ros.yaml"
MAPPER_FILE = FILE.with_name("object_mapper.yaml")
SLAM_FILE = FILE.with_name("rgbd_slam.yaml")


def test_the_file_is_what_the_tree_says():
    assert FILE.read_text() == yaml_file.text(), (
        "run: python -m vos_ros.ros.tools.yaml_file > config/vos_ros.yaml"
    )


def test_the_file_gives_the_defaults_and_names_every_parameter():
    assert config.load(FILE) == config.Config()
    tree = yaml.safe_load(FILE.read_text())
    assert set(config.flat_keys(tree["/**"]["ros__parameters"])) == {p.key for p in config.params()}


def test_every_remark_has_the_help_unit_and_bounds():
    text = FILE.read_text()
    for param in config.params():
        assert param.help in text
    assert (
        "# images, depth and camera_info whose stamps differ by less belong together [s] (0..1)"
        in text
    )


def test_the_mappers_file_is_what_its_tree_says():
    assert MAPPER_FILE.read_text() == yaml_file.text(MapperConfig), (
        "run: python -m vos_ros.ros.tools.yaml_file mapper"
    )
    values = config.flat_keys(yaml.safe_load(MAPPER_FILE.read_text())["/**"]["ros__parameters"])
    assert config.changed(MapperConfig(), values) == MapperConfig()
    assert set(values) == {p.key for p in config.params(MapperConfig)}


def test_the_trackers_file_is_what_its_tree_says():
    assert SLAM_FILE.read_text() == yaml_file.text(SlamConfig), (
        "run: python -m vos_ros.ros.tools.yaml_file slam"
    )
    values = config.flat_keys(yaml.safe_load(SLAM_FILE.read_text())["/**"]["ros__parameters"])
    assert config.changed(SlamConfig(), values) == SlamConfig()
    assert set(values) == {p.key for p in config.params(SlamConfig)}
