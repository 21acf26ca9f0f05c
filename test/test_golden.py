"""How golden numbers are read and compared, and that CI doesn't let them be skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from support.golden import FOLDER, Sampled, at_samples, difference, key_shapes, summarize
from support.recipes import i3d_weight

Arrays = dict[str, np.ndarray | Sampled]
MAX_BYTES = 2_000_000


def sampled(array: np.ndarray, indices: list[int]) -> Sampled:
    return Sampled(
        shape=array.shape,
        indices=np.array(indices),
        values=array.ravel()[indices],
        summary=summarize(array),
    )


def test_the_folder_is_small_enough_for_a_repository() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= MAX_BYTES


def test_difference_is_the_largest_at_samples_and_in_the_figures() -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    theirs = sampled(array, [0, 7])
    assert difference(array, theirs) == difference(array, array) == 0.0
    at_sample, elsewhere, both_ways = array.copy(), array.copy(), array.copy()
    at_sample[1, 3] -= 0.5
    assert difference(at_sample, theirs) == 0.5
    elsewhere[0, 1] += 1.2  # not sampled: the mean shows it
    assert difference(elsewhere, theirs) == pytest.approx(0.1, abs=1e-6)
    both_ways[0, 1], both_ways[0, 2] = 0.0, 3.0  # the same mean: the root mean square shows it
    assert difference(both_ways, theirs) > 0.02
    elsewhere[0, 1] = np.nan
    assert np.isnan(difference(elsewhere, theirs))
    assert np.isnan(difference(elsewhere, array))
    with pytest.raises(ValueError, match=r"got \(2, 4\), golden numbers have \(3, 4\)"):
        difference(array[:2], theirs)


def test_values_at_samples_are_in_their_order() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    ours, theirs = at_samples(-array, sampled(array, [1, 4]))
    assert ours.tolist() == [-1.0, -4.0] and theirs.tolist() == [1.0, 4.0]
    ours, theirs = at_samples(-array, array)
    assert ours.tolist() == (-theirs).tolist() == (-array.ravel()).tolist()


def test_sampled_arrays_are_read_with_all_that_is_stored(golden: Callable[[str], Arrays]) -> None:
    filters = golden("lwl/lwl_stages")["filters"]
    assert isinstance(filters, Sampled) and filters.shape == (21, 1, 16, 512, 3, 3)
    per_iteration = np.bincount(filters.indices // (16 * 512 * 9), minlength=21)
    assert per_iteration.min() > 200 and len(np.unique(filters.indices)) == len(filters.values)
    zero_at_start = filters.values[filters.indices < 16 * 512 * 9]
    assert not zero_at_start.any() and np.count_nonzero(filters.values) > 5000


def test_the_stem_of_i3d_follows_from_clip_recipe_and_facts(
    golden: Callable[[str], Arrays],
) -> None:
    """What a coming method needs fits together: weights by key and shape, clip, end point."""
    arrays, keys = golden("i3d/i3d"), key_shapes("i3d/state_dict_keys.txt")
    assert len(keys) == 344 and sum(k.endswith("conv3d.weight") for k in keys) == 58
    stem = {
        key.removeprefix("Conv3d_1a_7x7."): torch.from_numpy(i3d_weight(key, shape))
        for key, (shape, _) in keys.items()
        if key.startswith("Conv3d_1a_7x7.")
    }
    clip = torch.from_numpy(arrays["clip"]).float()[None] / 255 * 2 - 1
    x = F.conv3d(F.pad(clip, (2, 3) * 3), stem["conv3d.weight"], stride=2)
    mean, variance = stem["bn.running_mean"], stem["bn.running_var"]
    x = F.batch_norm(x, mean, variance, stem["bn.weight"], stem["bn.bias"], eps=1e-3).relu()[0]
    name = "Conv3d_1a_7x7"
    tolerance = 10 * float(arrays[f"f64_{name}"])
    step = int(arrays[f"channel_step_{name}"])
    assert difference(x[::step].numpy(), arrays[name]) <= tolerance
    assert difference(x.mean((1, 2, 3)).numpy(), arrays[f"mean_{name}"]) <= tolerance


@pytest.mark.parametrize(("ci", "status"), [("true", 1), ("", 0)])
def test_ci_fails_where_a_golden_test_skips(tmp_path: Path, ci: str, status: int) -> None:
    """With this suite's hooks, skipped golden tests fail: those of the fixture and those marked."""
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = golden\n")
    (tmp_path / "conftest.py").write_text(
        "import pytest\n"
        "from support.golden import mark_golden_tests, refuse_skipped_golden_test\n"
        "def pytest_collection_modifyitems(items):\n"
        "    mark_golden_tests(items)\n"
        "@pytest.hookimpl(hookwrapper=True)\n"
        "def pytest_runtest_makereport(item):\n"
        "    outcome = yield\n"
        "    refuse_skipped_golden_test(item, outcome.get_result())\n"
        "@pytest.fixture\n"
        "def golden():\n"
        "    pytest.skip('no numbers here')\n"
    )
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "def test_by_fixture(golden): pass\n"
        "@pytest.mark.golden\n"
        "def test_by_mark(): pytest.skip('not today')\n"
        "def test_other(): pytest.skip('no data')\n"
    )
    path = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
        env={**os.environ, "CI": ci, "PYTHONPATH": path, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == status, done.stdout
    outcome = "1 failed, 1 skipped, 1 error" if ci else "3 skipped"  # a fixture's is an error
    assert outcome in done.stdout
    if ci:
        assert "no numbers here" in done.stdout and "may not skip in CI" in done.stdout
