from __future__ import annotations

import dataclasses
import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from vos_ros.config import (
    RENAMED,
    Config,
    ConfigError,
    OptionGroup,
    Param,
    changed,
    check,
    dump,
    flat_keys,
    flatten,
    from_flat,
    load,
    nested,
    option,
    option_group,
    params,
    register_options,
)
from vos_ros.config import plugins as plugin_registry
from vos_ros.reference_mapper.config import MapperConfig
from vos_ros.rgbd_odometry.config import SlamConfig

PARAMS = {p.key: p for p in params(Config)}


def values(p: Param) -> st.SearchStrategy[object]:
    """Every value that a parameter may have."""
    if p.choices:
        return st.sampled_from(p.choices)
    if p.type is bool:
        return st.booleans()
    if p.type is int:
        return st.integers(round(p.low or 0), round(p.high or 1000))
    if p.type is float:
        return st.floats(p.low or 0.0, p.high if p.high is not None else 1e6)
    return st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), max_size=12)


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "vos_ros.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_every_parameter_is_described_and_its_default_is_legal() -> None:
    assert len(PARAMS) > 30
    for p in PARAMS.values():
        assert p.help and p.type in (bool, int, float, str), p.key
        assert check(p, p.default) == p.default
        if p.type in (int, float):
            assert p.low is not None and p.high is not None, f"{p.key} has no bounds"
        if p.key.endswith(("_s", "_m", "_px", "_deg")):
            assert p.unit == p.key.rsplit("_", 1)[1], f"{p.key} is in {p.unit!r}"


def test_the_tree_and_its_flat_form_agree() -> None:
    assert list(flatten(Config())) == list(PARAMS)
    assert from_flat(flatten(Config())) == Config()
    assert from_flat({}) == Config()


@settings(deadline=None)
@given(st.fixed_dictionaries({k: values(p) for k, p in PARAMS.items()}))
def test_any_legal_configuration_survives_dump_and_load(flat: dict[str, object]) -> None:
    config = from_flat(flat)
    assert flatten(config) == flat
    assert from_flat(flat_keys(yaml.safe_load(dump(config)))) == config


def test_a_file_changes_what_it_names_and_leaves_the_rest(tmp_path: Path) -> None:
    path = write(tmp_path, "tracking:\n  confirm_s: 0.5\nsegmentation: {lwl: {memory_size: 4}}\n")
    base = from_flat({"tracking.lost_s": 7.0, "tracking.confirm_s": 9.0})
    config = load(path, base)
    assert (
        config.tracking.confirm_s,
        config.tracking.lost_s,
        config.segmentation.methods["lwl"].memory_size,
    ) == (0.5, 7.0, 4)
    assert load(path).tracking.lost_s == Config().tracking.lost_s
    assert load(write(tmp_path, dump(config))) == config


@pytest.mark.parametrize("name", ["vos_ros", "/**", "/front/vos_ros"])
def test_a_ros_parameter_file_serves_too(tmp_path: Path, name: str) -> None:
    text = (
        f"{name}:\n  ros__parameters:\n    use_sim_time: true\n"
        "    tracking:\n      confirm_s: 2\n    tracking.min_px: 20\n"
    )
    config = load(write(tmp_path, text))
    assert (config.tracking.confirm_s, config.tracking.min_px) == (2.0, 20)


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "{}", "/**:\n  ros__parameters:\n", "/**:\n  ros__parameters: {}\n"]
)
def test_a_file_that_says_nothing_is_the_defaults(tmp_path: Path, text: str) -> None:
    assert load(write(tmp_path, text)) == Config()


def test_an_unknown_key_is_told_with_the_nearest_one(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"'tracking\.confirm'.*did you mean 'tracking\.confirm_s'"
    ):
        from_flat({"tracking.confirm": 1.0})
    with pytest.raises(
        ConfigError,
        match=r"vos_ros\.yaml: unknown parameter 'segmentation\.methd'.*'segmentation\.method'",
    ):
        load(write(tmp_path, "segmentation:\n  methd: lwl\n"))
    with pytest.raises(ConfigError, match=r"known are segmentation\.method"):
        from_flat({"zzzzzzzzzzzzzzz": 1})


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("tracking.confirm_s", -0.1, r"got -0\.1 s, wanted 0\.\.60"),
        ("tracking.confirm_s", float("nan"), "got nan"),
        ("tracking.confirm_s", float("inf"), "got inf"),
        ("segmentation.lwl.memory_size", 0, r"wanted 1\.\.256"),
        ("segmentation.lwl.memory_size", 4.0, "wanted int"),
        ("segmentation.lwl.memory_size", True, "wanted int"),
        ("tracking.confirm_s", True, "wanted float"),
        ("tracking.confirm_s", "1.0", "wanted float"),
        ("tracking.confirm_s", None, "wanted float"),
        ("node.use_depth", 1, "wanted bool"),
        ("node.use_depth", "yes", "wanted bool"),
        ("node.map_frame", 3, "wanted str"),
        ("node.pose_source", "gps", "wanted one of tf, pose"),
        ("segmentation.features.name", "resnet", "wanted one of classical, mobilenet_v2"),
        ("tracking.confirm_s", [1.0], "wanted float"),
    ],
)
def test_wrong_values_are_told_with_the_key_and_what_was_wanted(
    key: str, value: object, words: str
) -> None:
    with pytest.raises(ConfigError, match=words) as e:
        from_flat({key: value})
    assert key in str(e.value) and PARAMS[key].help in str(e.value)


def test_bounds_belong_to_what_is_allowed() -> None:
    for key, p in PARAMS.items():
        if p.low is not None and p.high is not None:
            for edge in (p.low, p.high):
                assert flatten(from_flat({key: p.type(edge)}))[key] == edge


def test_a_whole_number_serves_for_a_float() -> None:
    value = from_flat({"tracking.confirm_s": 2}).tracking.confirm_s
    assert value == 2.0 and type(value) is float


def test_the_bare_word_off_is_the_choice_off(tmp_path: Path) -> None:
    assert load(write(tmp_path, "pose:\n  correction: off\n")).pose.correction == "off"
    with pytest.raises(ConfigError, match="wanted"):
        load(write(tmp_path, "pose:\n  correction: on\n"))


@pytest.mark.parametrize(
    "text",
    ["[1, 2]", "text", "a: [", "tracking: 3\n", "1: 2\n", "tracking: {confirm_s: {deep: 1}}"],
)
def test_files_that_cannot_be_used(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError, match=r"vos_ros\.yaml"):
        load(write(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        load(tmp_path / "missing.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path)
    (tmp_path / "binary.yaml").write_bytes(b"a: \xff\xfe")
    with pytest.raises(ConfigError, match=r"binary\.yaml"):
        load(tmp_path / "binary.yaml")


def test_a_configuration_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().tracking.confirm_s = 1.0  # type: ignore[misc]
    assert Config() == Config() and hash(Config()) == hash(Config())


def test_the_shipped_files_are_legal() -> None:
    folder = Path(__file__).resolve().parents[1] / "config"
    of_other_trees = {
        folder / "object_mapper.yaml",
        folder / "rgbd_slam.yaml",
    }  # see test/ros/test_yaml_file.py
    files = sorted(set(folder.glob("*.yaml")) - of_other_trees)
    assert files, "config/ has no YAML"
    for path in files:
        load(path)


def test_a_section_with_nothing_in_it_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "vos_ros.yaml"
    path.write_text("tracking:\nassociation:\n  current_match_bonus: 0.1\n")
    assert load(path) == from_flat({"association.current_match_bonus": 0.1})


TREES = (Config, MapperConfig, SlamConfig)
"""The trees of the three nodes; a key may not be in two of them."""


_MAY_EXCEED_ONE = {"model.reach_share", "rules.changed_share"}
"""Shares of something that the other length or count may exceed."""


def test_scores_and_shares_are_at_most_one() -> None:
    word = re.compile(r"(score|share|ratio|iou|visible|overlap)(_|$)")
    found = {p.key: p for t in TREES for p in params(t) if word.search(p.key.rsplit(".")[-1])}
    assert len(found) >= 15
    for key in found.keys() - _MAY_EXCEED_ONE:
        low, high = found[key].low, found[key].high
        assert low is not None and high is not None and 0 <= low < high == 1, key


@pytest.mark.parametrize("old", RENAMED)
def test_a_former_name_is_refused_with_the_present_one(old: str) -> None:
    (tree,) = [t for t in TREES if RENAMED[old] in {p.key for p in params(t)}]
    assert old not in {p.key for p in params(tree)}
    default = next(p.default for p in params(tree) if p.key == RENAMED[old])
    with pytest.raises(ConfigError, match=f"{old}.*renamed.*{RENAMED[old]}"):
        changed(tree(), {old: default})


@dataclasses.dataclass(frozen=True)
class ColourOptions:
    """Options of a plugin."""

    bins: int = option(8, "bins per channel", low=1, high=64)
    space: str = option("rgb", "colour space", choices=("rgb", "lab"))


@dataclasses.dataclass(frozen=True)
class ShapeOptions:
    """Options of another plugin."""

    sides: int = option(4, "sides", low=3, high=9)


@dataclasses.dataclass(frozen=True)
class Section:
    """A section that plugins add to."""

    inlined: OptionGroup = option_group("plugins_of_a_test", inline=True)
    named: OptionGroup = option_group("plugins_of_a_test")
    rate: float = option(1.0, "rate", low=0.0, high=2.0)


@dataclasses.dataclass(frozen=True)
class Whole:
    """A tree with such a section."""

    part: Section = dataclasses.field(default_factory=Section)


@pytest.fixture
def plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package whose two modules register options when they are imported."""
    folder = tmp_path / "plugins_of_a_test"
    folder.mkdir()
    (folder / "__init__.py").touch()
    for module in ("shape", "colour"):
        (folder / f"{module}.py").write_text(
            f"import sys\nregister, options = sys.modules['plugins_of_a_test'].of['{module}']\n"
            f"register('plugins_of_a_test', '{module}', options)\n"
        )
    monkeypatch.syspath_prepend(str(tmp_path))
    package = importlib.import_module("plugins_of_a_test")
    package.of = {  # type: ignore[attr-defined]
        "shape": (register_options, ShapeOptions),
        "colour": (register_options, ColourOptions),
    }
    yield
    plugin_registry.forget("plugins_of_a_test")
    for name in [n for n in sys.modules if n.startswith("plugins_of_a_test")]:
        del sys.modules[name]


@pytest.mark.usefixtures("plugins")
def test_plugins_bring_their_options_to_the_tree() -> None:
    assert [p.key for p in params(Whole)] == [
        "part.colour.bins",
        "part.colour.space",
        "part.shape.sides",
        "part.named.colour.bins",
        "part.named.colour.space",
        "part.named.shape.sides",
        "part.rate",
    ]
    tree = changed(Whole(), {"part.colour.bins": 5, "part.named.shape.sides": 3})
    assert tree.part.inlined["colour"] == ColourOptions(bins=5)
    assert tree.part.inlined.of(ShapeOptions) == ShapeOptions()
    assert tree.part.named["shape"] == ShapeOptions(sides=3)
    assert tree != Whole() and changed(tree, flatten(Whole())) == changed(Whole(), {})
    assert from_tree(nested(tree)) == tree and hash(tree) == hash(from_tree(nested(tree)))
    assert list(tree.part.named) == ["colour", "shape"]


def from_tree(tree: dict[str, object]) -> Whole:
    return changed(Whole(), flat_keys(tree))


@pytest.mark.usefixtures("plugins")
def test_wrong_options_of_a_plugin_are_named() -> None:
    with pytest.raises(ConfigError, match=r"part\.colour\.bins: got 0, wanted 1\.\.64"):
        changed(Whole(), {"part.colour.bins": 0})
    with pytest.raises(ConfigError, match=r"did you mean 'part\.shape\.sides'"):
        changed(Whole(), {"part.shape.side": 3})
    with pytest.raises(KeyError, match="Section is not registered"):
        Whole().part.named.of(Section)
    with pytest.raises(ValueError, match="'shape' are registered twice"):
        register_options("plugins_of_a_test", "shape", ShapeOptions)
