"""Set-up of both kinds of machine: with and without a ROS distribution.

Every refusal is one clear sentence, an interrupted set-up is resumed, and a finished one is not
repeated. The tests run the real scripts in a copy of the checkout. The PATH holds only what a test
puts there, and a Python, pip and colcon that write down how they were called. The real set-up runs
this test.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import xml.etree.ElementTree as ET
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOOLS = """
    basename bash cat cut date dirname env find flock grep head ln mkdir readlink
    rm sed sha256sum sort tail tee touch tr true uname wc xargs
"""

FAKE_PYTHON = """#!/bin/bash
echo "python $*" >> "$CALLS"
case "$*" in
  *version_info*) echo "${FAKE_VERSION:-3.11}" ;;
  *"sys.version, sys.prefix"*) echo "3.11 fake" ;;
  *"numpy.__version__"*) echo "numpy==1.26.4" ;;
  *"-m venv"*) [[ -z ${FAKE_NO_VENV:-} ]] || exit 1
     dir="${@: -1}"; mkdir -p "$dir/bin" "$dir/lib/python3.11/site-packages"
     ln -sf "$0" "$dir/bin/python" ;;
  *"pip install"*) if [[ -n ${FAKE_PIP_FAILS_ON:-} && "$*" == *"$FAKE_PIP_FAILS_ON"* ]]; then
     echo "$FAKE_PIP_SAYS"; exit 1; fi ;;
  *purelib*) echo /nowhere ;;
  "-") [[ -z ${FAKE_NO_HEADERS:-} ]] ;;
esac
"""
FAKE_COLCON = """#!/bin/bash
echo "colcon $*" >> "$CALLS"
if [[ -n ${FAKE_BUILD_FAILS:-} ]]; then echo "CMake Error: no"; exit 1; fi
mkdir -p install/lib/python3.11/site-packages && touch install/local_setup.bash
"""


class Machine:
    """A copy of the checkout, and a PATH with fakes, in a folder with a space in its name."""

    def __init__(self, folder: Path) -> None:
        self.checkout = folder / "check out"
        self.bin = folder / "bin"
        self.calls_file = folder / "calls"
        self.checkout.mkdir()
        self.bin.mkdir()
        for name in ("tools", "msg", "srv", "launch", "config", "scripts"):
            shutil.copytree(
                ROOT / name, self.checkout / name, ignore=shutil.ignore_patterns("__pycache__")
            )
        for name in ("package.xml", "CMakeLists.txt", "pyproject.toml", "LICENSE"):
            shutil.copy(ROOT / name, self.checkout / name)
        for tool in TOOLS.split():
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        for tool in ("cc", "c++", "make"):
            self.fake(tool, "#!/bin/bash\n")
        self.fake("python3", FAKE_PYTHON)
        self.fake("colcon", FAKE_COLCON)

    def fake(self, name: str, text: str) -> None:
        (self.bin / name).write_text(text)
        (self.bin / name).chmod(0o755)

    def run(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Runs tools/env with the command; ``calls`` then tells what the fakes were asked."""
        self.calls_file.write_text("")
        clean = {
            "PATH": str(self.bin),
            "HOME": str(self.checkout),
            "CALLS": str(self.calls_file),
            **env,
        }
        return subprocess.run(
            [str(self.checkout / "tools" / "env"), *command],
            env=clean,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            cwd="/",
        )

    @property
    def calls(self) -> str:
        return self.calls_file.read_text()


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def refusal(result: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of a set-up that refused."""
    assert result.returncode != 0
    said = [
        line for line in result.stderr.splitlines() if line.startswith("vos_ros set-up failed: ")
    ]
    assert len(said) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return said[0]


def test_a_wrong_python_is_named_with_the_way_out(machine: Machine) -> None:
    said = refusal(machine.run("true", FAKE_VERSION="3.9"))
    assert (
        "needs Python 3.11 or 3.12" in said
        and "python3 is 3.9" in said
        and "PYTHON=python3.12" in said
    )


def test_no_python_at_all(machine: Machine) -> None:
    (machine.bin / "python3").unlink()
    assert "found none;" in refusal(machine.run("true"))


def test_another_python_of_the_path_is_taken(machine: Machine) -> None:
    machine.fake("python3.12", FAKE_PYTHON)
    machine.fake("python3", "#!/bin/bash\necho 3.8\n")
    assert machine.run("true").returncode == 0


def test_the_python_of_the_caller_is_taken(machine: Machine) -> None:
    machine.fake("mine", FAKE_PYTHON)
    machine.fake("python3", "#!/bin/bash\nexit 1\n")
    assert machine.run("true", PYTHON=str(machine.bin / "mine")).returncode == 0


def test_a_set_up_that_waits_for_another_says_so(machine: Machine) -> None:
    lock = machine.checkout / ".underlay" / ".lock"
    lock.parent.mkdir()
    with subprocess.Popen(["flock", str(lock), "sleep", "1.5"]) as other:
        time.sleep(0.3)
        result = machine.run("true")
        other.wait(10)
    assert f"waiting for another set-up of {machine.checkout}" in result.stderr
    assert result.returncode == 0, result.stderr


def test_a_python_that_is_the_set_up_itself_is_refused(machine: Machine) -> None:
    result = machine.run("true", PYTHON=str(machine.checkout / "tools" / "env"))
    assert "names tools/env itself" in refusal(result)


@pytest.mark.parametrize("tool", ["cc", "c++", "make"])
def test_no_compiler(machine: Machine, tool: str) -> None:
    (machine.bin / tool).unlink()
    said = refusal(machine.run("true"))
    assert f"'{tool}'" in said and "apt install build-essential" in said
    assert "venv" not in machine.calls  # said before any work was done


def test_no_headers(machine: Machine) -> None:
    assert "python3-dev" in refusal(machine.run("true", FAKE_NO_HEADERS="1"))


def test_no_venv_module(machine: Machine) -> None:
    assert "python3-venv" in refusal(machine.run("true", FAKE_NO_VENV="1"))


def test_another_architecture(machine: Machine) -> None:
    (machine.bin / "uname").unlink()
    machine.fake("uname", "#!/bin/bash\necho Linux riscv64\n")
    assert "riscv64" in refusal(machine.run("true"))


@pytest.mark.parametrize(
    ("pip_says", "expected"),
    [
        (
            "NewConnectionError: Failed to establish a new connection: [Errno -3] Temporary failure"
            " in name resolution",
            "could not reach the package index",
        ),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on"
            " device",
            "disk is full",
        ),
        (
            "ERROR: No matching distribution found for torch",
            "No matching distribution found for torch",
        ),
    ],
)
def test_pip_that_fails_and_the_next_run_that_resumes(
    machine: Machine, pip_says: str, expected: str
) -> None:
    said = refusal(machine.run("true", FAKE_PIP_FAILS_ON="ros-wheels.txt", FAKE_PIP_SAYS=pip_says))
    assert expected in said and "run this again" in said
    result = machine.run("true")
    assert result.returncode == 0, result.stderr
    assert "-m venv" not in machine.calls  # the finished part was kept


def test_pip_really_without_a_network(machine: Machine) -> None:
    """With a real pip and an index that doesn't answer: the sentence fits what pip writes."""
    (machine.bin / "python3").unlink()
    (machine.bin / "python3").symlink_to(
        Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info[1]}"
    )
    nowhere = {
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_INDEX_URL": "http://127.0.0.1:9/simple",
        "PIP_DEFAULT_TIMEOUT": "2",
    }
    assert "could not reach the package index" in refusal(machine.run("true", **nowhere))


def test_a_finished_set_up_costs_nothing(machine: Machine) -> None:
    assert machine.run("true").returncode == 0
    result = machine.run("bash", "-c", "echo ran")
    assert (result.returncode, result.stdout) == (0, "ran\n")
    assert (
        "-m venv" not in machine.calls
        and "pip install" not in machine.calls
        and "colcon" not in machine.calls
    )


def test_a_changed_message_is_built_and_nothing_is_installed(machine: Machine) -> None:
    machine.run("true")
    with (machine.checkout / "msg" / "Instance.msg").open("a") as file:
        file.write("uint8 more\n")
    assert machine.run("true").returncode == 0
    assert "colcon" in machine.calls and "pip install" not in machine.calls


def test_a_failed_build_is_tried_again(machine: Machine) -> None:
    said = refusal(machine.run("true", FAKE_BUILD_FAILS="1"))
    assert "message build did not work" in said and "setup.log" in said
    assert machine.run("true").returncode == 0
    assert "colcon" in machine.calls and "pip install" not in machine.calls


def test_a_venv_without_its_stamp_is_made_anew(machine: Machine) -> None:
    """An interruption in the middle of `python -m venv`."""
    half = machine.checkout / ".venv" / "bin"
    half.mkdir(parents=True)
    (half / "junk").touch()
    assert machine.run("true").returncode == 0
    assert not (half / "junk").exists()


def test_a_moved_checkout_is_set_up_anew(machine: Machine) -> None:
    machine.run("true")
    moved = machine.checkout.with_name("moved")
    machine.checkout.rename(moved)
    machine.checkout = moved
    assert machine.run("true").returncode == 0
    assert "-m venv" in machine.calls


def test_half_installed_packages_are_forgotten(machine: Machine) -> None:
    """An interruption in the middle of pip: the package looks installed and lacks files."""
    machine.run("true", FAKE_PIP_FAILS_ON="ros-wheels.txt", FAKE_PIP_SAYS="x")
    site = machine.checkout / ".venv" / "lib" / "python3.11" / "site-packages"
    for name, files in (
        ("whole", ("METADATA", "INSTALLER", "RECORD")),
        ("half", ("METADATA", "RECORD")),
    ):
        (site / f"{name}-1.0.dist-info").mkdir()
        for file in files:
            (site / f"{name}-1.0.dist-info" / file).touch()
    result = machine.run("true")
    assert "half-installed half-1.0" in result.stderr
    assert [p.name for p in site.iterdir()] == ["whole-1.0.dist-info"]


def test_without_a_command_it_says_how(machine: Machine) -> None:
    result = machine.run()
    assert (
        result.returncode == 2
        and "usage: tools/env COMMAND" in result.stderr
        and machine.calls == ""
    )


def test_inside_the_environment_it_only_runs_the_command(machine: Machine) -> None:
    result = machine.run("bash", "-c", "echo inside", VOS_ROS_ENV=str(machine.checkout))
    assert result.stdout == "inside\n" and machine.calls == ""


def test_a_sourced_distribution_is_used_and_nothing_of_the_underlay(machine: Machine) -> None:
    sourced = {
        "ROS_DISTRO": "jazzy",
        "AMENT_PREFIX_PATH": "/opt/ros/jazzy",
        "PYTHONPATH": "/opt/ros/jazzy/lib/python",
    }
    result = machine.run(
        "bash", "-c", 'echo "$PYTHONPATH"; echo "$AMENT_PREFIX_PATH"; echo "$PATH"', **sourced
    )
    assert result.returncode == 0, result.stderr
    pythonpath, prefixes, path = result.stdout.splitlines()
    assert pythonpath.split(":") == [str(machine.checkout), "/opt/ros/jazzy/lib/python"]
    assert prefixes == "/opt/ros/jazzy"
    assert path.startswith(f"{machine.checkout}/scripts:{machine.checkout}/.venv/bin:")
    assert "--system-site-packages" in machine.calls and "import rclpy" in machine.calls
    assert "ros-" not in machine.calls and "underlay" not in machine.calls
    assert not (machine.checkout / ".underlay").exists()
    assert (
        machine.checkout / ".venv" / ".constraints"
    ).read_text() == "numpy==1.26.4\n"  # the distribution's NumPy stays
    assert "opencv" not in (machine.checkout / ".venv" / ".requirements").read_text()
    machine.run("true", **sourced)
    assert "pip install" not in machine.calls and "colcon" not in machine.calls


def test_the_underlay_can_be_asked_for_on_any_machine(machine: Machine) -> None:
    sourced = {
        "ROS_DISTRO": "humble",
        "AMENT_PREFIX_PATH": "/opt/ros/humble",
        "PYTHONPATH": "/opt/ros/humble/lib/python",
    }
    result = machine.run(
        "bash",
        "-c",
        'echo "$PYTHONPATH $AMENT_PREFIX_PATH $ROS_DISTRO"',
        VOS_ROS_UNDERLAY="1",
        **sourced,
    )
    assert result.returncode == 0, result.stderr
    assert "humble" not in result.stdout and "ros-wheels.txt" in machine.calls


def test_an_old_distribution_is_refused(machine: Machine) -> None:
    said = refusal(machine.run("true", ROS_DISTRO="humble", AMENT_PREFIX_PATH="/opt/ros/humble"))
    assert "Jazzy or newer" in said and "humble" in said


def test_a_distribution_without_colcon(machine: Machine) -> None:
    (machine.bin / "colcon").unlink()
    said = refusal(machine.run("true", ROS_DISTRO="jazzy", AMENT_PREFIX_PATH="/opt/ros/jazzy"))
    assert "python3-colcon-common-extensions" in said


def test_the_builders_folders_are_repaired_once(tmp_path: Path) -> None:
    share = tmp_path / "share" / "x"
    share.mkdir(parents=True)
    python = "/opt/python/cp312-cp312"
    numpy_include = f"{python}/lib/python3.12/site-packages/numpy/_core/include"
    text = f'a "{python}/include/python3.12;{numpy_include};/x/include"'
    (share / "y.cmake").write_text(text)
    for _ in range(2):
        subprocess.run(
            [sys.executable, str(ROOT / "tools" / "underlay" / "repair_cmake.py"), str(tmp_path)],
            check=True,
            timeout=60,
        )
    repaired = (share / "y.cmake").read_text()
    assert "/opt/python" not in repaired and repaired.endswith(';/x/include"')
    python_include, numpy_include = repaired.removeprefix('a "').split(";")[:2]
    assert (Path(numpy_include) / "numpy" / "arrayobject.h").is_file()
    assert Path(python_include).name.startswith("python3")


def names(lines: list[str]) -> set[str]:
    """Normalised package names of requirement lines."""
    found = (re.match(r"[A-Za-z0-9._-]+", line) for line in lines)
    return {re.sub(r"[._-]+", "-", match.group()).lower() for match in found if match}


def test_what_is_said_of_the_package_agrees() -> None:
    """Version and dependencies stand in several files, as their tools want it."""
    import vos_ros

    package = ET.parse(ROOT / "package.xml").getroot()
    assert package.findtext("version") == vos_ros.__version__
    declared = {e.text for e in package if e.tag.endswith("depend")}
    assert (
        set(re.findall(r"find_package\((\w+)", (ROOT / "CMakeLists.txt").read_text())) <= declared
    )
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = names(project["dependencies"] + extras["dev"] + extras["train"] + extras["meshes"][:1])
    installed = names((ROOT / "tools" / "requirements.txt").read_text().splitlines())
    assert wanted == installed
    pinned = names((ROOT / "tools" / "underlay" / "constraints.txt").read_text().splitlines())
    assert installed <= pinned
    assert (
        names((ROOT / "tools" / "underlay" / "ros-wheels.txt").read_text().splitlines()) <= pinned
    )


def test_pip_installs_modules_weights_and_command(tmp_path: Path) -> None:
    """`pip install .`, for people without ROS."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("vos_ros", "msg", "config"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, source / name)
    (source / "vos_ros" / "weights").mkdir(exist_ok=True)
    (source / "vos_ros" / "weights" / "some.safetensors").touch()
    subprocess.run(
        [
            sys.executable,
            "-m",
            "pip",
            "wheel",
            "-q",
            "--no-deps",
            "--no-build-isolation",
            "--no-index",
            "-w",
            str(tmp_path),
            str(source),
        ],
        check=True,
        timeout=100,
    )
    with zipfile.ZipFile(next(tmp_path.glob("vos_ros-*.whl"))) as wheel:
        files = set(wheel.namelist())
        entry_points = next(f for f in files if f.endswith("entry_points.txt"))
        assert "vos-ros = vos_ros.cli.main:main" in wheel.read(entry_points).decode()
    assert any(f.endswith(".data/data/share/vos_ros/msg/MapObjectArray.msg") for f in files)
    assert {
        "vos_ros/types.py",
        "vos_ros/segmentation/networks/__init__.py",
        "vos_ros/weights/some.safetensors",
    } <= files


@pytest.mark.parametrize(("lint", "tests"), [(0, 0), (1, 0), (0, 1)])
def test_ci_ends_with_the_closing_line_and_the_right_status(
    machine: Machine, lint: int, tests: int
) -> None:
    """A failed lint is no reason to hide the tests' result, and no failure is lost in a pipe."""
    shutil.copytree(ROOT / ".ci", machine.checkout / ".ci")
    closing = "======= 3 passed in 71.20s (0:01:11) ======="
    machine.fake(
        "make",
        f"""#!/bin/bash
echo "make $*"
case $1 in lint) exit {lint} ;; test) echo "{closing}"; exit {tests} ;; esac
""",
    )
    (machine.bin / "mktemp").symlink_to(str(shutil.which("mktemp")))
    result = subprocess.run(
        [str(machine.checkout / ".ci" / "run")],
        env={"PATH": str(machine.bin)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stdout.splitlines() == [
        "make lint",
        "make test TESTS=-m slow",
        closing,
        "make test",
        closing,
        closing,
    ]
    assert bool(result.returncode) == bool(lint or tests)


needs_ros = pytest.mark.skipif(
    os.environ.get("VOS_ROS_ENV") != str(ROOT),
    reason="needs this checkout's environment: run through tools/env",
)


@needs_ros
def test_modules_come_from_the_checkout_and_messages_from_the_overlay(tmp_path: Path) -> None:
    code = (
        "import rclpy, vos_ros.types, vos_ros.msg, vos_ros.srv;"
        " print(vos_ros.types.__file__); print(vos_ros.msg.__file__)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    types, msg = run.stdout.split()
    assert Path(types) == ROOT / "vos_ros" / "types.py"
    assert not Path(msg).is_relative_to(ROOT / "vos_ros")


@needs_ros
def test_launch_finds_executables_and_share() -> None:
    from ament_index_python.packages import get_package_prefix, get_package_share_directory

    for program in ("vos_ros_node", "object_mapper", "rgbd_slam", "vos-ros"):
        assert os.access(Path(get_package_prefix("vos_ros")) / "lib" / "vos_ros" / program, os.X_OK)
    assert (Path(get_package_share_directory("vos_ros")) / "launch").is_dir()


@needs_ros
@pytest.mark.slow
@pytest.mark.timeout(400)
def test_an_installed_copy_needs_no_checkout(tmp_path: Path) -> None:
    """colcon build as on a robot: copies, not links; modules and messages in one folder."""
    source = tmp_path / "ws" / "src" / "vos_ros"
    for name in ("vos_ros", "msg", "srv", "launch", "config", "scripts"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("package.xml", "CMakeLists.txt", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    env = {**os.environ, "PYTHONPATH": os.environ.get("PYTHONPATH", "").replace(f"{ROOT}:", "", 1)}
    build = [
        "colcon",
        "build",
        "--merge-install",
        "--cmake-args",
        f"-DPython3_EXECUTABLE={sys.executable}",
        "-DBUILD_TESTING=OFF",
    ]
    subprocess.run(
        build, cwd=tmp_path / "ws", env=env, check=True, timeout=380, stdout=subprocess.DEVNULL
    )
    code = (
        "import vos_ros.types as t, vos_ros.msg as m, vos_ros.srv; m.Instance();"
        " print(t.__file__); print(m.__file__)"
    )
    script = f". install/local_setup.bash && cd / && python -c '{code}'"
    run = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path / "ws",
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    types, msg = (Path(line) for line in run.stdout.split())
    assert types.parent == msg.parent.parent and types.is_relative_to(tmp_path)
