"""Declare the ROS parameters of a node from its config tree, and check every change."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Generic

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)

from vos_ros.config import (
    RENAMED,
    ConfigError,
    LimitsConfig,
    Param,
    Tree,
    Value,
    changed,
    check,
    params,
    unknown_parameter,
)

LIVE = frozenset(
    {
        "node.publish_overlay",
        "node.publish_cloud",
        "node.publish_markers",
        "node.tf_wait_s",
        "node.input_timeout_s",
        "node.worker_timeout_s",
    }
)
"""Parameters of the perception node that act at once. The others act when it is configured."""
FIXED = frozenset(
    {"node.autostart", "node.weights_dir", *(f"limits.{p.key}" for p in params(LimitsConfig))}
)
"""Parameters of the perception node that act only when the process starts: read-only. What bounds
the messages of others, they must not raise."""
_OTHERS = ("qos_overrides.", "use_sim_time", "start_type_description_service")
"""Parameters that rclpy declares by itself (and reads from the same overrides)."""


def descriptor(param: Param, live: Collection[str], fixed: Collection[str]) -> ParameterDescriptor:
    """Describe a parameter for `ros2 param describe`: unit, range, choices, when a change acts."""
    when = (
        "acts when the process starts"
        if param.key in fixed
        else "acts at once"
        if param.key in live
        else "acts when the node is configured"
    )
    constraints = [f"one of: {', '.join(param.choices)}"] if param.choices else []
    out = ParameterDescriptor(
        description=param.help + (f" [{param.unit}]" if param.unit else ""),
        read_only=param.key in fixed,
        additional_constraints="; ".join([*constraints, when]),
    )
    if param.low is not None and param.high is not None:
        if param.type is int:
            out.integer_range = [
                IntegerRange(from_value=int(param.low), to_value=int(param.high), step=1)
            ]
        elif param.type is float:
            out.floating_point_range = [
                FloatingPointRange(
                    from_value=float(param.low), to_value=float(param.high), step=0.0
                )
            ]
    return out


def unknown_message(key: str, known: Collection[str]) -> str:
    """Return the warning for an override that names no parameter."""
    near = (
        get_close_matches(key, known, 1)
        or [k for k in known if k.split(".")[-1] == key.split(".")[-1]][:1]
    )
    return f"unknown parameter {key!r} is ignored" + (
        f": did you mean {near[0]!r}?" if near else ""
    )


class Parameters(Generic[Tree]):
    """Declare and hold the parameters of one node.

    A wrong value doesn't stop the node from starting: it is kept in ``invalid`` (key -> message)
    until a valid one is set, and ``config()`` raises it. ``unknown`` holds a warning for each
    override that names no parameter.

    Args:
        node: made with ``automatically_declare_parameters_from_overrides=True``, so that all that
            the user gave is there before anything is declared, unknown and invalid ones included.
        defaults: config tree with the default values.
        live: keys that act at once.
        fixed: keys that act only when the process starts.
    """

    def __init__(
        self,
        node: Any,
        defaults: Tree,
        *,
        live: Collection[str] = LIVE,
        fixed: Collection[str] = FIXED,
    ) -> None:
        self._node, self._defaults, self._live = node, defaults, live
        self.invalid: dict[str, str] = {}
        self.unknown: list[str] = []
        self.configured = False
        known = {p.key: p for p in params(type(defaults))}
        given = {
            key: node.get_parameter(key).value
            for key in node.get_parameters_by_prefix("")
            if not key.startswith(_OTHERS)
        }
        for key in given:
            node.undeclare_parameter(key)
            if RENAMED.get(key) in known:
                self.invalid[key] = unknown_parameter(key, known)
            elif key not in known:
                self.unknown.append(unknown_message(key, known))
        for key, param in known.items():
            value = param.default
            if key in given:
                try:
                    value = check(param, given[key])
                except ConfigError as e:
                    self.invalid[key] = str(e)
            node.declare_parameter(key, value, descriptor(param, live, fixed), ignore_override=True)
        self._known = known
        node.add_on_set_parameters_callback(self._on_set)

    def config(self) -> Tree:
        """Return the tree of present values. Raises ConfigError: one of them is invalid."""
        if self.invalid:
            raise ConfigError("; ".join(self.invalid.values()))
        return changed(self._defaults, self._values())

    def _values(self) -> Mapping[str, Value]:
        return {key: self._node.get_parameter(key).value for key in self._known}

    def live(self, key: str) -> Any:
        """Return the present value of a parameter that acts at once."""
        return self._node.get_parameter(key).value

    def _on_set(self, changes: list[Any]) -> SetParametersResult:
        ours = [c for c in changes if c.name in self._known]
        late = [c.name for c in ours if self.configured and c.name not in self._live]
        if late:
            return SetParametersResult(
                successful=False,
                reason=f"{', '.join(late)}: acts when the node is configured; clean it up first"
                " (ros2 lifecycle set <node> deactivate, then cleanup), set, configure",
            )
        try:
            for change in ours:
                self._check_file(check(self._known[change.name], change.value), change.name)
        except ConfigError as e:
            return SetParametersResult(successful=False, reason=str(e))
        set_now = {change.name for change in ours}
        for key in list(self.invalid):
            if key in set_now or RENAMED.get(key) in set_now:
                del self.invalid[key]
        return SetParametersResult(successful=True)

    def _check_file(self, value: Value, key: str) -> None:
        """Raise ConfigError where a running node is told to read a file that it may not.

        Any participant on the domain may set a parameter. A name without a folder and an ending is
        one of the package's own, unless the working folder has a file of that name.
        """
        if not self._known[key].names_file or not value:
            return
        path, folder = Path(str(value)), self._folder()
        shipped = path.name == str(value) and not path.suffix and not path.exists()
        inside = folder is not None and path.resolve().is_relative_to(folder.resolve())
        if not (shipped or inside):
            raise ConfigError(
                f"{key}: got {str(value)!r}; a running node reads weights of the package by their"
                f" name, and files below node.weights_dir ({folder or 'empty'}). Start the node"
                " with that parameter, or with this file"
            )

    def _folder(self) -> Path | None:
        """Return the folder of weights that may be named while the node runs."""
        if "node.weights_dir" not in self._known:
            return None
        name = str(self._node.get_parameter("node.weights_dir").value)
        return Path(name).expanduser() if name else None
