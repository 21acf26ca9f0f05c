"""Read pickles without executing them.

Unpickling is a small machine that may call anything it can import. This one knows its
instructions, but calls and imports nothing: plain values (numbers, strings, lists, tuples, dicts)
come out as they are, everything else as a name. A caller may give a meaning to some names
(``build``) and to references into other files (``resolve``).

Time and memory are bounded by the number of instructions, by the number of values that calls may
copy (a short pickle can hand one long list to many calls), and by the length of names. Written from
the documentation in Python's ``pickletools``.
"""

from __future__ import annotations

import io
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

MAX_INSTRUCTIONS = 2_000_000
"""Maximum number of instructions: ten thousand tensors with their optimiser take less."""
MAX_COPIED_VALUES = 2_000_000
"""Maximum number of values handed to calls, in all: those tensors take less than 20 each."""
_MAX_NAME_CHARS = 300
"""Maximum length of a class name: every call of it makes a text of that length."""

# Nothing of this list would ever run here. But a checkpoint that names one of these was made to
# attack whoever loads it in the usual way.
_EXECUTING_MODULES = """
    os posix nt ntpath posixpath sys subprocess commands popen2 pty shutil tempfile mmap fcntl
    resource signal platform importlib imp pkgutil runpy zipimport code codeop marshal types inspect
    gc operator _operator ctypes _ctypes cffi pickle _pickle cPickle shelve dill cloudpickle joblib
    socket ssl urllib urllib2 urllib3 http httplib requests aiohttp ftplib smtplib telnetlib
    webbrowser asyncio multiprocessing concurrent threading _thread pdb bdb cProfile profile timeit
    trace doctest pydoc pip ensurepip venv distutils setuptools
"""
_HOSTILE_MODULES = frozenset(_EXECUTING_MODULES.split())
_VALUE_TYPES = """
    object set frozenset list dict tuple int long float complex bool bytes bytearray str unicode
    slice range xrange Ellipsis
"""
_HARMLESS_BUILTINS = frozenset(_VALUE_TYPES.split())
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
    """A pickle that is damaged, too large or hostile; the text says which."""


@dataclass(frozen=True, slots=True)
class Name:
    """A class or function that a pickle names. It was not imported."""

    module: str
    """Dotted name of the module."""
    name: str
    """Name in the module, dotted where it is nested."""

    def __str__(self) -> str:
        return f"{self.module}.{self.name}"


@dataclass(frozen=True, slots=True)
class Opaque:
    """An object that is no plain value, without its contents."""

    what: str
    """Name of what it would be an instance of."""


Build = Callable[[Name, tuple[Any, ...]], Any]


def opaque(name: Name, arguments: tuple[Any, ...]) -> Opaque:
    """Return what stands for a call of any name: nothing but the name."""
    return Opaque(str(name))


def check_name(name: Name) -> None:
    """Raise PickleError for a name that executes, loads or fetches something."""
    top, parts = name.module.partition(".")[0], name.name.split(".")
    # the functions of copyreg assemble objects, and are called __newobj__ and the like
    copying = top in ("copyreg", "copy_reg")
    if (
        top in _HOSTILE_MODULES
        or (top.strip("_") in ("builtin", "builtins") and name.name not in _HARMLESS_BUILTINS)
        or (any(p.startswith("__") for p in parts) and not copying)
        or (len(parts) > 1 and not _HOSTILE_MODULES.isdisjoint(parts))  # torch.os.system
        or any(f"{name}.".startswith(f"{bad}.") for bad in _HOSTILE_NAMES)
    ):
        raise PickleError(
            f"it wants to call {str(name)[:100]!r}, which no checkpoint needs: the file was made to"
            " do something on the machine that loads it. Nothing of it was run; don't load it with"
            " anything else"
        )


def read_pickle(
    data: bytes | BinaryIO,
    build: Build = opaque,
    resolve: Callable[[Any], Any] | None = None,
    max_instructions: int = MAX_INSTRUCTIONS,
) -> Any:
    """Return the value of one pickle.

    Lists, dicts and tuples are new ones. Entries of a dict whose key is no plain value are left
    out, and so are the attributes of objects.

    Args:
        data: the pickle, or a file, which is read from its position to the end of the pickle.
        build: ``build(name, arguments)`` gives the value of a call.
        resolve: ``resolve(id)`` gives the value of a persistent id; None: there may be none.
        max_instructions: limit above which the pickle is refused.

    Raises PickleError: damaged, too many instructions or copies, a hostile name.
    """
    machine = _Machine(build, resolve)
    count = 0
    try:
        for opcode, argument, _ in pickletools.genops(
            io.BytesIO(data) if isinstance(data, bytes) else data
        ):
            count += 1
            if count > max_instructions:
                raise PickleError(
                    f"it has more than {max_instructions} instructions, far more than a checkpoint"
                    " needs"
                )
            if opcode.name == "STOP":
                return machine.result()
            machine.execute(opcode.name, argument)
    except PickleError:
        raise
    except (
        ValueError,
        TypeError,
        IndexError,
        KeyError,
        OverflowError,
        AssertionError,
    ) as e:  # what pickletools and the machine raise on damaged data
        raise PickleError(f"it is no pickle, or a damaged one ({type(e).__name__}: {e})") from e
    raise PickleError("it is no pickle, or a damaged one: it has no end")


_VALUE_INSTRUCTIONS = """
    INT BININT BININT1 BININT2 LONG LONG1 LONG4 FLOAT BINFLOAT STRING BINSTRING SHORT_BINSTRING
    UNICODE BINUNICODE BINUNICODE8 SHORT_BINUNICODE BINBYTES BINBYTES8 SHORT_BINBYTES BYTEARRAY8
"""
_LITERALS = frozenset(_VALUE_INSTRUCTIONS.split())
_PLAIN_KEYS = (str, int, float, bytes, type(None))
_MAX_CHARGED_ARGUMENTS = 8
"""Arguments whose lengths are counted: the calls that copy one take fewer."""


class _Machine:
    """A stack, marks on it, and a memo; arguments come decoded from ``pickletools``."""

    def __init__(self, build: Build, resolve: Callable[[Any], Any] | None) -> None:
        self._build, self._resolve = build, resolve
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        self._copied = 0

    def result(self) -> Any:
        """Return the one value on the stack."""
        if len(self._stack) != 1:
            raise PickleError(
                f"it is a damaged pickle: {len(self._stack)} values are left at its end, wanted 1"
            )
        return self._stack[0]

    def execute(self, instruction: str, argument: Any) -> None:
        """Execute one instruction, by its name in ``pickletools``."""
        if instruction in _LITERALS:
            self._stack.append(argument)
        elif not (
            self._execute_value(instruction, argument) or self._execute_call(instruction, argument)
        ):
            raise PickleError(f"it has the instruction {instruction}, which no checkpoint needs")

    def _execute_value(self, instruction: str, argument: Any) -> bool:
        """Execute an instruction about stack, memo or containers; False: it is another one."""
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

    def _execute_call(self, instruction: str, argument: Any) -> bool:
        """Execute an instruction about names or calls; False: it is another one."""
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
                identity = argument if instruction == "PERSID" else self._pop()
                self._charge(identity)
                self._stack.append(self._resolve(identity))
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
        """Take everything above the last mark from the stack."""
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
        """Set alternating keys and values of the dict on top.

        Other keys than plain ones are left out: hashing a deep tuple could exhaust the C stack.
        """
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
                f"it is a damaged pickle: it calls a {type(function).__name__} with a"
                f" {type(arguments).__name__}"
            )
        for value in (arguments, *arguments[:_MAX_CHARGED_ARGUMENTS]):
            self._charge(value)
        self._stack.append(
            self._build(function, arguments)
            if isinstance(function, Name)
            else Opaque(f"{function.what.removesuffix('()')}()")
        )

    def _charge(self, value: Any) -> None:
        """Count the values that a call may copy: one list can be handed to many calls."""
        if isinstance(value, list | tuple | dict):
            self._copied += len(value)
        if self._copied > MAX_COPIED_VALUES:
            raise PickleError(
                f"its calls copy more than {MAX_COPIED_VALUES} values, far more than a checkpoint"
                " needs"
            )


def _named(module: Any, name: Any) -> Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise PickleError("it is a damaged pickle: it names a class by something that is no text")
    if len(module) + len(name) > _MAX_NAME_CHARS:
        raise PickleError(
            f"it names a class by {len(module) + len(name)} characters, far more than a checkpoint"
            " needs"
        )
    found = Name(module, name)
    check_name(found)
    return found
