"""Pickles of plain values, read without running any code in them."""

import codecs
import io
import struct
from typing import Any


def read_plain_pickle(data: bytes) -> Any:
    """The lists, dictionaries, strings, bytes, numbers, booleans and None in a pickle of any protocol.

    A pickle is a program for a small machine with a stack, and it can call any function: loading a pickle from the
    internet runs that program. The machine here has only the instructions that make plain data. It stops at any other
    instruction. The data are no larger than the file, but a list may occur in them more than once, or in itself. A
    string of Python 2 is read as UTF-8, or as Latin-1 if it is not valid UTF-8.
    Raises ValueError, with the place in the file, for everything else.

    Source: the opcodes as documented in Python's `pickletools`.
    """
    file = io.BytesIO(data)
    try:
        value = _run_plain(file, len(data))
    except (ValueError, LookupError) as error:
        raise ValueError(f"no pickle of plain data: at byte {file.tell():,}, {error or 'nothing left'}") from error
    if file.read(1):
        raise ValueError(f"no pickle of plain data: something follows its end, at byte {file.tell():,}")
    return value


# Long because it is one loop over the opcodes: cut up, no reader could see that none of them calls anything.
def _run_plain(file: io.BytesIO, size: int) -> Any:
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}

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

    def extend(items: list[Any]) -> None:
        if type(stack[-1]) is not list:
            raise ValueError(f"an item is added to {type(stack[-1]).__name__}")
        stack[-1].extend(items)

    def update(items: list[Any]) -> None:
        keys = items[::2]
        if type(stack[-1]) is not dict or len(items) % 2 or any(type(key) is not str for key in keys):
            raise ValueError(f"keys that are no strings, or half a pair, are added to {type(stack[-1]).__name__}")
        stack[-1].update(zip(keys, items[1::2]))

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
            case b"]" | b"}":
                stack.append([] if code == b"]" else {})
            case b"l":
                stack.append(since_mark())
            case b"d":
                items = since_mark()
                stack.append({})
                update(items)
            case b"a" | b"s":
                items = [stack.pop() for _ in range(1 if code == b"a" else 2)]
                (extend if code == b"a" else update)(items[::-1])
            case b"e" | b"u":
                items = since_mark()
                (extend if code == b"e" else update)(items)
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
    return stack[0]


def _python2_text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data.decode("latin-1")
