"""Pickles of plain values, read without running any code in them."""

import codecs
import io
import struct
from collections.abc import Callable
from typing import Any, NamedTuple


def read_plain_pickle(data: bytes) -> Any:
    """The lists, dictionaries, strings, bytes, numbers, booleans and None in a pickle of any protocol.

    A pickle is a program for a small machine with a stack, and it can call any function: loading a pickle from the
    internet runs that program. The machine here has only the instructions that make plain data. It stops at any other
    instruction. The data are no larger than the file, but a list may occur in them more than once, or in itself. A
    string of Python 2 is read as UTF-8, or as Latin-1 if it is not valid UTF-8.

    Some values are made by calls in every pickle that has them. The six names of such calls in MAKERS stand here for
    functions of this module, which return plain data; nothing of the pickle's is imported. Tuples and sets become
    lists, an OrderedDict becomes a dict, and a number of NumPy becomes one of Python.
    Raises ValueError, with the place in the file, for everything else.

    Source: the opcodes as documented in Python's `pickletools`.
    """
    file = io.BytesIO(data)
    try:
        value = _run_plain(file, len(data))
    except (ValueError, LookupError, TypeError) as error:
        raise ValueError(f"no pickle of plain data: at byte {file.tell():,}, {error or 'nothing left'}") from error
    if file.read(1):
        raise ValueError(f"no pickle of plain data: something follows its end, at byte {file.tell():,}")
    return value


# Long because it is one loop over the opcodes: cut up, no reader could see that none of them calls anything.
def _run_plain(file: io.BytesIO, size: int) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}
    copied = [0]

    def take(count: int) -> bytes:
        if count > size - file.tell():  # before memory is taken: a length can announce anything
            raise ValueError(f"{count:,} bytes should follow, but the file ends")
        return file.read(count)

    def number(count: int, signed: bool = False) -> int:
        return int.from_bytes(take(count), "little", signed=signed)

    def line() -> bytes:
        part = file.readline()
        if not part.endswith(b"\n"):
            raise ValueError("a line should follow, but the file ends")
        return part[:-1]

    def since_mark() -> list[Any]:
        start = marks.pop()
        part = stack[start:]
        del stack[start:]
        return part

    def find(module: str, name: str) -> Callable[..., Any]:
        if (module, name) not in MAKERS:
            raise ValueError(
                f"it needs {f'{module}.{name}'[:80]!r}, which makes no plain data (in a set of your own, save lists, "
                "dictionaries, strings and numbers only, or JSON)"
            )
        return MAKERS[module, name]

    def extend(items: list[Any]) -> None:
        check_plain(items)
        if type(stack[-1]) is not list:
            raise ValueError(f"an item is added to {type(stack[-1]).__name__}")
        stack[-1].extend(items)

    def update(items: list[Any]) -> None:
        if type(stack[-1]) is not dict or len(items) % 2:
            raise ValueError(f"half a pair, or a pair, is added to {type(stack[-1]).__name__}")
        check_plain(items)
        stack[-1].update(_dictionary(zip(items[::2], items[1::2])))

    def append_tuple(items: list[Any]) -> None:
        stack.append(items if PLAIN.issuperset(map(type, items)) else _Arguments(items))

    def call() -> None:
        arguments, maker = stack.pop(), stack.pop()
        if maker not in MAKERS.values() or type(arguments) not in (list, _Arguments):
            raise ValueError("a call of what is no function")
        stack.append(maker(*arguments))
        if type(stack[-1]) in (bytes, dict):  # copies, of what the file may hold once and name often
            copied[0] += len(stack[-1])
        if copied[0] > size:
            raise ValueError("calls make more than the file holds")

    while (code := take(1)) != b".":
        match code:
            case b"q" | b"r":
                memo[number(1 if code == b"q" else 4)] = stack[-1]
            case b"h" | b"j":
                stack.append(memo[number(1 if code == b"h" else 4)])
            case b"X" | b"\x8c" | b"\x8d":
                stack.append(take(number({b"X": 4, b"\x8c": 1, b"\x8d": 8}[code])).decode())
            case b"U" | b"T":
                stack.append(_python2_text(take(number(1 if code == b"U" else 4))))
            case b"K" | b"M" | b"J":
                stack.append(number({b"K": 1, b"M": 2, b"J": 4}[code], signed=code == b"J"))
            case b"(":
                marks.append(len(stack))
            case b"]" | b"}" | b")" | b"\x8f":  # a tuple and a set are lists here
                stack.append({} if code == b"}" else [])
            case b"l" | b"\x91":
                items = since_mark()
                check_plain(items)
                stack.append(items)
            case b"t":
                append_tuple(since_mark())
            case b"\x85" | b"\x86" | b"\x87":
                append_tuple([stack.pop() for _ in range(code[0] - 0x84)][::-1])
            case b"c":
                stack.append(find(line().decode(), line().decode()))
            case b"\x93":
                name, module = stack.pop(), stack.pop()
                stack.append(find(module, name))
            case b"R":
                call()
            case b"b":
                state = stack.pop()
                stack[-1] = _with_order(stack[-1], state)
            case b"d":
                items = since_mark()
                stack.append({})
                update(items)
            case b"a" | b"s":
                items = [stack.pop() for _ in range(1 if code == b"a" else 2)]
                (extend if code == b"a" else update)(items[::-1])
            case b"e" | b"u" | b"\x90":
                items = since_mark()
                (update if code == b"u" else extend)(items)
            case b"p":
                memo[int(line())] = stack[-1]
            case b"g":
                stack.append(memo[int(line())])
            case b"\x94":
                memo[len(memo)] = stack[-1]
            case b"V":
                stack.append(line().decode("raw-unicode-escape"))
            case b"S":
                quoted = line()
                if len(quoted) < 2 or quoted[:1] != quoted[-1:] or quoted[:1] not in (b"'", b'"'):
                    raise ValueError("a string has no quotes")
                stack.append(_python2_text(codecs.escape_decode(quoted[1:-1])[0]))
            case b"C" | b"B":
                stack.append(take(number(1 if code == b"C" else 4)))
            case b"I":
                text = line()
                stack.append(text == b"01" if text in (b"00", b"01") else int(text))
            case b"L":
                stack.append(int(line().removesuffix(b"L")))
            case b"\x8a":
                stack.append(number(number(1), signed=True))
            case b"F":
                stack.append(float(line()))
            case b"G":
                stack.append(struct.unpack(">d", take(8))[0])
            case b"N":
                stack.append(None)
            case b"\x88" | b"\x89":
                stack.append(code == b"\x88")
            case b"\x80" | b"\x95":  # the protocol's number; the size of a frame
                take(1 if code == b"\x80" else 8)
            case _:
                raise ValueError(f"the instruction {code!r} makes no plain data")
    if len(stack) != 1:
        raise ValueError(f"one value should be left at the end, found {len(stack)}")
    check_plain(stack)
    return stack[0]


PLAIN = {list, dict, str, bytes, int, float, bool, type(None)}


def check_plain(items: list[Any]) -> None:
    """Data hold neither functions nor types of numbers: these may only be called, or be arguments."""
    if not PLAIN.issuperset(map(type, items)):
        raise ValueError("a function is among the data")


class _Arguments(list[Any]):
    """A tuple that holds more than plain data, so that it can only be the arguments of a call."""


class _NumberType(NamedTuple):
    """A type of NumPy's numbers: a letter of `struct`, and "<" or ">"."""

    letter: str
    order: str


_LETTERS = {"i1": "b", "i2": "h", "i4": "i", "i8": "q", "u1": "B", "u2": "H", "u4": "I", "u8": "Q"}
_LETTERS |= {"f2": "e", "f4": "f", "f8": "d", "b1": "?"}


def _number_type(code: Any, *_: Any) -> _NumberType:
    if type(code) is not str or code not in _LETTERS:
        raise ValueError(f"{code!r:.20} is no type of numbers")
    return _NumberType(_LETTERS[code], "<")


def _with_order(kind: Any, state: Any) -> _NumberType:
    """The type with the order of bytes in its state; NumPy's pickles build nothing else here."""
    if type(kind) is not _NumberType or type(state) is not list or state[1] not in ("<", ">", "|"):
        raise ValueError("what is built is no type of numbers")
    return kind._replace(order=">" if state[1] == ">" else "<")


def _number(kind: Any, data: Any) -> int | float | bool:
    if type(kind) is not _NumberType or type(data) not in (bytes, str):
        raise ValueError("a number of NumPy has no type, or no bytes")
    layout = kind.order + kind.letter
    if isinstance(data, str):  # of Python 2, see `_python2_text`
        utf8 = data.encode()
        data = utf8 if len(utf8) == struct.calcsize(layout) else data.encode("latin-1")
    if len(data) != struct.calcsize(layout):
        raise ValueError(f"a number of NumPy has {len(data)} bytes")
    return struct.unpack(layout, data)[0]


def _listed(items: Any = None) -> list[Any]:
    if items is not None and type(items) is not list:
        raise ValueError(f"a set of {type(items).__name__}")
    return items or []


def _dictionary(pairs: Any = ()) -> dict[str | int, Any]:
    pairs = list(pairs)
    if any(type(pair) not in (list, tuple) or len(pair) != 2 or type(pair[0]) not in (str, int) for pair in pairs):
        raise ValueError("keys are neither strings nor whole numbers")
    return dict(pairs)


def _encoded(text: Any = "", *_: Any) -> bytes:
    """The bytes for which Python 3 writes text in the protocols of Python 2."""
    if type(text) is not str:
        raise ValueError(f"bytes of {type(text).__name__}")
    return text.encode("latin-1")


MAKERS: dict[tuple[str, str], Callable[..., Any]] = {
    **{(module, name): _listed for module in ("builtins", "__builtin__") for name in ("set", "frozenset")},
    **{(module, "bytes"): _encoded for module in ("builtins", "__builtin__")},
    ("_codecs", "encode"): _encoded,
    ("collections", "OrderedDict"): _dictionary,
    ("numpy", "dtype"): _number_type,
    **{(f"numpy.{core}.multiarray", "scalar"): _number for core in ("core", "_core")},
}


def _python2_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
