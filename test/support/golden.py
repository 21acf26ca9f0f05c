"""Golden numbers: results of other people's programs, to be matched by ours (`test/golden/`)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

FOLDER = Path(__file__).resolve().parents[1] / "golden"

# A sampled array NAME is stored as three arrays; the indices are shared by all arrays of one size.
VALUES, SHAPE, SUMMARY, INDICES = "@values", "@shape", "@summary", "@indices of "


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class Sampled:
    """A large array of which only some values are stored, with figures over all of its values."""

    shape: tuple[int, ...]
    """Shape of the whole array."""
    indices: npt.NDArray[np.int64]
    """Places of the stored values in the flattened array, (N,), increasing."""
    values: npt.NDArray[np.float32]
    """The stored values, (N,)."""
    summary: npt.NDArray[np.float64]
    """Minimum, mean, maximum and root mean square of the whole array, (4,)."""


def summarize(array: np.ndarray) -> npt.NDArray[np.float64]:
    """Return minimum, mean, maximum and root mean square of an array, (4,).

    None of them can differ by more than the largest difference between two arrays.
    """
    values = array.astype(np.float64)
    rms = np.sqrt(np.square(values).mean())
    return np.array([values.min(), values.mean(), values.max(), rms])


def read(name: str, folder: Path = FOLDER) -> dict[str, np.ndarray | Sampled]:
    """Read a file of golden numbers, such as ``"lwl/merge"``."""
    with np.load(folder / f"{name}.npz", allow_pickle=False) as stored:
        raw = {key: stored[key] for key in stored.files}
    arrays: dict[str, np.ndarray | Sampled] = {k: v for k, v in raw.items() if "@" not in k}
    for key in (k.removesuffix(VALUES) for k in raw if k.endswith(VALUES)):
        shape = tuple(raw[key + SHAPE].tolist())
        arrays[key] = Sampled(
            shape=shape,
            indices=raw[INDICES + str(int(np.prod(shape)))].astype(np.int64),
            values=raw[key + VALUES],
            summary=raw[key + SUMMARY],
        )
    return arrays


def difference(ours: np.ndarray, golden: np.ndarray | Sampled) -> float:
    """Return the largest absolute difference between our array and a golden one of as many values.

    Where the golden array is sampled: the largest one at its samples and in its four figures.
    NaN on either side gives NaN, which no tolerance admits.

    Raises ValueError: the sizes differ.
    """
    flat = np.asarray(ours, np.float64).ravel()
    if flat.size != np.prod(golden.shape):
        raise ValueError(f"got {np.shape(ours)}, golden numbers have {golden.shape}")
    if isinstance(golden, Sampled):
        ours_shown = np.concatenate([flat[golden.indices], summarize(flat)])
        theirs_shown = np.concatenate([golden.values.astype(np.float64), golden.summary])
    else:
        ours_shown, theirs_shown = flat, golden.astype(np.float64).ravel()
    return float(np.abs(ours_shown - theirs_shown).max())


def at_samples(ours: np.ndarray, golden: np.ndarray | Sampled) -> tuple[np.ndarray, np.ndarray]:
    """Return the values of both arrays at the places where the golden one is known, flattened."""
    if isinstance(golden, Sampled):
        return np.ravel(ours)[golden.indices], golden.values
    return np.ravel(ours), golden.ravel()


def key_shapes(name: str, folder: Path = FOLDER) -> dict[str, tuple[tuple[int, ...], str]]:
    """Read a list of state-dict keys, such as ``"lwl/state_dict_keys.txt"``.

    Returns shape and name of the dtype by key.
    """
    tensors = {}
    for line in (folder / name).read_text().splitlines():
        key, *fields = line.split("\t")
        if len(fields) == 2 and not key.startswith("#"):
            sizes = fields[0].strip("()").split(",")
            tensors[key] = (tuple(int(n) for n in sizes if n.strip()), fields[1])
    return tensors


def stage_tolerances(folder: Path = FOLDER) -> Mapping[str, float]:
    """Read how far the reference LWL in float32 is from itself in float64, per stage."""
    lines = (folder / "lwl" / "stage_tolerances.txt").read_text().splitlines()[2:]
    fields = [line.split("\t") for line in lines]
    return {f[0]: float(f[2]) for f in fields if len(f) > 2}


def mark_golden_tests(items: Iterable[pytest.Item]) -> None:
    """Mark as ``golden`` each test that uses the fixture of this name."""
    for item in items:
        if "golden" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.golden)


def refuse_skipped_golden_test(item: pytest.Item, report: pytest.TestReport) -> None:
    """Turn the skip of a golden test into a failure where the environment has CI=true.

    The golden numbers are part of the repository, so nothing excuses a skip.
    """
    if report.skipped and os.environ.get("CI") == "true" and item.get_closest_marker("golden"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longrepr
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: a golden test may not skip in CI ({reason})"
