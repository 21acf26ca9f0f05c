"""Reads pickles without running them.

Unpickling is a small machine that may call anything it can import. This one knows its instructions but calls nothing and imports nothing:
plain values (numbers, strings, lists, tuples, dicts) come out as they are, everything else as a name. A caller may give a meaning of his
own to some names (``build``) and to references into other files (``resolve``). Written from the documentation in Python's ``pickletools``.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

MOST_INSTRUCTIONS = 2_000_000
"""Enough for ten thousand tensors with their optimiser; bounds time and memory."""

# Nothing here would ever run. But a checkpoint that names one of these was made to attack whoever loads it in the usual way.
_RUNNERS = """
    os posix nt ntpath posixpath sys subprocess commands popen2 pty shutil tempfile mmap fcntl resource signal platform
    importlib imp pkgutil runpy zipimport code codeop marshal types inspect gc operator _operator ctypes _ctypes cffi
    pickle _pickle cPickle shelve dill cloudpickle joblib
    socket ssl urllib urllib2 urllib3 http httplib requests aiohttp ftplib smtplib telnetlib webbrowser asyncio
    multiprocessing concurrent threading _thread pdb bdb cProfile profile timeit trace doctest pydoc pip ensurepip venv distutils setuptools
"""
_HOSTILE_MODULES = frozenset(_RUNNERS.split())
_VALUES = "object set frozenset list dict tuple int long float complex bool bytes bytearray str unicode slice range xrange Ellipsis"
_HARMLESS_BUILTINS = frozenset(_VALUES.split())
_HOSTILE_NAMES = (
    "torch.load",
    "torch.hub",
    "torch.jit",
    "torch.package",
    "torch.serialization",
    "torch.storage._load_from_bytes",
    "torch.utils.cpp_extension",
    "torch.utils.bottleneck",
    "torch.utils.collect_env",
    "torch.compile",
    "torch.ops",
    "torch.multiprocessing",
    "torch.distributed",
    "torch.fx",
    "torch._dynamo",
    "torch._inductor",
    "numpy.load",
    "numpy.f2py",
    "numpy.testing",
    "numpy.distutils",
    "io.open",
    "io.open_code",
    "io.FileIO",
    "_io.open",
    "_io.open_code",
    "_io.FileIO",
)


class PickleError(ValueError):
    """A pickle that is damaged, too large or hostile; the text says what is wrong."""


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that the pickle names. It was not imported."""

    module: str
    name: str

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True)
class Opaque:
    """An object that isn't a plain value: what it would be an instance of, without its contents."""

    what: str


Build = Callable[[Name, tuple[Any, ...]], Any]


def opaque(name: Name, arguments: tuple[Any, ...]) -> Opaque:
    """What a call of any name gives: nothing but the name."""
    return Opaque(str(name))


def check_name(name: Name) -> None:
    """PickleError for a name that has no place in a checkpoint: one that runs, loads or fetches something."""
    top, parts = name.module.partition(".")[0], name.name.split(".")
    copying = top in (
        "copyreg",
        "copy_reg",
    )  # its functions put objects together, and are called __newobj__ and the like
    if (
        top in _HOSTILE_MODULES
        or (top.strip("_") in ("builtin", "builtins") and name.name not in _HARMLESS_BUILTINS)
        or (any(p.startswith("__") for p in parts) and not copying)
        or (len(parts) > 1 and not _HOSTILE_MODULES.isdisjoint(parts))  # torch.os.system
        or any(f"{name}.".startswith(f"{bad}.") for bad in _HOSTILE_NAMES)
    ):
        raise PickleError(
            f"it wants to call {str(name)[:100]!r}, which no checkpoint needs: the file was made to do something on the"
            " machine that loads it. Nothing of it was run; don't load it with anything else"
        )


def read_pickle(
    data: bytes | BinaryIO,
    build: Build = opaque,
    resolve: Callable[[Any], Any] | None = None,
    most_instructions: int = MOST_INSTRUCTIONS,
) -> Any:
    """The value of one pickle, read from bytes or from a file at its position (which then stands behind it).

    ``build(name, arguments)`` says what a call is worth, ``resolve(id)`` what a persistent id is (None: there may be none). Lists, dicts
    and tuples are new ones. Entries of a dict whose key isn't a plain value are left out, so are attributes that objects are given.
    PickleError: damaged, too many instructions, a hostile name.
    """
    machine = _Machine(build, resolve)
    count = 0
    try:
        for opcode, argument, _ in pickletools.genops(
            io.BytesIO(data) if isinstance(data, bytes) else data
        ):
            count += 1
            if count > most_instructions:
                raise PickleError(
                    f"it has more than {most_instructions} instructions, far more than a checkpoint needs"
                )
            if opcode.name == "STOP":
                return machine.result()
            machine.run(opcode.name, argument)
    except PickleError:
        raise
    except (
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        OverflowError,
        AssertionError,
    ) as e:  # what pickletools and we stumble over
        raise PickleError(f"it is no pickle, or a damaged one ({type(e).__name__}: {e})") from e
    raise PickleError("it is no pickle, or a damaged one: it has no end")


_VALUE_INSTRUCTIONS = """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING UNICODE BINUNICODE BINUNICODE8
    SHORT_BINUNICODE BINBYTES BINBYTES8 SHORT_BINBYTES BYTEARRAY8
"""
_LITERALS = frozenset(_VALUE_INSTRUCTIONS.split())
_PLAIN_KEYS = (str, int, float, bytes, type(None))


class _Machine:
    """A stack, marks on it, and a memo. Arguments come decoded from ``pickletools``."""

    def __init__(self, build: Build, resolve: Callable[[Any], Any] | None) -> None:
        self._build, self._resolve = build, resolve
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        if len(self._stack) != 1:
            raise PickleError(
                f"it is a damaged pickle: {len(self._stack)} values are left at its end, wanted 1"
            )
        return self._stack[0]

    def run(self, instruction: str, argument: Any) -> None:
        """One instruction, by its name in ``pickletools``."""
        if instruction in _LITERALS:
            self._stack.append(argument)
        elif not self._run_value(instruction, argument) and not self._run_call(
            instruction, argument
        ):
            raise PickleError(f"it has the instruction {instruction}, which no checkpoint needs")

    def _run_value(self, instruction: str, argument: Any) -> bool:
        """Stack, memo and containers; False: another instruction."""
        push = self._stack.append
        match instruction:
            case "PROTO" | "FRAME":
                pass
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                push({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction])
            case "MARK":
                self._marks.append(len(self._stack))
            case "POP_MARK":
                self._pop_mark()
            case "POP":
                if self._marks and self._marks[-1] == len(self._stack):
                    self._marks.pop()
                else:
                    self._pop()
            case "DUP":
                push(self._top())
            case "PUT" | "BINPUT" | "LONG_BINPUT":
                self._memo[argument] = self._top()
            case "MEMOIZE":
                self._memo[len(self._memo)] = self._top()
            case "GET" | "BINGET" | "LONG_BINGET":
                push(self._memo[argument])
            case "EMPTY_TUPLE":
                push(())
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                push(tuple([self._pop() for _ in range(int(instruction[-1]))][::-1]))
            case "TUPLE":
                push(tuple(self._pop_mark()))
            case "EMPTY_LIST":
                push([])
            case "LIST":
                push(self._pop_mark())
            case "EMPTY_DICT":
                push({})
            case "DICT":
                values = self._pop_mark()
                push({})
                self._set_items(values)
            case "EMPTY_SET":
                push(Opaque("builtins.set"))
            case "FROZENSET":
                self._pop_mark()
                push(Opaque("builtins.frozenset"))
            case "APPEND":
                self._extend([self._pop()])
            case "APPENDS" | "ADDITEMS":
                self._extend(self._pop_mark())
            case "SETITEM":
                self._set_items([self._pop(), self._pop()][::-1])
            case "SETITEMS":
                self._set_items(self._pop_mark())
            case _:
                return False
        return True

    def _run_call(self, instruction: str, argument: Any) -> bool:
        """Names and calls; False: another instruction."""
        match instruction:
            case "GLOBAL":
                self._stack.append(_named(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                name, module = self._pop(), self._pop()
                self._stack.append(_named(module, name))
            case "REDUCE" | "NEWOBJ":
                arguments, function = self._pop(), self._pop()
                self._call(function, arguments)
            case "NEWOBJ_EX":
                _, arguments, function = self._pop(), self._pop(), self._pop()
                self._call(function, arguments)
            case "INST":
                self._call(_named(*argument.split(" ", 1)), tuple(self._pop_mark()))
            case "OBJ":
                function, *others = self._pop_mark()
                self._call(function, tuple(others))
            case "BUILD":  # attributes for an object: nothing here has any
                self._pop()
                self._top()
            case "PERSID" | "BINPERSID":
                if self._resolve is None:
                    raise PickleError("it refers to something outside the pickle, where nothing is")
                self._stack.append(
                    self._resolve(argument if instruction == "PERSID" else self._pop())
                )
            case _:
                return False
        return True

    def _top(self) -> Any:
        if len(self._stack) <= (self._marks[-1] if self._marks else 0):
            raise PickleError("it is a damaged pickle: it takes a value where there is none")
        return self._stack[-1]

    def _pop(self) -> Any:
        value = self._top()
        self._stack.pop()
        return value

    def _pop_mark(self) -> list[Any]:
        """Everything above the last mark."""
        start = self._marks.pop()
        values = self._stack[start:]
        del self._stack[start:]
        return values

    def _extend(self, values: list[Any]) -> None:
        target = self._top()
        if isinstance(target, list):
            target.extend(values)
        elif not isinstance(target, Opaque):
            raise PickleError(f"it is a damaged pickle: it appends to a {type(target).__name__}")

    def _set_items(self, values: list[Any]) -> None:
        """Alternating keys and values, for the value on top. Only plain keys: hashing a deep tuple could exhaust the stack."""
        target = self._top()
        if isinstance(target, dict):
            target.update(
                (k, v)
                for k, v in zip(values[::2], values[1::2], strict=True)
                if isinstance(k, _PLAIN_KEYS)
            )
        elif not isinstance(target, Opaque):
            raise PickleError(f"it is a damaged pickle: it sets items of a {type(target).__name__}")

    def _call(self, function: Any, arguments: Any) -> None:
        if not isinstance(function, Name | Opaque) or not isinstance(arguments, tuple):
            raise PickleError(
                f"it is a damaged pickle: it calls a {type(function).__name__} with a {type(arguments).__name__}"
            )
        self._stack.append(
            self._build(function, arguments)
            if isinstance(function, Name)
            else Opaque(f"{function.what}()")
        )


def _named(module: Any, name: Any) -> Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise PickleError("it is a damaged pickle: it names a class by something that is no text")
    found = Name(module, name)
    check_name(found)
    return found
