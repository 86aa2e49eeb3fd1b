"""Split a JSON object into its members, without building Python objects of their values.

A body of 8 MiB can hold millions of lists, which take 20 times the memory as Python objects. Thus
members stay slices of the body. msgspec checks their syntax without building them.
"""

import codecs
import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import msgspec

from aimicromind_schemas.wire import load_json

_SPACE: Final = rb"[ \t\n\r]*+"
_OPENING: Final = re.compile(_SPACE + rb"\{" + _SPACE)
# Producers in C may send the 0 at the end of a text.
_CLOSING: Final = re.compile(rb"\}[ \t\n\r\0]*+\Z")
_COLON: Final = re.compile(b":" + _SPACE)
_COMMA: Final = re.compile(_SPACE + b"," + _SPACE)
# Most names and values are short and plain: no call of msgspec for these.
_SHORT_NAME: Final = re.compile(rb'"([^"\\\x00-\x1f]{0,200}+)"' + _SPACE + _COLON.pattern)
_SHORT: Final = re.compile(
    rb'(?:"[^"\\\x00-\x1f]{0,500}+"|true|false|null|-?(?:0|[1-9][0-9]{0,15}+)(?![0-9.eE]))' + _SPACE
)
_BEHIND: Final = re.compile(r"trailing characters \(byte (\d+)\)")
_ABSENT: Final = re.compile(rb'(?:null|""|\[[ \t\n\r]*\]|\{[ \t\n\r]*\})?[ \t\n\r]*')
_ANY_STRING: Final = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_SCALAR_BEHIND: Final = re.compile(
    rb"[ \t\n\r]*+:[ \t\n\r]*+(" + _ANY_STRING.pattern + rb"|-?[0-9.eE+-]+)", re.DOTALL
)
LONGEST_BYTES: Final = 128 * 1024
"""Longest value that is built: 16 KiB of tags, with an escape for each character, and spaces."""

_STRINGS_LOOKED_AT: Final = 100_000
_QUOTE: Final = ord('"')
_MOST_RUNS: Final = 1000
_PIECE_BYTES: Final = 64 * 1024

_value: Final = msgspec.json.Decoder(msgspec.Raw).decode


class NotAnObject(ValueError):
    """A body is no JSON object, or no Unicode text; the text says which."""


@dataclass(frozen=True, slots=True)
class Members:
    """The members of an object as slices of its JSON. White space may follow a value.

    Attributes:
        named: Values of the requested members; of equal names, the last.
        others: All other members with their names, in order. Each item is a run of members
            without a requested one between; joined by commas, the runs are valid again.
    """

    named: Mapping[str, memoryview]
    others: tuple[memoryview, ...]


def utf8_of(body: bytes | memoryview) -> memoryview:
    """Return a body as UTF-8 without a byte order mark.

    A body in UTF-16 or UTF-32 is converted. Any other is not copied.

    Raises:
        NotAnObject: It is no Unicode text.
    """
    view = memoryview(body)
    encoding = json.detect_encoding(bytes(view[:4]))
    try:
        match encoding:
            case "utf-8":
                pass
            case "utf-8-sig":
                view = view[len(codecs.BOM_UTF8) :]
            case _:
                return memoryview(str(view, encoding).encode())
        decoder = codecs.getincrementaldecoder("utf-8")()
        for at in range(0, len(view), _PIECE_BYTES):
            decoder.decode(view[at : at + _PIECE_BYTES])
        decoder.decode(b"", final=True)
    except UnicodeError as error:
        raise NotAnObject("no readable JSON, it is not UTF-8") from error
    return view


def members_of(text: memoryview, names: frozenset[str]) -> Members:
    """Split an object, and check the syntax of all of it.

    Args:
        text: JSON in UTF-8, see `utf8_of`.
        names: Names of the members to return by name.

    Raises:
        NotAnObject: It is no JSON object, is nested deeper than msgspec reads, or repeats
            requested names more than 1000 times between others.
    """
    opening = _OPENING.match(text)
    if opening is None:
        raise _no_object(text)
    return _Splitting(text, names).members(opening.end())


def is_absent_text(value: memoryview) -> bool:
    """Return whether a value counts as not sent: null, or an empty string, list or object."""
    return _ABSENT.fullmatch(value) is not None


def short_value(value: memoryview) -> Any:  # noqa: ANN401 - JSON holds anything
    """Build a value of at most `LONGEST_BYTES`.

    Raises:
        ValueError: It is longer, or no JSON.
    """
    if len(value) > LONGEST_BYTES:
        raise ValueError(f"the value has {len(value)} bytes: send at most {LONGEST_BYTES}")
    return load_json(value)


def values_in(body: bytes | memoryview, names: frozenset[str]) -> dict[str, object]:
    """Return short members of an object, which may be broken JSON. It never raises.

    In broken JSON, the first 100,000 strings are searched. Unreadable members are left out.
    """
    try:
        named = members_of(utf8_of(body), names).named
    except NotAnObject:
        return _values_in_broken(_legible(body), names)
    found: dict[str, object] = {}
    for name, value in named.items():
        with suppress(ValueError):
            found[name] = short_value(value)
    return found


def _values_in_broken(text: memoryview, names: frozenset[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    depth = at = 0
    for string in islice(_ANY_STRING.finditer(text), _STRINGS_LOOKED_AT):
        gap = bytes(text[at : string.start()])
        depth += gap.count(b"{") + gap.count(b"[") - gap.count(b"}") - gap.count(b"]")
        at = string.end()
        value = _SCALAR_BEHIND.match(text, at) if depth == 1 else None
        if value is not None:
            with suppress(ValueError):
                name = load_json(string[0])
                if name in names:
                    found[name] = short_value(memoryview(value[1]))
    return found


class _Splitting:
    """Splits one object. `_text` and `_checked` have one length. Thus offsets hold for both."""

    def __init__(self, text: memoryview, names: frozenset[str]) -> None:
        self._text = text
        self._checked = text
        self._names = names

    def members(self, at: int) -> Members:
        named: dict[str, memoryview] = {}
        runs: list[slice] = []
        goes_on = False
        more = _CLOSING.match(self._text, at) is None
        while more:
            key, value_at = self._name(at)
            end = self._end_of_value(value_at)
            if key in self._names:
                named[key] = self._text[value_at:end]
            elif goes_on:
                runs[-1] = slice(runs[-1].start, end)
            else:
                runs.append(slice(at, end))
            goes_on = key not in self._names
            if len(runs) > _MOST_RUNS:
                raise NotAnObject("JSON whose names are repeated too often")
            comma = _COMMA.match(self._text, end)
            more = comma is not None
            at = comma.end() if comma else end
        if _CLOSING.match(self._text, at) is None:
            raise self._broken(at)
        return Members(named, tuple(self._text[run] for run in runs))

    def _name(self, at: int) -> tuple[str, int]:
        """Return the name at an offset, and the offset of its value."""
        short = _SHORT_NAME.match(self._text, at)
        if short is not None:
            return short[1].decode(), short.end()
        end = self._end_of_value(at)
        colon = _COLON.match(self._text, end)
        if colon is None or self._text[at] != _QUOTE:
            raise self._broken(at)
        return load_json(self._text[at:end]), colon.end()

    def _end_of_value(self, at: int) -> int:
        """Return the offset behind a value and the white space after it."""
        short = _SHORT.match(self._text, at)
        if short is not None:
            return short.end()
        try:
            _value(self._checked[at:])
        except msgspec.DecodeError as error:
            # At least the closing brace follows: msgspec reports its offset as trailing characters.
            behind = _BEHIND.search(str(error))
            if behind is not None:
                return at + int(behind[1]) - 1
        except RecursionError:
            raise NotAnObject("JSON nested too deeply") from None
        if self._checked is not self._text:
            raise self._broken(at)
        # msgspec raises on lone surrogates, which JSON allows (RFC 8259, 8.2). For the check only,
        # other escapes of the same length replace them.
        mended = bytes(self._text).replace(rb"\ud", rb"\u0").replace(rb"\uD", rb"\u0")
        self._checked = memoryview(mended)
        return self._end_of_value(at)

    def _broken(self, at: int) -> NotAnObject:
        before = bytes(self._text[:at])
        line, column = before.count(b"\n") + 1, at - before.rfind(b"\n")
        return NotAnObject(f"no readable JSON, line {line} column {column}")


def _no_object(text: memoryview) -> NotAnObject:
    try:
        _value(text)
    except (msgspec.DecodeError, RecursionError):
        return NotAnObject("no readable JSON, line 1 column 1")
    return NotAnObject("JSON, but no object")


def _legible(body: bytes | memoryview) -> memoryview:
    try:
        return utf8_of(body)
    except NotAnObject:
        encoding = json.detect_encoding(bytes(body[:4]))
        if encoding.startswith("utf-8"):
            return memoryview(body)
        return memoryview(str(body, encoding, "replace").encode())
