"""Interpret the pickles of PyTorch's files without making any call that they ask for.

A pickle is a program that builds containers and calls functions by their names. `torch.load(weights_only=True)` makes
such calls, of a list of functions that do no harm. But some of them take any amount of memory (`bytearray(10**9)`), and
hashing a key of nested tuples takes any amount of time. Here a call returns the place of a tensor, an empty dictionary
or a placeholder, and keys become strings, so cost is proportional to the file.
"""

import pickletools
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO, TypeVar

import torch

MAX_STEPS = 1_000_000
"""Maximum steps of a file's pickles; a tensor takes about 40."""

DTYPES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}
"""Number formats of PyTorch's classes of storages."""

HARMLESS = re.compile(
    r"collections\.(OrderedDict|Counter)|_codecs\.encode|builtins\.(set|complex|bytearray)"
    r"|torch\.(Size|device|nn\.parameter\.Parameter|serialization\._get_layout)"
    r"|torch\.((cuda|sparse|storage)\.)*\w*(Storage|Tensor)|torch\.(_utils|_tensor)\._rebuild_\w+"
)
"""Functions and classes that weight files may name, besides dtypes and quantisation schemes of torch."""

LITERALS = frozenset(("BINUNICODE", "SHORT_BINSTRING", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT"))
CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
CONTAINERS: dict[str, type] = {"EMPTY_DICT": dict, "EMPTY_LIST": list}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}

Container = TypeVar("Container", list[Any], dict[str, Any])


class CodeError(Exception):
    """A pickle names a function or class that no weights need; the text is its name."""


@dataclass(frozen=True, eq=False)
class Named:
    """A function or class that a pickle names."""

    name: str


@dataclass(frozen=True, eq=False)
class SkippedCall:
    """Result of a call that was not made."""

    function: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Storage:
    """Numbers of a file, which several tensors may share."""

    key: str
    dtype: torch.dtype
    begin: int
    """First number; not 0 for some storages in the format before zip, which are parts of others."""
    count: int


@dataclass(frozen=True, eq=False, kw_only=True)
class Place:
    """Place of a tensor in a storage, in numbers."""

    storage: Storage
    offset: int
    size: tuple[Any, ...]
    stride: tuple[Any, ...]


class Interpreter:
    """Interprets the pickles of a file, one after another.

    Keys of dictionaries become strings; items whose keys are neither strings nor numbers are left out.

    Attributes:
        storages: one storage for each key that the pickles name.
    """

    def __init__(self) -> None:
        self.storages: dict[str, Storage] = {}
        self._steps = 0
        self._stack: list[Any] = []
        self._outer: list[list[Any]] = []
        self._memo: dict[int, Any] = {}

    def load(self, file: BinaryIO) -> object:
        """Interpret one pickle, up to its end.

        Returns:
            Dictionaries, lists, tuples, strings, numbers, None, and objects of the classes above.

        Raises:
            CodeError: it names a function or class that no weights need.
            EOFError: it ends early.
            Exception: it is broken or too long.
        """
        self._stack, self._outer, self._memo = [], [], {}
        for name, value in _steps(file):
            self._charge(1)
            self._step(name, value)
        return self._stack.pop()

    def _charge(self, steps: int) -> None:
        self._steps += steps
        if self._steps > MAX_STEPS:
            raise ValueError(f"it takes more than {MAX_STEPS} steps; save its state_dict() alone")

    def _step(self, name: str, value: Any) -> None:
        stack = self._stack
        if name in ("BINPUT", "LONG_BINPUT"):
            self._memo[value] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[value])
        elif name in LITERALS:
            stack.append(value)
        elif name in CONSTANTS:
            stack.append(CONSTANTS[name])
        elif name in CONTAINERS:
            stack.append(CONTAINERS[name]())
        elif name in TUPLES:
            stack[-TUPLES[name] :] = [tuple(stack[-TUPLES[name] :])]
        elif name == "MARK":
            self._outer.append(stack)
            self._stack = []
        elif name in ("TUPLE", "APPENDS", "SETITEMS"):
            self._stack = self._outer.pop()
            self._gather(name, stack)
        elif name == "APPEND":
            self._gather("APPENDS", [stack.pop()])
        elif name == "SETITEM":
            self._gather("SETITEMS", [stack.pop(-2), stack.pop()])
        elif name not in ("PROTO", "STOP"):
            self._call(name, value)

    def _gather(self, name: str, items: list[Any]) -> None:
        """Make a tuple of items, or put them into the container that waits for them."""
        if name == "TUPLE":
            self._stack.append(tuple(items))
        elif name == "APPENDS":
            _filled(self._stack[-1], list).extend(items)
        else:
            pairs = zip(items[::2], items[1::2], strict=True)
            _filled(self._stack[-1], dict).update(_with_texts(pairs))

    def _call(self, name: str, value: Any) -> None:
        stack = self._stack
        if name == "GLOBAL":
            stack.append(_named(value))
        elif name in ("REDUCE", "NEWOBJ"):
            arguments, function = stack.pop(), stack.pop()
            stack.append(self._result(function, arguments))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "BUILD":  # sets attributes, which are no weights
            stack.pop()
        else:
            raise ValueError(f"its pickle has {name}; save it by torch.save")

    def _result(self, function: object, arguments: object) -> object:
        """Return the result of a call that weights need, else `SkippedCall`."""
        if not isinstance(function, Named):
            raise ValueError("it calls something that is not a function")
        match function.name, arguments:
            case "collections.OrderedDict", ():
                return {}
            case "collections.OrderedDict", (list() as pairs,):  # as Python 2 writes it
                self._charge(len(pairs))
                return _with_texts(pairs)
            case (
                "torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2",
                (Storage() as storage, int() as offset, tuple() as size, tuple() as stride, *_),
            ):
                return Place(storage=storage, offset=offset, size=size, stride=stride)
            case (
                "torch._utils._rebuild_parameter" | "torch._utils._rebuild_parameter_with_state",
                (Place() as place, *_),
            ):
                return place
            case "torch._tensor._rebuild_from_type_v2", (Named() as inner, _, tuple() as inners, *_):
                return self._result(inner, inners)
        return SkippedCall(function.name)

    def _storage(self, words: object) -> Storage | SkippedCall:
        match words:
            case ("storage", Named() as kind, str() as key, _, int() as count, *rest):
                dtype = DTYPES.get(kind.name.rpartition(".")[2])
                if dtype is None:
                    return SkippedCall(kind.name)
                whole = Storage(key=key, dtype=dtype, begin=0, count=count)
                self.storages.setdefault(key, whole)
                match rest:
                    case [(_, int() as begin, int() as part)]:
                        return Storage(key=key, dtype=dtype, begin=begin, count=part)
                return whole
        raise ValueError("it names a storage in a way that PyTorch does not")


def _steps(file: BinaryIO) -> Iterator[tuple[str, Any]]:
    """Yield the steps of one pickle, each with its value."""
    try:
        for opcode, value, _ in pickletools.genops(file):
            yield opcode.name, value
    except ValueError as error:
        raise error if file.read(1) else EOFError from error


def _named(words: str) -> Named:
    name = ".".join(words.split(" ", 1)).replace("__builtin__.", "builtins.")
    constant = vars(torch).get(name.removeprefix("torch."))
    if not HARMLESS.fullmatch(name) and not isinstance(constant, torch.dtype | torch.qscheme):
        raise CodeError(name)
    return Named(name)


def _with_texts(pairs: Iterable[tuple[object, object]]) -> dict[str, object]:
    return {str(key): value for key, value in pairs if isinstance(key, str | int | float)}


def _filled(container: object, kind: type[Container]) -> Container:
    if not isinstance(container, kind):
        raise ValueError(f"it fills a {type(container).__name__} like a {kind.__name__}")
    return container
