"""Where the message definitions are."""

from __future__ import annotations

from pathlib import Path

import pytest

from vos_ros.messages.definitions import message_folder


def test_an_installed_package_finds_the_definitions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = tmp_path / "share/vos_ros/msg"
    share.mkdir(parents=True)
    (share / "MapObjectArray.msg").write_text("")
    inside = "lib/python3.12/site-packages/vos_ros/messages/definitions.py"
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    assert message_folder(tmp_path / inside) == share
    elsewhere = Path("/elsewhere") / inside
    with pytest.raises(
        FileNotFoundError, match=r"not installed; searched .*Install the package again"
    ):
        message_folder(elsewhere)
    monkeypatch.setenv("AMENT_PREFIX_PATH", f"/nowhere:{tmp_path}")
    assert message_folder(elsewhere) == share


def test_the_work_tree_comes_first() -> None:
    assert message_folder() == Path(__file__).resolve().parents[2] / "msg"
