"""Protocol buffers read field by field, without a library and without trusting a length.

Nothing is copied: values are windows into the file's bytes. The encoding is described at
https://protobuf.dev/programming-guides/encoding.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

__all__ = ["FIXED32", "FIXED64", "LENGTH", "VARINT", "Damaged", "Field", "count_varints", "fields", "varints"]

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
"""Wire types: how a field's value is written."""

_SIZES = {FIXED64: 8, FIXED32: 4}
_MOST_VARINT_BYTES = 10
_64_BITS = (1 << 64) - 1


class Damaged(ValueError):
    """Bytes that are no message; caught by who knows the file's name."""


class Field(NamedTuple):
    """A field of a message."""

    number: int
    wire: int  # VARINT, FIXED64, LENGTH or FIXED32
    value: int | memoryview  # an unsigned integer for VARINT, else the bytes

    @property
    def integer(self) -> int:
        """Its unsigned integer. Raises Damaged where it is written as something else."""
        if not isinstance(self.value, int):
            raise Damaged(f"field {self.number} is no integer")
        return self.value

    @property
    def content(self) -> memoryview:
        """The bytes of its text or message. Raises Damaged where it is written as something else."""
        if self.wire != LENGTH or isinstance(self.value, int):
            raise Damaged(f"field {self.number} is no text and no message")
        return self.value

    @property
    def text(self) -> str:
        """Its text. Raises Damaged where it is not UTF-8."""
        try:
            return str(self.content, "utf-8")
        except UnicodeDecodeError:
            raise Damaged(f"field {self.number} is no UTF-8") from None


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of `message` in order. Raises Damaged where a length or number leaves it."""
    place, end = 0, len(message)
    while place < end:
        tag, place = _varint(message, place)
        number, wire = tag >> 3, tag & 7
        if not 0 < number < 1 << 29:
            raise Damaged(f"there is no field {number}")
        if wire == VARINT:
            value, place = _varint(message, place)
            yield Field(number, wire, value)
            continue
        if wire == LENGTH:
            size, place = _varint(message, place)
        elif wire in _SIZES:
            size = _SIZES[wire]
        else:  # groups, which no format of today has
            raise Damaged(f"wire type {wire} is unknown")
        if size > end - place:
            raise Damaged(f"field {number} has {size:,} bytes, {end - place:,} are left")
        yield Field(number, wire, message[place : place + size])
        place += size


def varints(field: Field) -> Iterator[int]:
    """The unsigned integers of a repeated field, one by one or packed."""
    if field.wire == VARINT:
        yield field.integer
        return
    place, content = 0, field.content
    while place < len(content):
        value, place = _varint(content, place)
        yield value


def count_varints(field: Field) -> int:
    """How many integers a repeated field holds, without reading them."""
    if field.wire == VARINT:
        return 1
    # The last byte of each has no continuation bit.
    return int(np.count_nonzero(np.frombuffer(field.content, np.uint8) < 0x80))


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    """The unsigned integer at `place`, and where it ends."""
    value = 0
    for count, byte in enumerate(message[place : place + _MOST_VARINT_BYTES]):
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value & _64_BITS, place + count + 1
    raise Damaged("a number does not end")
