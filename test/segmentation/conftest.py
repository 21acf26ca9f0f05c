"""The published network with the weights of the golden numbers' recipe."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from vos_ros.segmentation.networks.lwl import SPECS, LwlNet


@pytest.fixture(scope="session")
def golden(shared_golden: Path) -> Callable[[str], dict[str, np.ndarray]]:
    """``golden(name)``: the arrays of a file of golden numbers of LWL."""

    def read(name: str) -> dict[str, np.ndarray]:
        with np.load(shared_golden / "lwl" / f"{name}.npz") as arrays:
            return {k: arrays[k] for k in arrays.files}

    return read


@pytest.fixture(scope="session")
def by_recipe(shared_golden: Path) -> Callable[[nn.Module], None]:
    """Gives a network the weights of ``recipe.py``, which depend on names and shapes alone."""
    spec = importlib.util.spec_from_file_location("recipe", shared_golden / "lwl" / "recipe.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def fill(net: nn.Module) -> None:
        net.load_state_dict({k: torch.from_numpy(np.asarray(module.recipe(k, tuple(v.shape)))) for k, v in net.state_dict().items()})

    return fill


@pytest.fixture(scope="session")
def published(by_recipe: Callable[[nn.Module], None]) -> LwlNet:
    """The published network with its box encoder, in eval mode, for inference."""
    net = LwlNet(SPECS["resnet50_box"])
    by_recipe(net)
    return net.eval().requires_grad_(False)
