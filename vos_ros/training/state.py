"""The files of a run: checkpoints that are whole or not there, averaged weights, the history."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vos_ros import __version__
from vos_ros.segmentation import torch_files
from vos_ros.segmentation.pickles import Opaque

_PATTERN = "step-*.pt"


class Average:
    """Keep the exponential moving average of a model's weights and buffers.

    The decay grows with the steps n, so that the start is soon forgotten: min(decay, (1 + n) / (10
    + n)). Integers (counters) are copied.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, steps: int) -> None:
        """Take in the model after step number ``steps`` (from 1)."""
        weight = 1 - min(self.decay, (1 + steps) / (10 + steps))
        for key, value in model.state_dict().items():
            mine = self.values[key]
            if self.decay and mine.is_floating_point():
                mine.lerp_(value.to(mine), weight)
            else:
                mine.copy_(value)

    def load(self, values: Mapping[str, torch.Tensor]) -> None:
        """Copy saved values, to this model's device."""
        for key, mine in self.values.items():
            mine.copy_(values[key])


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Give a temporary path that becomes ``path`` when the block has ended without an error.

    Readers get the old file or the new one, never a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield part
        with open(part, "rb") as f:
            os.fsync(f.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def save(folder: Path, state: Mapping[str, Any], keep: int) -> Path:
    """Write ``state``, named by its "step", and remove all but the newest ``keep`` checkpoints."""
    path = folder / f"step-{state['step']:09d}.pt"
    with whole(path) as part:
        torch.save(dict(state), part)
    for old in sorted(folder.glob(_PATTERN))[:-keep]:
        old.unlink(missing_ok=True)
    return path


def newest(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint, to the CPU; None where there is none.

    Only tensors and plain values are read, and nothing is executed. Raises ValueError: the file is
    damaged, or no checkpoint of a training.
    """
    paths = sorted(folder.glob(_PATTERN))
    if not paths:
        return None
    file = torch_files.read(paths[-1])
    state = _with_tensors(file.root, file)
    if not isinstance(state, dict) or "step" not in state:
        raise ValueError(f'{file.path}: it is no checkpoint of a training, which has a "step"')
    return state


def _with_tensors(value: Any, file: torch_files.TorchFile) -> Any:
    """Return a value of the file with its tensors in place of the references to them."""
    match value:
        case torch_files.TensorReference():
            return file.tensors({"it": value})["it"]
        case dict():
            return {k: _with_tensors(v, file) for k, v in value.items()}
        case list() | tuple():
            return type(value)(_with_tensors(v, file) for v in value)
        case Opaque():
            raise ValueError(
                f"{file.path}: it holds a {value.what}, wanted tensors and plain values"
            )
        case _:
            return value


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    with whole(path) as part:
        part.write_text(text, encoding="utf-8")


def export(
    path: Path, values: Mapping[str, torch.Tensor], metadata: Mapping[str, str], half: bool
) -> None:
    """Write weights as safetensors, floats in fp16 (``half``) or fp32.

    Args:
        path: file to write.
        values: tensors by name.
        metadata: header of the file.
        half: whether floats become fp16.
    """
    from safetensors.torch import save as packed

    kind = torch.float16 if half else torch.float32
    tensors = {
        k: (v.to(kind) if v.is_floating_point() else v).contiguous().cpu()
        for k, v in values.items()
    }
    with whole(path) as part:
        part.write_bytes(packed(tensors, metadata=dict(metadata)))


def environment(device: torch.device) -> dict[str, str]:
    """Return versions, machine, and the state of the source tree."""
    import numpy as np

    return {
        "vos_ros": __version__,
        "git": git_state(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "platform": platform.platform(),
        "command": " ".join(sys.argv),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else _processor(),
    }


def _processor() -> str:
    """Return the name of the CPU, and how many threads torch uses."""
    try:
        found = re.search(
            r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE
        )
    except OSError:
        found = None
    name = found.group(1) if found else platform.processor() or platform.machine()
    threads = torch.get_num_threads()
    return f"{name}, {threads} thread{'s' if threads > 1 else ''}"


def described(value: object) -> str:
    """Return a value of a configuration for a card.

    A file is described by its name and the start of its SHA-256: its path means nothing elsewhere.
    """
    if isinstance(value, str) and os.sep in value and Path(value).is_file():
        digest = hashlib.sha256(Path(value).read_bytes()).hexdigest()
        return f"{Path(value).name} (sha256 {digest[:16]})"
    return str(value)


def git_state() -> str:
    """Return the commit of the source tree, with "+ changes" where tracked files differ from it.

    "none" outside a checkout.
    """

    def ask(*words: str) -> str:
        command = ["git", "--no-optional-locks", "-C", str(Path(__file__).resolve().parent), *words]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=20, check=True
        ).stdout.strip()

    try:
        changed = ask("status", "--porcelain", "--untracked-files=no")
        return ask("rev-parse", "HEAD") + (" + changes" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "none"


class History:
    """Keep scalars over steps in a file, a JSON object per line.

    Rows after the step from which a run is resumed are dropped.
    """

    def __init__(self, path: Path, step: int) -> None:
        self.path = path
        lines = path.read_text(encoding="utf-8").splitlines() if step and path.is_file() else []
        self.rows: list[dict[str, Any]] = []
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                continue  # the last line of a run that was killed
            if row["step"] <= step:
                self.rows.append(row)
        write_text(path, "".join(json.dumps(r) + "\n" for r in self.rows))

    def add(self, **row: Any) -> None:
        """Add a row, which has a "step"."""
        self.rows.append(row)
        with open(self.path, "a", encoding="utf-8") as f:
            f.write(json.dumps(row) + "\n")
