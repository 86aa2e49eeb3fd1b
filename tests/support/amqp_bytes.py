"""Properties of messages as bytes, of every type that RabbitMQ's parser knows, for hypothesis."""

import struct
from typing import Final

from hypothesis import strategies as st

from tests.support.raw import named, table

WIDTHS: Final = {
    "t": 1, "b": 1, "B": 1, "s": 2, "u": 2, "I": 4, "i": 4, "l": 8, "L": 8, "f": 4, "d": 8,
    "D": 5, "T": 8, "V": 0,
}  # fmt: skip
FLAGS: Final = tuple(1 << bit for bit in range(15, 1, -1))
HEADERS_FLAG, MODE_FLAG, TIME_FLAG = 1 << 13, 1 << 12, 1 << 6

_short = st.binary(max_size=255)


def _fixed(kind: str) -> st.SearchStrategy[bytes]:
    width = WIDTHS[kind]
    return st.binary(min_size=width, max_size=width).map(lambda it: kind.encode() + it)


def _long(kind: str) -> st.SearchStrategy[bytes]:
    return st.binary(max_size=40).map(lambda it: kind.encode() + table(it))


def _fields(values: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    names = st.one_of(st.sampled_from([b"", b"a", b"x-death", b"x-aimicromind-guard"]), _short)
    return st.lists(st.builds(named, names, values), max_size=6).map(b"".join)


_flat: Final = st.one_of(*map(_fixed, WIDTHS), _long("S"), _long("x"))
values: Final = st.recursive(
    _flat,
    lambda inner: st.one_of(
        _fields(inner).map(lambda it: b"F" + table(it)),
        st.lists(inner, max_size=6).map(lambda it: b"A" + table(b"".join(it))),
    ),
    max_leaves=30,
)
header_tables: Final = _fields(values).map(table)


def _property(flag: int) -> st.SearchStrategy[bytes]:
    if flag == HEADERS_FLAG:
        return header_tables
    if flag == TIME_FLAG:
        return st.binary(min_size=8, max_size=8)
    if flag in {MODE_FLAG, MODE_FLAG >> 1}:
        return st.binary(min_size=1, max_size=1)
    return _short.map(lambda it: bytes([len(it)]) + it)


@st.composite
def content_headers(draw: st.DrawFn) -> bytes:
    """A payload that RabbitMQ accepts; the two low flags have no meaning."""
    flags = draw(st.sets(st.sampled_from(FLAGS)))
    low = draw(st.integers(0, 3))
    size = draw(st.integers(0, 2**63))
    properties = b"".join(draw(_property(flag)) for flag in sorted(flags, reverse=True))
    return struct.pack(">HHQH", 60, 0, size, sum(flags) | low) + properties
