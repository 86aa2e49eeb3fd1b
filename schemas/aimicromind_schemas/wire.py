"""What jobs and events share on the wire: JSON, values, silence about content."""

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

# An endpoint that cuts its tokens by UTF-16 units sends halves of an emoji, each a lone surrogate.
# They are legal in JSON (RFC 8259, 8.2), so any Python string is taken, not only valid Unicode.
Text = InstanceOf[str]


def whole(value: object) -> object:
    """Read 3.0 as 3: JSON knows numbers alone, and JSON Schema takes either for an integer."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Whole = Annotated[StrictInt, BeforeValidator(whole, json_schema_input_type=int)]
_Natural = Annotated[int, Field(ge=0)]
Count = Annotated[_Natural, Strict(), BeforeValidator(whole, json_schema_input_type=_Natural)]
Seconds = Annotated[float, Field(ge=0, strict=True, allow_inf_nan=False)]

# RFC 3339, 5.6. `datetime.fromisoformat` alone would take week dates and naive times as well.
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
"""A moment: RFC 3339 text with an offset on the wire, an aware datetime in UTC in Python."""


def time_text(time: datetime) -> str:
    """Write a UTC time with six digits of a second and a Z."""
    return time.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def refuse_constant(constant: str) -> Never:
    """Refuse NaN and Infinity, which Python reads and JSON does not know."""
    message = f"{constant} is no JSON number"
    raise ValueError(message)


_DECODER: Final = json.JSONDecoder(parse_constant=refuse_constant)
_LONG_NUMBERS: Final = json.JSONDecoder(
    parse_constant=refuse_constant, parse_int=odd_json.whole_number
)
_UTF8: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_ASCII: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def load_json(body: bytes | memoryview) -> Any:  # noqa: ANN401 - JSON holds anything
    """Read JSON in UTF-8 as JavaScript does: lone surrogates, huge numbers, deep nesting included.

    A number beyond a double is infinity. Of equal names in an object the last counts.

    Raises:
        ValueError: It is no JSON, or has more levels than `odd_json.MAX_DEPTH`.
    """
    text = str(body, "utf-8")
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        raise
    except ValueError:
        # Python converts no integer of more than 4,300 digits.
        return _load_long_numbers(text)
    except RecursionError:
        return odd_json.load(text)


def _load_long_numbers(text: str) -> Any:  # noqa: ANN401 - see load_json
    try:
        return _LONG_NUMBERS.decode(text)
    except RecursionError:
        return odd_json.load(text)


def dump_json(value: object, *, ascii_only: bool = False) -> bytes:
    """Write compact JSON in UTF-8; `load_json` reads an equal value.

    Args:
        value: Dicts, lists or tuples, strings, numbers, booleans, None. Infinity is written as
            `1e999`.
        ascii_only: Escape what is not ASCII. Longer, but a lone surrogate can be written.

    Raises:
        UnicodeEncodeError: A lone surrogate, unless `ascii_only`. A ValueError too.
        ValueError: NaN, a container that holds itself, or more levels than `odd_json.MAX_DEPTH`.
        TypeError: A value that JSON does not know.
    """
    return json_text(value, ascii_only=ascii_only).encode()


def json_text(value: object, *, ascii_only: bool = False) -> str:
    """Write JSON as `dump_json` does, as text, which may hold lone surrogates."""
    encoder = _ASCII if ascii_only else _UTF8
    try:
        return encoder.encode(value)
    except (ValueError, RecursionError):
        return odd_json.dump(value, encoder)


def json_of(value: object) -> bytes:
    """Write compact JSON in UTF-8; a lone surrogate makes it ASCII.

    Raises:
        ValueError, TypeError: See `dump_json`.
    """
    try:
        return dump_json(value)
    except UnicodeEncodeError:
        return dump_json(value, ascii_only=True)


class Quiet:
    """Keeps content out of logs: `repr` and `str` show the named attributes and nothing else."""

    shown: ClassVar[tuple[str, ...]] = ()

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [(name, getattr(self, name)) for name in self.shown]
