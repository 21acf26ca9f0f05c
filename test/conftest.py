"""Fixtures that every test may use."""

from __future__ import annotations

from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The team's real data; the product never needs it, so a checkout without it skips these tests."""
    if not (SHARED / "data").is_dir():
        pytest.skip("the real data (shared/data beside the checkout) is not on this machine")
    return SHARED / "data"


@pytest.fixture(scope="session")
def shared_tools() -> Path:
    """The team's independent checkers."""
    if not (SHARED / "tools").is_dir():
        pytest.skip("the independent checkers (shared/tools beside the checkout) are not on this machine")
    return SHARED / "tools"
