"""Strangers' pickles read as data: the opcodes that make plain values and numpy arrays, and no way to run anything."""

import codecs
import io
import re
import struct
from collections.abc import Callable
from typing import BinaryIO

from data.readers import plain
from data.readers.pickle_machine import MAX_STEPS, Machine

MAX_DIGITS = 24  # of a number or memo index in protocol 0; 64 bits take 20 and an L
ADVICE = "only lists, dicts, numbers, text and numpy arrays of them are read; save the data as such"

Step = Callable[[Machine], None]


def load(path: str, max_bytes: int = 2**31) -> object:
    """What a pickle file of any protocol holds: None, bool, int, float, str, bytes, list, tuple, dict, numpy arrays
    and scalars.

    Python 2's strings come as latin1 text, an OrderedDict as a dict, a bytearray as bytes; arrays are in this
    machine's byte order and read-only. Memory stays under 0.8 GB and four times the file.

    Raises: ValueError naming file, byte and reason for anything else, of which nothing was run; OSError.
    """
    with open(path, "rb") as file:
        try:
            size = plain.file_size(file, max_bytes)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return _run(file, size, path)


def loads(data: bytes, name: str = "pickle") -> object:
    """As `load`, of the bytes themselves; `name` stands for the path in messages."""
    return _run(io.BytesIO(data), len(data), name)


def _run(file: BinaryIO, size: int, name: str) -> object:
    machine = Machine(file, size)
    try:
        for _ in range(MAX_STEPS):
            machine.start = machine.at
            code = machine.take(1)
            if code == b".":
                return machine.result()
            if code not in _STEPS:
                raise ValueError(f"opcode {_REFUSED.get(code, repr(code))} makes no plain data")
            _STEPS[code](machine)
        reason = f"it takes over {MAX_STEPS:,} steps"
    except IndexError:
        reason = "a value is used that is not there"
    except ValueError as error:
        reason = str(error)
    raise ValueError(f"{name}: byte {machine.start}: {reason}; {ADVICE}")


def _protocol(machine: Machine) -> None:
    if machine.take(1)[0] > 5:
        raise ValueError("it is of a protocol above 5")


def _frame(machine: Machine) -> None:
    """Skips a frame's size, a hint about how much to read at once."""
    count = struct.unpack("<Q", machine.take(8))[0]
    if count > machine.size - machine.at:
        raise ValueError(f"a frame of {count:,} bytes is cut short")


def _number(layout: str) -> Step:
    size, unpack = struct.calcsize(layout), struct.Struct(layout).unpack
    return lambda machine: machine.stack.append(unpack(machine.take(size))[0])


def _long(machine: Machine) -> None:
    count = machine.take(1)[0]
    if count > 9:
        raise ValueError(f"a number has {count} bytes; 9 are the most")
    machine.stack.append(int.from_bytes(machine.take(count), "little", signed=True))


def _digits(machine: Machine) -> int:
    return int(machine.line(MAX_DIGITS).removesuffix(b"L"))


def _integer(machine: Machine) -> None:
    line = machine.line(MAX_DIGITS)
    machine.stack.append(line == b"01" if line in (b"00", b"01") else int(line))  # the old way to write a bool


def _python2_text(machine: Machine) -> None:
    line = machine.line(machine.size)
    body = line[1:-1]
    if len(line) < 2 or line[:1] not in (b"'", b'"') or line[-1:] != line[:1]:
        raise ValueError("a text has no quotes")
    if re.search(rb"\\(?![\\'\"nrtx])", body.replace(rb"\\", b"")):  # codecs would only warn
        raise ValueError("a text has an escape that Python 2 does not write")
    machine.add(codecs.escape_decode(body)[0].decode("latin1"))


def _unicode_line(machine: Machine) -> None:
    line = machine.line(machine.size)
    text = line.decode("raw-unicode-escape")
    if b"\\" in line:  # narrow builds of Python 2 wrote a character beyond 16 bits as two halves
        text = text.encode("utf-16", "surrogatepass").decode("utf-16")
    machine.add(text)


def _index(layout: str, use: Callable[[Machine, int], None]) -> Step:
    size, unpack = struct.calcsize(layout), struct.Struct(layout).unpack
    return lambda machine: use(machine, unpack(machine.take(size))[0])


_STEPS: dict[bytes, Step] = {
    b"\x80": _protocol,
    b"\x95": _frame,
    b"N": lambda m: m.stack.append(None),
    b"\x88": lambda m: m.stack.append(True),
    b"\x89": lambda m: m.stack.append(False),
    b"K": _number("<B"),
    b"M": _number("<H"),
    b"J": _number("<i"),
    b"G": _number(">d"),
    b"\x8a": _long,
    b"I": _integer,
    b"L": lambda m: m.stack.append(_digits(m)),
    b"F": lambda m: m.stack.append(float(m.line(2 * MAX_DIGITS))),
    b"S": _python2_text,
    b"U": lambda m: m.add(m.sized("<B").decode("latin1")),
    b"T": lambda m: m.add(m.sized("<I").decode("latin1")),
    b"V": _unicode_line,
    b"\x8c": lambda m: m.add(m.sized("<B").decode()),
    b"X": lambda m: m.add(m.sized("<I").decode()),
    b"\x8d": lambda m: m.add(m.sized("<Q").decode()),
    b"C": lambda m: m.add(m.sized("<B")),
    b"B": lambda m: m.add(m.sized("<I")),
    b"\x8e": lambda m: m.add(m.sized("<Q")),
    b"\x96": lambda m: m.add(m.sized("<Q")),
    b"(": Machine.mark,
    b")": lambda m: m.add(()),
    b"t": lambda m: m.add(tuple(m.marked())),
    b"\x85": lambda m: m.add(tuple(m.last(1))),
    b"\x86": lambda m: m.add(tuple(m.last(2))),
    b"\x87": lambda m: m.add(tuple(m.last(3))),
    b"]": lambda m: m.add([]),
    b"l": lambda m: m.add(m.marked()),
    b"a": lambda m: m.extend(m.last(1)),
    b"e": lambda m: m.extend(m.marked()),
    b"}": lambda m: m.add({}),
    b"d": lambda m: m.add_dict(m.marked()),
    b"s": lambda m: m.fill(m.last(2)),
    b"u": lambda m: m.fill(m.marked()),
    b"p": lambda m: m.put(_digits(m)),
    b"q": _index("<B", Machine.put),
    b"r": _index("<I", Machine.put),
    b"\x94": Machine.put_next,
    b"g": lambda m: m.get(_digits(m)),
    b"h": _index("<B", Machine.get),
    b"j": _index("<I", Machine.get),
    b"c": lambda m: m.name(m.line().decode("latin1"), m.line().decode("latin1")),
    b"\x93": lambda m: m.name(*m.last(2)),
    b"R": Machine.call,
    b"b": Machine.build,
}
_REFUSED = {b"P": "PERSID", b"Q": "BINPERSID", b"i": "INST", b"o": "OBJ", b"\x81": "NEWOBJ", b"\x92": "NEWOBJ_EX",
            b"\x82": "EXT1", b"\x83": "EXT2", b"\x84": "EXT4", b"0": "POP", b"1": "POP_MARK", b"2": "DUP",
            b"\x8b": "LONG4", b"\x8f": "EMPTY_SET", b"\x90": "ADDITEMS", b"\x91": "FROZENSET",
            b"\x97": "NEXT_BUFFER", b"\x98": "READONLY_BUFFER"}  # fmt: skip
