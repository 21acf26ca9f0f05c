"""Makes the CMake files of the ROS wheels name this interpreter: they name the Python of the
machine that built the wheels.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

import numpy

NUMPY_INCLUDE = re.compile(
    r"/opt/python/cp\d+-cp\d+/lib/python3\.\d+/site-packages/numpy/_core/include"
)
PYTHON_INCLUDE = re.compile(r"/opt/python/cp\d+-cp\d+/include/python3\.\d+")


def repair(text: str, python_include: str, numpy_include: str) -> str:
    """The text with the builder's include folders replaced."""
    return PYTHON_INCLUDE.sub(
        lambda _: python_include, NUMPY_INCLUDE.sub(lambda _: numpy_include, text)
    )


def main(prefix: Path) -> None:
    """Repairs every exported CMake file below the prefix; a second run changes nothing."""
    for path in sorted((prefix / "share").rglob("*.cmake")):
        text = path.read_text(encoding="utf-8")
        repaired = repair(text, sysconfig.get_path("include"), numpy.get_include())
        if repaired != text:
            path.write_text(repaired, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
