"""Common parts of jobs and events: JSON, types of values, and `repr` without content."""

import json
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated, Any, ClassVar, Final, Never

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BeforeValidator,
    Field,
    InstanceOf,
    Strict,
    StrictInt,
    WithJsonSchema,
)

from aimicromind_schemas import odd_json

# An endpoint that cuts tokens by UTF-16 units sends halves of an emoji, which are lone surrogates.
# JSON allows them (RFC 8259, 8.2). Thus any Python string is valid, not only Unicode text.
Text = InstanceOf[str]


def whole(value: object) -> object:
    """Return 3 for 3.0, and other values unchanged: for JSON Schema, both are integers."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[StrictInt, BeforeValidator(whole, json_schema_input_type=int)]
_Natural = Annotated[int, Field(ge=0)]
Count = Annotated[_Natural, Strict(), BeforeValidator(whole, json_schema_input_type=_Natural)]
Seconds = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]

# RFC 3339, 5.6. `datetime.fromisoformat` alone also accepts week dates and naive times.
_RFC3339_PATTERN: Final = r"^\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$"
_RFC3339: Final = re.compile(_RFC3339_PATTERN, re.ASCII)


def _parsed_time(value: object) -> datetime:
    if isinstance(value, str) and _RFC3339.fullmatch(value):
        return datetime.fromisoformat(value.upper())
    if isinstance(value, datetime):
        return value
    message = "expected an RFC 3339 time with its offset"
    raise ValueError(message)


def _in_utc(value: datetime) -> datetime:
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        message = "expected a time between the years 1 and 9999 in UTC"
        raise ValueError(message) from error


UtcTime = Annotated[
    AwareDatetime,
    BeforeValidator(_parsed_time),
    AfterValidator(_in_utc),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": _RFC3339_PATTERN}),
]
"""A time: RFC 3339 with an offset in JSON, an aware datetime in UTC in Python."""


def time_text(time: datetime) -> str:
    """Return a UTC time as RFC 3339, with microseconds and `Z`."""
    return time.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def refuse_constant(constant: str) -> Never:
    """Raise ValueError for NaN and Infinity, which Python reads and JSON does not have."""
    message = f"{constant} is no JSON number"
    raise ValueError(message)


_DECODER: Final = json.JSONDecoder(parse_constant=refuse_constant)
_LONG_NUMBERS: Final = json.JSONDecoder(
    parse_constant=refuse_constant, parse_int=odd_json.whole_number
)
_UTF8: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_ASCII: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def load_json(body: bytes | memoryview) -> Any:  # noqa: ANN401 - JSON holds anything
    """Read JSON in UTF-8, with lone surrogates, huge numbers and deep nesting, as JavaScript does.

    A number beyond the range of a double is infinity. Of equal names in an object, the last counts.

    Raises:
        ValueError: It is no JSON in UTF-8, or has more levels than `odd_json.MAX_DEPTH`.
    """
    text = str(body, "utf-8")
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        # Python raises on integers of more than 4,300 digits.
        return _load_long_numbers(text)
    except RecursionError:
        return odd_json.load(text)


def _load_long_numbers(text: str) -> Any:  # noqa: ANN401 - see load_json
    try:
        return _LONG_NUMBERS.decode(text)
    except RecursionError:
        return odd_json.load(text)


def dump_json(value: object, *, ascii_only: bool = False) -> bytes:
    """Return compact JSON in UTF-8; `load_json` returns an equal value.

    Args:
        value: Dicts, lists or tuples, strings, numbers, booleans, None. Infinity becomes `1e999`.
        ascii_only: Escape all characters that are not ASCII, lone surrogates included.

    Raises:
        UnicodeEncodeError: A lone surrogate, without `ascii_only`. This is a ValueError.
        ValueError: NaN, a container that holds itself, or more levels than `odd_json.MAX_DEPTH`.
        TypeError: A value of a type that JSON does not have.
    """
    return json_text(value, ascii_only=ascii_only).encode()


def json_text(value: object, *, ascii_only: bool = False) -> str:
    """Return JSON as `dump_json` does, as text, which may hold lone surrogates.

    Raises:
        ValueError, TypeError: See `dump_json`.
    """
    encoder = _ASCII if ascii_only else _UTF8
    try:
        return encoder.encode(value)
    except (ValueError, RecursionError):
        return odd_json.dump(value, encoder)


def json_of(value: object) -> bytes:
    """Return compact JSON in UTF-8, or in ASCII if it has a lone surrogate.

    Raises:
        ValueError, TypeError: See `dump_json`.
    """
    try:
        return dump_json(value)
    except UnicodeEncodeError:
        return dump_json(value, ascii_only=True)


class Quiet:
    """Keeps content out of logs: `repr` and `str` show the attributes in `shown` only."""

    shown: ClassVar[tuple[str, ...]] = ()

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [(name, getattr(self, name)) for name in self.shown]
