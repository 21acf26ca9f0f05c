"""What a run leaves on disk."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import nn

from vos_ros.training import state


def test_a_file_is_whole_or_not_there(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    with state.whole(path) as part:
        part.write_text("one")
    with pytest.raises(RuntimeError), state.whole(path) as part:
        part.write_text("tw")
        raise RuntimeError
    assert path.read_text() == "one" and [p.name for p in path.parent.iterdir()] == ["file"]


def test_old_checkpoints_go(tmp_path: Path) -> None:
    assert state.newest(tmp_path) is None
    for step in (5, 10, 1000):
        state.save(tmp_path, {"step": step, "x": torch.tensor(step)}, keep=2)
    assert [p.name for p in sorted(tmp_path.iterdir())] == [
        "step-000000010.pt",
        "step-000001000.pt",
    ]
    found = state.newest(tmp_path)
    assert found is not None and found["step"] == 1000 and int(found["x"]) == 1000


def test_a_checkpoint_reads_as_it_was_written(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    saved = {"step": 4, "model": model.state_dict(), "optimizer": optimizer.state_dict()}
    path = state.save(tmp_path, saved | {"scaler": {}, "name": None, "pair": (1, 2.5)}, keep=2)
    found = state.newest(tmp_path)
    assert found is not None and (found["scaler"], found["name"], found["pair"]) == (
        {},
        None,
        (1, 2.5),
    )
    wanted = torch.load(path, weights_only=True)
    torch.testing.assert_close(found["model"], dict(wanted["model"]), rtol=0, atol=0)
    torch.testing.assert_close(found["optimizer"], wanted["optimizer"], rtol=0, atol=0)
    model.load_state_dict(found["model"])
    optimizer.load_state_dict(found["optimizer"])


def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "step-000000001.pt"
    for wrong, reason in (
        (b"no checkpoint", "does not begin"),
        ({"step": 1, "model": nn.Linear(1, 1)}, "Linear"),
        ({"model": {}}, "step"),
        ([1, 2], "step"),
    ):
        path.write_bytes(wrong) if isinstance(wrong, bytes) else torch.save(wrong, path)
        with pytest.raises(ValueError, match=reason) as e:
            state.newest(tmp_path)
        assert str(path) in str(e.value)


def test_average() -> None:
    model = nn.BatchNorm1d(1)
    average = state.Average(model, 0.9)
    for step in range(1, 200):
        model.weight.data.fill_(float(step >= 100))
        model.num_batches_tracked.fill_(step)
        average.update(model, step)
        if step == 99:
            assert float(average.values["weight"]) < 1e-3  # the start, one, is soon forgotten
    assert float(average.values["weight"]) == pytest.approx(1 - 0.9**100, abs=1e-4)
    assert int(average.values["num_batches_tracked"]) == 199
    last = state.Average(model, 0.0)
    model.weight.data.fill_(7.0)
    last.update(model, 1)
    assert float(last.values["weight"]) == 7.0


def test_export(tmp_path: Path) -> None:
    values = {"a": torch.tensor([1.5, 2.5]), "n": torch.tensor(3)}
    state.export(tmp_path / "half.safetensors", values, {"format": "x"}, half=True)
    with safe_open(tmp_path / "half.safetensors", "pt") as f:
        assert (
            f.metadata() == {"format": "x"}
            and f.get_tensor("a").dtype == torch.float16
            and int(f.get_tensor("n")) == 3
        )


def test_history_goes_on_where_the_checkpoint_is(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    history = state.History(path, 0)
    for step in range(1, 6):
        history.add(step=step, kind="train", loss=float(step))
    with open(path, "a") as f:
        f.write('{"step": 6, "lo')  # killed while it wrote
    again = state.History(path, 3)
    again.add(step=4, kind="train", loss=0.5)
    assert [(r["step"], r["loss"]) for r in again.rows] == [(1, 1.0), (2, 2.0), (3, 3.0), (4, 0.5)]
    assert [json.loads(line) for line in path.read_text().splitlines()] == again.rows
    assert state.History(path, 0).rows == []


def test_where_it_came_from() -> None:
    found = state.environment(torch.device("cpu"))
    assert "thread" in found["device"]
    assert found["torch"] == torch.__version__ and found["vos_ros"]
    assert found["git"] == "none" or len(found["git"].split()[0]) == 40


def test_a_card_names_files_by_what_is_in_them(tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"x")
    assert state.described(str(path)) == "weights.pt (sha256 2d711642b726b044)"
    assert state.described("lwl/x") == "lwl/x" and state.described(5) == "5"
