"""The configuration of a run: read, checked, written back."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from vos_ros.config import ConfigError
from vos_ros.datasets.synthetic import SyntheticOptions
from vos_ros.training.config import (
    SourceConfig,
    StageConfig,
    TrainConfig,
    build,
    dump,
    load,
    rate_factor,
)

ROOT = Path(__file__).resolve().parents[2]
TREE = {
    "task": "lwl",
    "data": {
        "a": {"root": "x", "only": ["s", "t"]},
        "b": {"kind": "davis"},
        "c": {"kind": "synthetic", "worlds": 3},
    },
    "stages": {
        "one": {"steps": 10, "mix": {"a": 1}, "rates": {"decoder": 1.0e-3}, "milestones": [4, 8]},
        "two": {"steps": 5, "mix": {"a": 0.5, "b": 0.5}, "clip": {"augment": {"flip": 0.25}}},
    },
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(TREE))
    return path


def test_read_and_written_back(file: Path, tmp_path: Path) -> None:
    config = load(file)
    assert (
        config.name == "mine"
        and config.data["a"].only == ("s", "t")
        and config.data["b"].kind == "davis"
    )
    assert config.stages["two"].clip.augment.flip == 0.25 and config.stages["one"].mix == {"a": 1.0}
    assert list(config.stages) == ["one", "two"] and config.steps == 15
    assert config.data["c"].options == SyntheticOptions(worlds=3)
    (tmp_path / "again.yaml").write_text(dump(config))
    assert load(tmp_path / "again.yaml") == config


def test_values_laid_over(file: Path) -> None:
    config = load(
        file,
        {
            "stages.one.steps": 3,
            "data.b.root": "elsewhere",
            "stages.two.clip.augment.scale": 1,
            "options.new": "x",
        },
    )
    assert config.stages["one"].steps == 3 and config.data["b"].root == "elsewhere"
    assert config.stages["two"].clip.augment.scale == 1.0 and config.options == {"new": "x"}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"sed": 1}, "unknown key sed: did you mean 'seed'"),
        ({"stages.one.step": 1}, r"unknown key stages\.one\.step: did you mean 'steps'"),
        ({"stages.three.steps": 1}, "no 'three' in stages, which has one, two"),
        ({"stages.one.batch": "many"}, r"stages\.one\.batch: got 'many' \(str\), wanted int"),
        ({"stages.one.clip.width": 8}, r"stages\.one\.clip\.width: got 8 px, wanted 33\.\.4097"),
        ({"stages.one.milestones": 4}, r"stages\.one\.milestones: got 4, wanted a list"),
        ({"stages.one.rates.decoder": "x"}, r"stages\.one\.rates\.decoder: got 'x'"),
        ({"stages.one.mix.d": 1.0}, r"stages\.one\.mix: no source d; data has a, b, c"),
        ({"stages.one.mix": {"a": 0.0}}, "one of them > 0"),
        (
            {"data.a.kind": "imagenet"},
            r"data\.a\.kind: got 'imagenet', wanted one of coco_panoptic, davis",
        ),
        ({"data.b.worlds": 2}, r"unknown key data\.b\.worlds: "),
        ({"data.c.worlds": 0}, r"data\.c\.worlds: got 0, wanted 1\.\.10000"),
        ({"data.c.world": 3}, r"data\.c\.world: did you mean 'worlds'"),
        ({"seed.x": 1}, "has nothing below it"),
        ({"stages": {}}, "stages: none; wanted at least one"),
        ({"stages": 3}, "stages: got 3, wanted a mapping"),
    ],
)
def test_wrong_at_the_door(file: Path, values: dict, says: str) -> None:
    if next(iter(values)) == "seed.x":
        values = {"seed": 1, **values}
    with pytest.raises(ConfigError, match=says):
        load(file, values)


def test_files_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load(tmp_path / "missing.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="got a list at the top"):
        load(tmp_path / "list.yaml")


def test_place_in_the_run() -> None:
    config = build(
        TrainConfig,
        {**TREE, "stages": {"a": {"steps": 3}, "b": {"steps": 0}, "c": {"steps": 2}}, "data": {}}
        | {
            "stages": {
                n: {"steps": s, "mix": {"x": 1.0}} for n, s in (("a", 3), ("b", 0), ("c", 2))
            },
            "data": {"x": {}},
        },
    )
    assert [config.at(i) for i in range(6)] == [(0, 0), (0, 1), (0, 2), (2, 0), (2, 1), (2, 2)]


def test_rates_over_a_stage() -> None:
    steps = StageConfig(steps=100, milestones=(40, 80), gamma=0.2, warmup=10)
    assert [rate_factor(steps, s) for s in (0, 4, 9, 39, 40, 99)] == pytest.approx(
        [0.1, 0.5, 1, 1, 0.2, 0.04]
    )
    cosine = StageConfig(steps=100, schedule="cosine", gamma=0.1)
    assert [rate_factor(cosine, s) for s in (0, 50, 100)] == pytest.approx([1, 0.55, 0.1])
    falling = [rate_factor(cosine, s) for s in range(101)]
    assert falling == sorted(falling, reverse=True)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "config" / "train").glob("*.yaml")), ids=lambda p: p.stem
)
def test_the_files_that_come_along(path: Path) -> None:
    """Each is valid, names only what there is, and trains what its task has."""
    config = load(path)
    assert config.name == path.stem
    assert not Path(config.data_root).is_absolute()
    for held_out in (config.data[n] for n in config.validation.mix):
        for stage in config.stages.values():
            assert all(share_nothing(held_out, config.data[n]) for n in stage.mix)


def share_nothing(held_out: SourceConfig, source: SourceConfig) -> bool:
    """Tell whether no named data set or sequence is both held out and trained on."""
    same = set(held_out.only) & set(source.only or held_out.only) - set(source.exclude)
    return (
        held_out.root != source.root
        or not same
        or (held_out.only == source.only and source.part == f"!{held_out.part}")
    )
