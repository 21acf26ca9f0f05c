"""Fixtures that every test may use."""

from __future__ import annotations

import signal
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.boxes import CAMERA, TableTop, box_object, cut
from support.davis import write_davis
from support.frames import make_frame as build_frame
from support.golden import Sampled, mark_golden_tests, refuse_skipped_golden_test
from support.golden import read as read_golden
from support.kitchen import Kitchen
from support.results import make_result as build_result

from vos_ros.types import Frame, FrameResult, Intrinsics, MapObject

# A shell that starts us in the background leaves SIGINT ignored, and what we start inherits
# that: no test could press Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mark_golden_tests(items)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, Any, None]:
    outcome = yield
    refuse_skipped_golden_test(item, outcome.get_result())


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of recorded data; a checkout without it skips these tests."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real data (shared/data beside the checkout) is not on this machine")
    return SHARED / "data"


@pytest.fixture(scope="session")
def golden() -> Callable[[str], dict[str, np.ndarray | Sampled]]:
    """``golden("lwl/merge")``: the arrays of a file of golden numbers, large ones as samples."""
    return read_golden


@pytest.fixture(scope="session")
def shared_tools() -> Path:
    """Return the folder of independent checkers; a checkout without it skips these tests."""
    if not (SHARED / "tools").is_dir():
        pytest.skip(
            "the independent checkers (shared/tools beside the checkout) are not on this machine"
        )
    return SHARED / "tools"


DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


@pytest.fixture(params=DEVICES)
def device(request: pytest.FixtureRequest) -> torch.device:
    """Each device of this machine: the CPU, and CUDA where there is some (``-k cuda`` picks it)."""
    return torch.device(request.param)


@pytest.fixture(params=[torch.float32, torch.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    """Each floating-point type that a pure function of tensors must keep."""
    return request.param


@pytest.fixture(scope="session")
def make_frame() -> Callable[..., Frame]:
    """``make_frame(index, height, width, **fields)``: see ``support.frames``."""
    return build_frame


@pytest.fixture(scope="session")
def make_result() -> Callable[..., FrameResult]:
    """``make_result(frame, labels, {label value: (track id, map object id)})``."""
    return build_result


@pytest.fixture(scope="session")
def davis_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """DAVIS' folders with the sequences ``pair`` and ``solo``: see ``support.davis``."""
    root = tmp_path_factory.mktemp("davis") / "DAVIS"
    write_davis(root)
    return root


@pytest.fixture(scope="session")
def camera() -> Intrinsics:
    """Return the camera of ``support.boxes``."""
    return CAMERA


@pytest.fixture(scope="session")
def make_box() -> Callable[..., MapObject]:
    """``make_box(object_id, low, high, spacing)``: see ``support.boxes``."""
    return box_object


@pytest.fixture(scope="session")
def cut_boxes() -> Callable[..., np.ndarray]:
    """``cut_boxes(boxes, T_map_camera, camera)``: see ``support.boxes``."""
    return cut


@pytest.fixture(scope="session")
def table_top() -> TableTop:
    """Four boxes on a table."""
    return TableTop()


@pytest.fixture(scope="session")
def kitchen(shared_data: Path) -> Kitchen:
    """The recorded kitchen; a checkout without the recording skips these tests."""
    return Kitchen(shared_data / "kitchen")
