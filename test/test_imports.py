"""The direction of imports: lower layers never need higher ones, and the core needs no ROS."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def imported_by(file: Path) -> set[str]:
    """Absolute names of the modules a file imports, also inside functions."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file} imports relatively: name the module in full"
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def test_the_layers_hold() -> None:
    command = "from importlinter.cli import lint_imports_command as main; main(['--no-cache'])"
    result = subprocess.run(
        [sys.executable, "-c", command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "0 broken" in result.stdout


@pytest.mark.parametrize(
    "file",
    sorted((ROOT / "vos_ros" / "segmentation" / "networks").glob("*.py")),
    ids=lambda p: p.stem,
)
def test_networks_import_nothing_of_ours(file: Path) -> None:
    ours = {name for name in imported_by(file) if name.split(".")[0] == "vos_ros"}
    assert not {name for name in ours if not name.startswith("vos_ros.segmentation.networks")}


def test_pipeline_loads_neither_ros_nor_open3d() -> None:
    code = """
import sys, vos_ros.pipeline.pipeline
print(*sorted({'rclpy', 'open3d', 'message_filters', 'tf2_ros'} & set(sys.modules)))
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == ""


def test_every_module_imports_without_ros_but_those_of_the_node() -> None:
    """Without ROS everything outside vos_ros.ros imports, for those who `pip install .`."""
    modules = [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted((ROOT / "vos_ros").rglob("*.py"))
        if "ros" not in path.relative_to(ROOT / "vos_ros").parts[:1]
    ]
    assert "vos_ros.types" in modules
    code = f"""
import importlib, sys
ros = "rclpy", "message_filters", "tf2_ros", "sensor_msgs", "std_msgs", "geometry_msgs"
for name in (*ros, "open3d"):
    sys.modules[name] = None
for module in {modules!r}:
    importlib.import_module(module)
"""
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_no_line_is_longer_than_100_columns() -> None:
    """Ruff's E501 passes lines that end in a pragma; here they count too."""
    folders = ("vos_ros", "test", "tools", "launch")
    files = [p for folder in folders for p in sorted((ROOT / folder).rglob("*.py"))]
    assert len(files) > 300
    long = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in files
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if len(line) > 100
    ]
    assert not long, long
