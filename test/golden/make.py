"""Make the files of this folder from the originals: ``python test/golden/make.py ORIGINALS``.

The originals are the outputs of other people's programs (README.md says which). They are larger
than a repository should carry, so the large arrays become samples of their values. This script
never runs code of ours: what it writes are the originals' numbers.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from support.golden import INDICES, SHAPE, SUMMARY, VALUES, summarize

SEED = 20
MAX_WHOLE = 3000
"""Arrays of real numbers with more values than this are sampled."""
SAMPLES = ((50_000, 1024), (300_000, 1536), (1_000_000, 3072))
"""Number of samples of arrays of up to that many values."""
SAMPLES_OF_LARGEST = 6144
FILES = {
    "davis_metrics": "",
    "lwl/lwl_stages": "",
    "lwl/tracker_a": r"logits_.*|bbox_.*|target_sz_.*",
    "lwl/tracker_b": r"logits_.*|bbox_.*|target_sz_.*",
    "lwl/tracker_box": r"logits_.*|bbox_.*|target_sz_.*|init_mask_1",
    "lwl/boxinit": "",
    "lwl/memory_rule": "",
    "lwl/merge": "",
    "lwl/sample_patch": r"floor_.*",
    "lwl/lovasz": "",
    "lwl/train_step": "",
    "i3d/i3d": "",
}
"""The files, and which of their arrays are left out: what no part of ours has a counterpart of."""
INPUTS = r"im\d|scores\d|frames?|imgs|clip"
"""Arrays that are given to the programs, and so are needed whole."""
TEXTS = (
    "lwl/state_dict_keys.txt",
    "lwl/box_state_dict_keys.txt",
    "lwl/stage_tolerances.txt",
    "lwl/loop_tolerances.txt",
    "i3d/state_dict_keys.txt",
)


def draw_indices(size: int) -> np.ndarray:
    """Draw the places of an array's samples, the same ones for all arrays of that size."""
    n = next((n for limit, n in SAMPLES if size <= limit), SAMPLES_OF_LARGEST)
    chosen = np.random.default_rng([SEED, size]).choice(size, n, replace=False)
    return np.sort(chosen).astype(np.uint16 if size < 2**16 else np.uint32)


def sample(arrays: Mapping[str, np.ndarray], left_out: str) -> dict[str, np.ndarray]:
    """Replace the large arrays of a file by samples and figures of theirs."""
    out: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        if left_out and re.fullmatch(left_out, name):
            continue
        large = array.dtype.kind == "f" and array.size > MAX_WHOLE
        if not large or re.fullmatch(INPUTS, name):
            out[name] = array
            continue
        indices = out.setdefault(INDICES + str(array.size), draw_indices(array.size))
        out[name + VALUES] = array.ravel()[indices]
        out[name + SHAPE] = np.array(array.shape)
        out[name + SUMMARY] = summarize(array)
    return out


def keep_read_pixels(patch_inputs: dict[str, np.ndarray]) -> None:
    """Set to zero what the published ``sample_patch`` doesn't read of its largest image.

    It reads every df-th pixel, with df = int(min(sample size / output size) - 0.1) = 5, from the
    remainder of the truncated centre (100, 150) on. A program that reads others finds zeros there.
    """
    image = patch_inputs["im6"]
    read = np.zeros_like(image)
    read[..., 100 % 5 :: 5, 150 % 5 :: 5] = image[..., 100 % 5 :: 5, 150 % 5 :: 5]
    patch_inputs["im6"] = read


def write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write a file that ``numpy.load`` reads, compressed by LZMA: a video's frames are alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_LZMA) as archive:
        for name, array in arrays.items():
            # A fixed date: the same numbers give the same file.
            entry = zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_LZMA
            with archive.open(entry, "w") as stream:
                np.lib.format.write_array(stream, array, allow_pickle=False)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("originals", type=Path, help="folder with davis_metrics.npz, lwl/, i3d/")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent)
    options = parser.parse_args()
    for name, left_out in FILES.items():
        with np.load(options.originals / f"{name}.npz", allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        if name == "lwl/sample_patch":
            keep_read_pixels(arrays)
        write(options.out / f"{name}.npz", sample(arrays, left_out))
    for name in TEXTS:
        shutil.copyfile(options.originals / name, options.out / name)


if __name__ == "__main__":
    main()
