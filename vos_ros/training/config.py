"""The configuration of a training run: frozen dataclasses read from YAML.

Unknown keys, wrong types and values out of bounds raise ConfigError. Sources and stages have names,
so that ``--set stages.video.steps=500`` reaches any value.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

import yaml

from vos_ros.config import ConfigError, Param, check, option
from vos_ros.datasets.registry import data_sets

T = TypeVar("T")


def _mapping() -> Any:
    return field(default_factory=dict)


@dataclass(frozen=True)
class SourceConfig:
    """Name where clips come from. In a file, the data set's own options stand next to these."""

    kind: str = option("packed", "data set, by the name that its file registers")
    """Name of the data set."""
    root: str = option("", "folder, relative to data_root")
    """Root of its files."""
    split: str = option(
        "",
        "list or folder of the split, as the data set names it, e.g. 2017/train; empty = its"
        " training split",
    )
    """Part of the data set."""
    only: tuple[str, ...] = ()
    """Data sets, sequences or data set/sequence to take; empty = all."""
    exclude: tuple[str, ...] = ()
    """Those to leave out."""
    part: str = option(
        "",
        "k/n: every n-th of these sequences, from number k on (0 <= k < n); !k/n: all others; empty"
        " = all",
    )
    """Share of the sequences, so that two sources divide a data set between them."""
    licence: str = option(
        "", "licence of the data, for the card; empty = as the files state it, if they do"
    )
    """Licence of the data."""
    options: Any = None
    """Values of the data set's own options class; None = its defaults."""


@dataclass(frozen=True)
class AugmentConfig:
    """Configure how the pictures of a clip are changed, all its frames alike."""

    flip: float = option(0.5, "probability that a clip is mirrored", low=0.0, high=1.0)
    flip_apart: bool = option(
        False,
        "the first frame is mirrored independently of the others (the reference of paper 003)",
    )
    reverse: float = option(0.0, "probability that a clip runs backwards", low=0.0, high=1.0)
    rotation_deg: float = option(
        15.0, "each frame is turned by up to this", unit="deg", low=0.0, high=180.0
    )
    scale: float = option(0.2, "each frame is scaled by exp(U(-x, x))", low=0.0, high=2.0)
    brightness: float = option(0.2, "each frame is multiplied by U(1-x, 1+x)", low=0.0, high=1.0)
    color: float = option(
        0.0,
        "strength of the clip's change of contrast, gamma, saturation and hue",
        low=0.0,
        high=1.0,
    )
    grayscale: float = option(0.05, "probability that a clip is grey", low=0.0, high=1.0)
    degrade: float = option(
        0.0,
        "probability that a clip is blurred, noisy, or compressed as JPEG (each with this)",
        low=0.0,
        high=1.0,
    )


@dataclass(frozen=True)
class StillsConfig:
    """Configure the motion, and the other objects, that turn a still image into a clip.

    Lengths are shares of the object's size.
    """

    plain: float = option(
        0.0,
        "probability that the image stays as it is: the frames are windows of it, as of a video"
        " that stands still, and what follows doesn't apply",
        low=0.0,
        high=1.0,
    )
    shift: float = option(
        0.25, "an object moves by about this share of its size per frame", low=0.0, high=5.0
    )
    stay: float = option(
        0.8,
        "probability that an object turns round at the frame's edge in place of leaving",
        low=0.0,
        high=1.0,
    )
    turn_deg: float = option(8.0, "... turns by this", unit="deg", low=0.0, high=180.0)
    grow: float = option(0.08, "... grows or shrinks by exp of this", low=0.0, high=1.0)
    bend: float = option(
        0.035, "... is bent by a thin-plate spline by this share of its size", low=0.0, high=1.0
    )
    background: float = option(
        0.3, "motion of the background, as a share of an object's", low=0.0, high=2.0
    )
    distractors: float = option(
        0.5,
        "probability of each of up to three objects of other images pasted in",
        low=0.0,
        high=1.0,
    )
    twin: float = option(
        0.1,
        "probability that a pasted object is a recoloured copy of the object itself",
        low=0.0,
        high=1.0,
    )
    occluder: float = option(0.25, "probability that something passes in front", low=0.0, high=1.0)
    new_background: float = option(
        0.25, "probability that the objects stand before another image", low=0.0, high=1.0
    )
    motion_blur: float = option(
        0.3, "probability that what moves is smeared along its way", low=0.0, high=1.0
    )


@dataclass(frozen=True)
class ClipConfig:
    """Configure a clip (paper 003, sec. 3.6). Sizes in px; networks may want 32k+1."""

    width: int = option(257, "of the frames", unit="px", low=33, high=4097)
    height: int = option(257, "of the frames", unit="px", low=33, high=4097)
    frames: int = option(4, "Q: the first frame teaches, the others are predicted", low=2, high=64)
    gap: int = option(
        100,
        "Q': frames of the sequence at its own rate from which the others are drawn",
        unit="frames",
        low=1,
        high=10000,
    )
    objects: int = option(1, "most objects followed in a clip", low=1, high=32)
    min_px: int = option(
        64,
        "an object is followed where the first frame shows at least this much of it",
        unit="px",
        low=1,
        high=100000,
    )
    area_factor: float = option(
        5.0,
        "a frame shows this many times the object's size (search_area_factor)",
        low=1.0,
        high=100.0,
    )
    inside: str = option(
        "all",
        "a cut larger than the image is made smaller until it fits both ways (all) or one way"
        " (major)",
        choices=("all", "major"),
    )
    recenter: float = option(
        1.0,
        "probability that every frame of a video is cut around the object where it then is; else"
        " where it was in the first frame",
        low=0.0,
        high=1.0,
    )
    jitter_scale: float = option(
        0.25, "first frame: the cut's size varies by exp(N(0, x))", low=0.0, high=2.0
    )
    jitter_center: float = option(
        3.0, "first frame: its centre by +-x/2 of the object's size", low=0.0, high=20.0
    )
    jitter_scale_test: float = option(
        0.5, "the same for the frames to be predicted", low=0.0, high=2.0
    )
    jitter_center_test: float = option(
        4.5, "the same for the frames to be predicted", low=0.0, high=20.0
    )
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    stills: StillsConfig = field(default_factory=StillsConfig)


@dataclass(frozen=True)
class StageConfig:
    """Configure one part of the run, which has an optimiser of its own.

    ``mix`` gives the share of the clips of each source. ``rates`` gives the learning rate of groups
    of the task's parameters; groups without a rate are frozen.
    """

    steps: int = option(1000, "optimiser steps", low=0, high=10**9)
    batch: int = option(8, "clips per step, over all devices and accumulations", low=1, high=100000)
    accumulate: int = option(
        1, "parts in which a device works off its share of a step", low=1, high=1000
    )
    optimizer: str = option(
        "adam", "optimiser", choices=("adagrad", "adam", "adamw", "rmsprop", "sgd")
    )
    weight_decay: float = option(0.0, "of all but adam", low=0.0, high=1.0)
    clip_norm: float = option(0.0, "longest gradient; 0 = any", low=0.0, high=1e9)
    warmup: int = option(0, "steps over which the rates rise from zero", low=0, high=10**9)
    schedule: str = option(
        "steps",
        "how the rates fall: steps (x gamma at each milestone) or cosine (to gamma of what they"
        " were)",
        choices=("steps", "cosine"),
    )
    gamma: float = option(0.2, "see schedule", low=0.0, high=1.0)
    milestones: tuple[int, ...] = ()
    mix: Mapping[str, float] = _mapping()
    rates: Mapping[str, float] = _mapping()
    clip: ClipConfig = field(default_factory=ClipConfig)


@dataclass(frozen=True)
class ValidationConfig:
    """Configure the held-out clips, always the same, on which averaged weights are measured."""

    mix: Mapping[str, float] = _mapping()
    clips: int = option(16, "how many", low=0, high=100000)
    batch: int = option(4, "clips at once", low=1, high=1000)
    every: int = option(500, "steps between measurements", unit="steps", low=1, high=10**9)
    clip: ClipConfig = field(default_factory=ClipConfig)


@dataclass(frozen=True)
class TrainConfig:
    """Configure the whole run. ``options`` are the task's own, which it checks."""

    task: str = option("lwl", "what is trained")
    name: str = option("", "of the exported weights; empty = that of the configuration's file")
    seed: int = option(0, "of everything random", low=0, high=2**31)
    data_root: str = option("data", "folder that the sources' roots are relative to")
    workers: int = option(
        2,
        "processes that prepare clips, per device; 0 = the training process itself",
        low=0,
        high=256,
    )
    prefetch: int = option(4, "batches that each of them prepares ahead", low=1, high=64)
    precision: str = option(
        "32-true", "of the arithmetic", choices=("32-true", "16-mixed", "bf16-mixed")
    )
    ema: float = option(
        0.999,
        "decay of the averaged weights, which are exported; 0 = the last weights",
        low=0.0,
        high=0.999999,
    )
    checkpoint_every: int = option(
        500, "steps between checkpoints", unit="steps", low=1, high=10**9
    )
    keep: int = option(2, "checkpoints kept", low=1, high=1000)
    log_every: int = option(20, "steps between logged scalars", unit="steps", low=1, high=10**9)
    picture_every: int = option(
        500,
        "steps between logged pictures and drawings of the loss curve",
        unit="steps",
        low=1,
        high=10**9,
    )
    options: Mapping[str, Any] = _mapping()
    data: Mapping[str, SourceConfig] = _mapping()
    stages: Mapping[str, StageConfig] = _mapping()
    validation: ValidationConfig = field(default_factory=ValidationConfig)

    def __post_init__(self) -> None:
        if not self.stages:
            raise ConfigError(
                "stages: none; wanted at least one, e.g. stages: {stills: {steps: 1000, mix: {...},"
                " rates: {...}}}"
            )
        for where, mix in [
            *((f"stages.{n}.mix", s.mix) for n, s in self.stages.items()),
            ("validation.mix", self.validation.mix),
        ]:
            if unknown := sorted(set(mix) - set(self.data)):
                raise ConfigError(
                    f"{where}: no source {', '.join(unknown)}; data has"
                    f" {', '.join(self.data) or 'none'}"
                )
            if any(w < 0 for w in mix.values()) or (
                where.startswith("stages") and sum(mix.values()) <= 0
            ):
                raise ConfigError(
                    f"{where}: got {dict(mix)}, wanted shares >= 0 of the sources, one of them > 0"
                )

    @property
    def steps(self) -> int:
        """Number of steps of all stages together."""
        return sum(s.steps for s in self.stages.values())

    def at(self, step: int) -> tuple[int, int]:
        """Return the stage of a step of the run, and the step within it.

        After the last step that is one past the end of the last stage.
        """
        for index, stage in enumerate(self.stages.values()):
            if step < stage.steps:
                return index, step
            step -= stage.steps
        return len(self.stages) - 1, list(self.stages.values())[-1].steps + step


def build(cls: type[T], given: Mapping[str, Any], prefix: str = "") -> T:
    """Make a config class of nested mappings, with defaults where nothing is given.

    Args:
        cls: frozen dataclass of ``option``s, mappings, tuples and further such classes.
        given: values by name of the field.
        prefix: dotted path of the class in the file, with the trailing dot, for messages.

    Raises ConfigError: names the dotted key, what it got and what it wanted.
    """
    hints = get_type_hints(cls)
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    _refuse_unknown(given, fields, prefix)
    values = {}
    for name, f in fields.items():
        if name not in given or (given[name] is None and not f.metadata):
            continue
        if f.metadata:
            param = Param(prefix + name, hints[name], None, **f.metadata)  # type: ignore[arg-type]
            values[name] = check(param, given[name])
        else:
            values[name] = _compound(hints[name], given[name], prefix + name)
    return cls(**values)


def _refuse_unknown(given: Mapping[str, Any], known: Collection[str], prefix: str) -> None:
    for key in given:
        if key not in known:
            near = get_close_matches(str(key), known, 1)
            raise ConfigError(
                f"unknown key {prefix}{key}: "
                + (f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}")
            )


def build_source(given: Mapping[str, Any], prefix: str) -> SourceConfig:
    """Make a source; the keys of its data set's own options stand next to those of all.

    ``prefix`` is as for ``build``. Raises ConfigError: an unknown kind or key, a wrong value.
    """
    known = {d.name: d for d in data_sets(has_masks=True)}
    kind = given.get("kind", SourceConfig.kind)
    if kind not in known:
        raise ConfigError(f"{prefix}kind: got {kind!r}, wanted one of {', '.join(known)}")
    options = known[kind].options
    own = [f.name for f in dataclasses.fields(options)]
    common = [f.name for f in dataclasses.fields(SourceConfig) if f.name != "options"]
    _refuse_unknown(given, [*common, *own], prefix)
    return dataclasses.replace(
        build(SourceConfig, {k: v for k, v in given.items() if k in common}, prefix),
        options=build(options, {k: v for k, v in given.items() if k in own}, prefix),
    )


def _compound(hint: Any, value: Any, key: str) -> Any:
    """Make a value that isn't a leaf: a config class, a mapping or a tuple, as the hint says."""
    origin, args = get_origin(hint), get_args(hint)
    if origin is tuple:
        if isinstance(value, str) or not isinstance(value, Sequence):
            raise ConfigError(f"{key}: got {value!r}, wanted a list")
        return tuple(_leaf(args[0], v, f"{key}[{i}]") for i, v in enumerate(value))
    if not isinstance(value, Mapping):
        raise ConfigError(f"{key}: got {value!r}, wanted a mapping of names to values")
    if dataclasses.is_dataclass(hint):
        return build(hint, value, f"{key}.")  # type: ignore[arg-type]
    of = args[1]
    if of is SourceConfig:
        return {str(k): build_source(v or {}, f"{key}.{k}.") for k, v in value.items()}
    if dataclasses.is_dataclass(of):
        make: Any = build
        return {str(k): make(of, v or {}, f"{key}.{k}.") for k, v in value.items()}
    return {str(k): _leaf(of, v, f"{key}.{k}") for k, v in value.items()}


def _leaf(kind: Any, value: Any, key: str) -> Any:
    if kind is Any:
        return value
    return check(Param(key, kind, kind(), help="", unit="", low=None, high=None, choices=()), value)


def load(path: Path | str, values: Mapping[str, Any] | None = None) -> TrainConfig:
    """Read a run from YAML, with the dotted ``values`` laid over it.

    Raises ConfigError: what is wrong, and where.
    """
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeError, yaml.YAMLError) as e:
        raise ConfigError(f"cannot read the training configuration {path}: {e}") from e
    if not isinstance(tree, dict):
        raise ConfigError(
            f"{path}: got a {type(tree).__name__} at the top, wanted a mapping: task, data, stages,"
            " ..."
        )
    tree.setdefault("name", Path(path).stem)
    for key, value in (values or {}).items():
        _lay_over(tree, key, value)
    try:
        return build(TrainConfig, tree)
    except ConfigError as e:
        raise ConfigError(f"{path}: {e}") from e


def _lay_over(tree: dict[str, Any], key: str, value: Any) -> None:
    """Set a dotted key in nested dicts.

    Raises ConfigError: no such source or stage. Other keys are checked when the tree is read.
    """
    *path, name = key.split(".")
    node = tree
    for depth, part in enumerate(path):
        if path[0] in ("data", "stages") and depth == 1 and part not in node:
            raise ConfigError(
                f"{key}: no {part!r} in {path[0]}, which has {', '.join(node) or 'nothing'}"
            )
        below = node.get(part)
        if below is None:
            below = node[part] = {}
        if not isinstance(below, dict):
            raise ConfigError(
                f"{key}: {'.'.join(path[: depth + 1])} is {below!r}, which has nothing below it"
            )
        node = below
    node[name] = value


def dump(config: TrainConfig) -> str:
    """Return the run as YAML with every key; ``load`` reads it back to an equal config."""
    return yaml.safe_dump(_plain(config), sort_keys=False, width=120)


def _plain(value: Any) -> Any:
    if isinstance(value, SourceConfig):
        common = {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        own = common.pop("options") or {}
        return common | own
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: _plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, tuple | list) else value


def rate_factor(stage: StageConfig, step: int) -> float:
    """Return the factor of the stage's learning rates at a step of it.

    It is a function of the step alone, so that a resumed run needs no scheduler's state.
    """
    rise = min(1.0, (step + 1) / stage.warmup) if stage.warmup else 1.0
    if stage.schedule == "steps":
        return rise * stage.gamma ** sum(step >= m for m in stage.milestones)
    turn = math.pi * min(1.0, step / max(1, stage.steps))
    return rise * (stage.gamma + (1 - stage.gamma) * 0.5 * (1 + math.cos(turn)))
