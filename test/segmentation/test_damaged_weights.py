"""Weights files that are damaged in every way: refused by name, never another error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from vos_ros.config import ConfigError
from vos_ros.segmentation.checkpoints import CheckpointError, load, load_weights
from vos_ros.segmentation.torch_files import TorchFileError, read

KINDS = ("safetensors", "zip", "stream")


def right_file(kind: str, path: Path) -> bytes:
    torch.manual_seed(0)
    state = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).state_dict()
    if kind == "safetensors":
        save_file(dict(state), path, metadata={"format": "test"})
    else:
        torch.save({"net": state, "epoch": 3}, path, _use_new_zipfile_serialization=kind == "zip")
    return path.read_bytes()


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    out = bytearray(data)
    kind = rng.random()
    if kind < 0.15:
        return bytes(out[: int(rng.integers(len(out)))])
    if kind < 0.25:
        at = int(rng.integers(len(out)))
        return bytes(out[:at] + out[at // 2 :])
    # most of what a reader believes stands at the beginning and at the end
    near = rng.random() < 0.7
    for _ in range(int(rng.integers(1, 6))):
        at = int(rng.integers(min(len(out), 600))) if near else int(rng.integers(len(out)))
        out[at if rng.random() < 0.7 else len(out) - 1 - at] = int(
            rng.choice([0, 1, 127, 128, 255, int(rng.integers(256))])
        )
    return bytes(out)


def try_damaged(kind: str, folder: Path, count: int) -> int:
    """Read so many damaged files; return how many were refused."""
    path = folder / f"weights.{'safetensors' if kind == 'safetensors' else 'pth'}"
    data, rng, refused = right_file(kind, path), np.random.default_rng(0), 0
    for _ in range(count):
        path.write_bytes(damaged(data, rng))
        try:
            if kind == "safetensors":
                load(path)
            else:
                found = read(path)
                if isinstance(found.root, dict) and isinstance(found.root.get("net"), dict):
                    load_weights(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), path)
        except (CheckpointError, TorchFileError, ConfigError) as e:
            refused += 1
            assert str(path) in str(e)
    return refused


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    assert try_damaged(kind, tmp_path, 200) > 60


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files(kind: str, tmp_path: Path) -> None:
    assert try_damaged(kind, tmp_path, 1000) > 300


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_numbers_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    module = nn.Linear(2, 2)
    module.weight.data[0, 1] = value
    save_file(module.state_dict(), tmp_path / "w.safetensors")
    torch.save(module.state_dict(), tmp_path / "w.pth")
    with pytest.raises(CheckpointError, match="'weight' holds numbers that are not finite"):
        load(tmp_path / "w.safetensors")
    for name in ("w.safetensors", "w.pth"):
        with pytest.raises(ConfigError, match="not finite"):
            load_weights(nn.Linear(2, 2), tmp_path / name)
