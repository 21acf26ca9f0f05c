"""Small data in every layout, and a task that trains in milliseconds."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest
from PIL import Image

H, W = 48, 64


@pytest.fixture(scope="session")
def picture() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """``picture(t, n)``: frame t of n textured squares that move right: RGB, and ids 1..n."""

    def draw(t: int = 0, n: int = 1) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(7)
        rgb = np.clip(rng.normal(90, 20, (H, W, 3)), 0, 255).astype(np.uint8)
        ids = np.zeros((H, W), np.uint8)
        for i in range(1, n + 1):
            x, y = 6 + 2 * t, 4 + 15 * (i - 1)
            ids[y : y + 13, x : x + 20] = i
            rgb[y : y + 13, x : x + 20] = rng.integers(0, 256, (13, 20, 3)) // 3 + np.array(
                [80 * i % 170, 60, 170 - 50 * i]
            )
        return rgb, ids

    return draw


@pytest.fixture(scope="session")
def write() -> Callable[..., None]:
    """``write(image path, mask path, rgb, ids)``: two files; ids of one byte as palette PNG."""

    def pair(image: Path, mask: Path, rgb: np.ndarray, ids: np.ndarray) -> None:
        for path in (image, mask):
            path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(image), rgb[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 98])
        if ids.dtype == np.uint8 and ids.ndim == 2:
            coded = Image.fromarray(ids, mode="L").convert("P")
            coded.putdata(ids.ravel().tolist())
            coded.save(mask)
        else:
            Image.fromarray(ids).save(mask)

    return pair


@pytest.fixture(scope="session")
def clips_folder(
    tmp_path_factory: pytest.TempPathFactory, picture: Callable, write: Callable
) -> Path:
    """images/ and masks/ with two sequences of eight frames and three stills of two objects."""
    root = tmp_path_factory.mktemp("clips")
    for name in ("a", "b"):
        for t in range(8):
            write(
                root / f"images/{name}/{t:05d}.jpg",
                root / f"masks/{name}/{t:05d}.png",
                *picture(t if name == "a" else 7 - t, 2),
            )
    for i in range(3):
        write(root / f"images/still{i}.jpg", root / f"masks/still{i}.png", *picture(2 * i, 2))
    return root


@pytest.fixture(scope="session")
def runner() -> ModuleType:
    """The module ``run_tiny.py`` next to this file, which also runs as a program."""
    path = Path(__file__).with_name("run_tiny.py")
    spec = importlib.util.spec_from_file_location("run_tiny", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def read_log() -> Callable[[Path, str], list[dict]]:
    """``read_log(out, kind)``: rows of a run's log."""

    def rows(out: Path, kind: str) -> list[dict]:
        return [
            r
            for r in map(json.loads, (out / "log.jsonl").read_text().splitlines())
            if r["kind"] == kind
        ]

    return rows
