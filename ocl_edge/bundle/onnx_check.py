"""What an ONNX file may hold before a library gets to see it.

Walks the file's wire format (protocol buffers), so that it needs no ``onnx`` package and sees every
occurrence of a field, whichever of them a library would take. Of a graph only what can reach outside of it is
looked at: where tensors lie, whose operators there are, and loops that need not end.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from ocl_edge.errors import BundleError
from ocl_edge.given_files import read_given, reason_of

MOST_BYTES = 1 << 31
"""The largest message of protocol buffers; larger weights lie in a file of their own."""

VARINT, EIGHT_BYTES, MESSAGE, FOUR_BYTES = 0, 1, 2, 5
FIXED = {EIGHT_BYTES: 8, FOUR_BYTES: 4}

DEEPEST = 8
"""Graphs inside of graphs."""

STANDARD = ("", "ai.onnx")
ENDLESS = ("Loop", "Scan")


class _RefusedError(Exception):
    pass


def check_graph(path: Path, beside: Collection[str]) -> None:
    """Refuse a graph that reaches outside of its bundle.

    Args:
        path: of the ONNX file.
        beside: names of the files that its tensors may lie in.

    Raises:
        BundleError: it is no ONNX file, names another file, has operators of another domain than ONNX's own,
            functions, or loops.
    """
    try:
        _Walk(path.parent, beside).model(memoryview(read_given(path, MOST_BYTES)))
    except OSError as error:
        raise BundleError(f"{path.name} cannot be read: {reason_of(error)}") from error
    except (_RefusedError, IndexError, UnicodeDecodeError) as error:
        reason = error if isinstance(error, _RefusedError) else "it is damaged"
        raise BundleError(f"{path.name} is no graph that is loaded from a bundle: {reason}") from error


class _Walk:
    """Goes through the messages of onnx.proto (https://github.com/onnx/onnx/blob/main/onnx/onnx.proto)."""

    def __init__(self, directory: Path, beside: Collection[str]) -> None:
        self._directory = directory
        self._beside = beside

    def model(self, content: memoryview) -> None:
        graphs = 0
        for number, value in _fields(content):
            if number == 7:
                graphs += 1
                self._graph(_message(value), 0)
            elif number == 8:  # operator sets
                self._operator_set(_message(value))
            elif number in (20, 25):
                raise _RefusedError("it holds training graphs or functions of its own")
            elif number not in (1, 2, 3, 4, 5, 6, 14, 26):
                raise _RefusedError(f"it holds a field {number}, which no ONNX model has")
        if graphs != 1:
            raise _RefusedError(f"it holds {graphs} graphs, expected one")

    def _operator_set(self, content: memoryview) -> None:
        for number, value in _fields(content):
            if number == 1 and _text(value) not in STANDARD:
                raise _RefusedError(f"it needs operators of the domain {_text(value)!r}, expected ONNX's own")

    def _graph(self, content: memoryview, depth: int) -> None:
        if depth > DEEPEST:
            raise _RefusedError(f"its graphs are nested deeper than {DEEPEST}")
        parts: Mapping[int, Callable[[memoryview], None]] = {
            1: lambda node: self._node(node, depth),
            5: self._tensor,
        }
        for number, value in _fields(content):
            if number in parts:
                parts[number](_message(value))
            elif number == 15:
                raise _RefusedError("it holds sparse tensors")

    def _node(self, content: memoryview, depth: int) -> None:
        for number, value in _fields(content):
            if number == 4 and _text(value) in ENDLESS:
                raise _RefusedError(f"it holds a {_text(value)}, which need not end")
            if number == 7 and _text(value) not in STANDARD:
                raise _RefusedError(
                    f"it holds an operator of the domain {_text(value)!r}, expected ONNX's own"
                )
            if number == 5:
                self._attribute(_message(value), depth)

    def _attribute(self, content: memoryview, depth: int) -> None:
        for number, value in _fields(content):
            if number in (5, 10):
                self._tensor(_message(value))
            elif number in (6, 11):
                self._graph(_message(value), depth + 1)
            elif number in (22, 23):
                raise _RefusedError("it holds sparse tensors")

    def _tensor(self, content: memoryview) -> None:
        place: dict[str, str] = {}
        for number, value in _fields(content):
            if number == 13:
                entry = dict(_fields(_message(value)))
                key = _text(entry.get(1, memoryview(b"")))
                if key in place:
                    raise _RefusedError(f"a tensor has two entries {key!r}")
                place[key] = _text(entry.get(2, memoryview(b"")))
        if place:
            self._check_place(place)

    def _check_place(self, place: Mapping[str, str]) -> None:
        name = place.get("location", "")
        if name not in self._beside:
            raise _RefusedError(f"a tensor lies in {name!r}, which is no file of the bundle")
        numbers = [place.get("offset", "0"), place.get("length", "0")]
        if not all(number.isascii() and number.isdecimal() and len(number) < 19 for number in numbers):
            raise _RefusedError(f"a tensor lies at {numbers}, expected offset and length in bytes")
        if sum(map(int, numbers)) > os.stat(self._directory / name).st_size:
            raise _RefusedError(f"a tensor lies beyond the end of {name}")


def _fields(content: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Number and value of every field of a message."""
    at, end = 0, len(content)
    while at < end:
        tag, at = _varint(content, at)
        number, kind = tag >> 3, tag & 7
        value: int | memoryview
        if kind == VARINT:
            value, at = _varint(content, at)
        elif kind == MESSAGE or kind in FIXED:
            length, at = _varint(content, at) if kind == MESSAGE else (FIXED[kind], at)
            if length > end - at:
                raise _RefusedError("it is cut off")
            value, at = content[at : at + length], at + length
        else:
            raise _RefusedError("it is damaged")
        yield number, value


def _varint(content: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise _RefusedError("it is damaged")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise _RefusedError("it is damaged")
    return value


def _text(value: int | memoryview) -> str:
    return bytes(_message(value)).decode()
