"""Every public function of the geometry room shows by a doctest what it does; here they run."""

from __future__ import annotations

import doctest
import importlib
import inspect
import pkgutil
from types import ModuleType

import pytest

import vos_ros.geometry

MODULES = [m.name for m in pkgutil.iter_modules(vos_ros.geometry.__path__, "vos_ros.geometry.")]


def examples(module: ModuleType) -> dict[str, doctest.DocTest]:
    found = doctest.DocTestFinder().find(module, module.__name__)
    return {t.name.removeprefix(module.__name__ + "."): t for t in found if t.examples}


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_are_true(name: str) -> None:
    for test in examples(importlib.import_module(name)).values():
        report: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
        assert runner.run(test, out=report.append).failed == 0, "".join(report)


@pytest.mark.parametrize("name", MODULES)
def test_every_public_function_has_an_example(name: str) -> None:
    module = importlib.import_module(name)
    public = {
        n
        for n, f in inspect.getmembers(module, inspect.isfunction)
        if f.__module__ == name and not n.startswith("_")
    }
    assert public <= examples(module).keys(), public - examples(module).keys()
