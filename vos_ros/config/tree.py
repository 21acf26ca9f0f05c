"""Trees of frozen dataclasses from which ROS parameters, YAML files and command-line options come.

A key is a dotted path (``tracking.confirm_s``); a YAML file nests the same names. Unknown keys,
wrong types and values out of bounds raise ``ConfigError``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cache
from typing import Any, TypeVar, get_type_hints

from vos_ros.config.plugins import OptionGroup, registered_options

Value = bool | int | float | str
Tree = TypeVar("Tree")

RENAMED: dict[str, str] = {
    "tracking.teach_every": "tracking.segmenter_update_interval",
    "pose.register_px": "pose.image_correction_min_sigma_px",
    "proposals.confirm_frames": "proposals.confirm_detections",
    "association.continuity": "association.current_match_bonus",
    "association.views": "association.appearance_views",
    "association.view_score": "association.appearance_min_score",
    "association.weight_bias": "association.terms.bias.weight",
    "association.weight_tolerant_iou": "association.terms.tolerant_iou.weight",
    "association.weight_mask_iou": "association.terms.mask_iou.weight",
    "association.weight_depth_inliers": "association.terms.depth_inliers.weight",
    "association.weight_overlap_3d": "association.terms.overlap_3d.weight",
    "association.weight_similarity": "association.terms.similarity.weight",
    "association.weight_no_depth": "association.terms.depth_inliers.weight_unknown",
    "association.weight_no_similarity": "association.terms.similarity.weight_unknown",
    "association.class_conflict": "association.terms.class_conflict.weight",
    "segmentation.lwl.neglect": "segmentation.lwl.min_sample_weight",
    "segmentation.lwl.anchor_share": "segmentation.lwl.first_frame_weight",
    "segmentation.meta.anchor_share": "segmentation.meta.seed_sample_ratio",
    "segmentation.meta.iterations_most": "segmentation.meta.max_iterations",
    "model.enough_hits": "model.max_required_hits",
    "model.seen_gain": "model.match_log_odds",
    "model.absent_loss": "model.absent_log_odds",
    "rules.forget_s": "rules.candidate_timeout_s",
    "rules.join_overlap_beside": "rules.join_overlap_co_observed",
}
"""Former name of a parameter -> its present name. Former names are refused with the present one."""


class ConfigError(ValueError):
    """A configuration that cannot be used; names the key, what it got and what it wanted."""


def option(
    default: Value,
    help: str,
    *,
    unit: str = "",
    low: float | None = None,
    high: float | None = None,
    choices: tuple[str, ...] = (),
    list_choices: bool = True,
    basic: bool = False,
    names_file: bool = False,
) -> Any:
    """Declare a leaf of a config class.

    Args:
        default: value where nothing else is configured.
        help: meaning, one line.
        unit: unit of the value ("m", "px", "frames").
        low: smallest allowed value.
        high: largest allowed value.
        choices: the allowed values of a string.
        list_choices: whether parameter files list the choices; False: ``help`` says where they are.
        basic: whether it is one of the few parameters that most users need.
        names_file: whether the value is a file that is read.
    """
    metadata = {
        "help": help,
        "unit": unit,
        "low": low,
        "high": high,
        "choices": choices,
        "list_choices": list_choices,
        "basic": basic,
        "names_file": names_file,
    }
    return field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Param:
    """One leaf of a config tree, for code that generates options from it."""

    key: str
    """Dotted path."""
    type: type
    """bool, int, float or str."""
    default: Value
    """Value where nothing else is configured."""
    help: str
    """Meaning, one line."""
    unit: str
    """Unit, "" where it has none."""
    low: float | None
    """Smallest allowed value, None where there is no bound."""
    high: float | None
    """Largest allowed value, None where there is no bound."""
    choices: tuple[str, ...]
    """Allowed values of a string, empty where any is."""
    list_choices: bool = True
    """Whether parameter files list the choices."""
    basic: bool = False
    """Whether it is one of the few parameters that most users need."""
    names_file: bool = False
    """Whether the value is a file that is read."""


_hints = cache(get_type_hints)


def _children(cls: type, prefix: str) -> Iterator[tuple[str, str, type, Any]]:
    """Yield the name of a field, the key below which its values lie, its type and the field."""
    hints = _hints(cls)
    for f in dataclasses.fields(cls):
        yield f.name, prefix + f.name, hints[f.name], f


def params(cls: type, prefix: str = "") -> Iterator[Param]:
    """Yield every leaf of a config class, in order."""
    for _, key, kind, f in _children(cls, prefix):
        if kind is OptionGroup:
            for name, options in registered_options(f.metadata["package"]).items():
                yield from params(options, _group_prefix(f, prefix, name))
        elif dataclasses.is_dataclass(kind):
            yield from params(kind, key + ".")
        else:
            default: Any = f.default
            yield Param(key, kind, default, **f.metadata)


def _group_prefix(group: Any, prefix: str, name: str) -> str:
    """Return the dotted path of a plugin's options, with the trailing dot."""
    return f"{prefix}{name}." if group.metadata["inline"] else f"{prefix}{group.name}.{name}."


def check(param: Param, value: object) -> Value:
    """Return ``value`` as the parameter's type. An int serves where a float is wanted.

    Raises ConfigError: wrong type, out of bounds, or none of the choices.
    """
    if isinstance(value, bool) and {False: "off", True: "on"}[value] in param.choices:
        value = "on" if value else "off"  # YAML reads the bare words as booleans
    ok = isinstance(value, param.type) and (param.type is bool or not isinstance(value, bool))
    if param.type is float and isinstance(value, int) and not isinstance(value, bool):
        value, ok = float(value), True
    if not ok:
        got, wanted = type(value).__name__, param.type.__name__
        raise ConfigError(f"{param.key}: got {value!r} ({got}), wanted {wanted}: {param.help}")
    assert isinstance(value, bool | int | float | str)
    if param.choices and value not in param.choices:
        wanted = ", ".join(param.choices)
        raise ConfigError(f"{param.key}: got {value!r}, wanted one of {wanted}: {param.help}")
    if isinstance(value, int | float) and not isinstance(value, bool):
        low = -float("inf") if param.low is None else param.low
        high = float("inf") if param.high is None else param.high
        if not low <= value <= high:
            got = f"{value} {param.unit}".rstrip()
            raise ConfigError(f"{param.key}: got {got}, wanted {low:g}..{high:g}: {param.help}")
    return value


def flatten(config: object, prefix: str = "") -> dict[str, Value]:
    """Return every leaf of a config by its dotted key, in order."""
    out: dict[str, Value] = {}
    for name, key, kind, f in _children(type(config), prefix):
        value = getattr(config, name)
        if kind is OptionGroup:
            for plugin in registered_options(f.metadata["package"]):
                out.update(flatten(value[plugin], _group_prefix(f, prefix, plugin)))
        elif dataclasses.is_dataclass(kind):
            out.update(flatten(value, key + "."))
        else:
            out[key] = value
    return out


def nested(config: object) -> dict[str, Any]:
    """Return a config as a tree of dicts, as a YAML file has it."""
    tree: dict[str, Any] = {}
    for key, value in flatten(config).items():
        *path, name = key.split(".")
        branch = tree
        for part in path:
            branch = branch.setdefault(part, {})
        branch[name] = value
    return tree


def changed(base: Tree, values: Mapping[str, object]) -> Tree:
    """Return a config of any class with the given dotted keys replaced.

    Raises ConfigError: a key that is unknown or was renamed, a wrong type, a value out of bounds.
    """
    known = {p.key: p for p in params(type(base))}
    merged = flatten(base)
    for key, value in values.items():
        if value is None and any(k.startswith(f"{key}.") for k in known):
            continue  # a section of a YAML file with nothing in it
        if key not in known:
            raise ConfigError(unknown_parameter(key, known))
        merged[key] = check(known[key], value)
    out: Tree = _build(type(base), "", merged)
    return out


def unknown_parameter(key: str, known: Mapping[str, object]) -> str:
    """Return an error text for a key that is no parameter: its present name, or the nearest one."""
    if RENAMED.get(key) in known:
        return f"parameter {key!r} was renamed: it is {RENAMED[key]!r} now"
    near = get_close_matches(key, known, 1)
    way_out = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
    return f"unknown parameter {key!r}: {way_out}"


def _build(cls: type, prefix: str, values: Mapping[str, Value]) -> Any:
    """Make a config class of the values below ``prefix``."""
    fields: dict[str, Any] = {}
    for name, key, kind, f in _children(cls, prefix):
        if kind is OptionGroup:
            package = f.metadata["package"]
            fields[name] = OptionGroup(
                package,
                tuple(
                    (plugin, _build(options, _group_prefix(f, prefix, plugin), values))
                    for plugin, options in registered_options(package).items()
                ),
            )
        elif dataclasses.is_dataclass(kind):
            fields[name] = _build(kind, key + ".", values)
        else:
            fields[name] = values[key]
    return cls(**fields)


def flat_keys(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Return the leaves of a nested mapping (YAML) by dotted keys."""
    out: dict[str, object] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            out.update(flat_keys(value, f"{prefix}{name}."))
        else:
            out[f"{prefix}{name}"] = value
    return out
