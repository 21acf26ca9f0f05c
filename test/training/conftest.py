"""Small data in every layout, and a task that trains in milliseconds."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from support.moving_squares import write_folder


@pytest.fixture(scope="session")
def clips_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """images/ and masks/ with two sequences of eight frames and three stills of two objects."""
    return write_folder(tmp_path_factory.mktemp("clips"))


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
