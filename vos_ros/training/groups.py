"""Parameters by group, and the groups that a stage trains."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from vos_ros.config import ConfigError
from vos_ros.segmentation.networks.mobilenet_v2 import LAST_BLOCK, MobileNetV2
from vos_ros.training.config import StageConfig


def backbone_groups(backbone: nn.Module) -> dict[str, list[nn.Parameter]]:
    """Return the parameters of ``stem``, a backbone up to stride 4, and ``backbone``, its rest."""
    names = (
        [f"features.{i}" for i in range(LAST_BLOCK[4] + 1)]
        if isinstance(backbone, MobileNetV2)
        else ["conv1", "bn1", "layer1"]
    )
    stem = [p for name in names for p in backbone.get_submodule(name).parameters()]
    known = {id(p) for p in stem}
    return {"stem": stem, "backbone": [p for p in backbone.parameters() if id(p) not in known]}


def groups_with_rates(
    groups: Mapping[str, list[nn.Parameter]], stage: StageConfig
) -> list[dict[str, Any]]:
    """Return the groups that the stage gives a learning rate, as ``Task.parameter_groups`` does.

    Raises ConfigError: a rate for an unknown group.
    """
    if unknown := sorted(set(stage.rates) - set(groups)):
        raise ConfigError(
            f"rates: no group {', '.join(unknown)} of parameters; there are {', '.join(groups)}"
        )
    return [
        {"name": n, "params": p, "lr": stage.rates[n]}
        for n, p in groups.items()
        if stage.rates.get(n)
    ]
