"""What jobs and events share on the wire: JSON, values, silence about content."""

import json
import math
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
    StrictInt,
    WithJsonSchema,
)

# An endpoint that cuts its tokens by UTF-16 units sends halves of an emoji, each a lone surrogate.
# They are legal in JSON (RFC 8259, 8.2), so any Python string is taken, not only valid Unicode.
Text = InstanceOf[str]

Count = Annotated[StrictInt, Field(ge=0)]
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


def _refuse(constant: str) -> Never:
    message = f"{constant} is no JSON number"
    raise ValueError(message)


def _finite(digits: str) -> float:
    number = float(digits)
    if math.isinf(number):
        _refuse("infinity")
    return number


_DECODER: Final = json.JSONDecoder(parse_constant=_refuse, parse_float=_finite)
_UTF8: Final = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
_ASCII: Final = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def load_json(body: bytes) -> Any:  # noqa: ANN401 - JSON holds anything
    """Read JSON in UTF-8, lone surrogates included.

    Raises:
        ValueError: Anything else, also when it is nested too deeply.
    """
    try:
        return _DECODER.decode(body.decode())
    except RecursionError as error:
        message = "JSON nested too deeply"
        raise ValueError(message) from error


def dump_json(value: object, *, ascii_only: bool = False) -> bytes:
    r"""Write compact JSON in UTF-8.

    Args:
        value: Dicts, lists or tuples, strings, finite numbers, booleans, None.
        ascii_only: Escape what is not ASCII. Longer, but a lone surrogate can be written.

    Raises:
        UnicodeEncodeError: A lone surrogate, unless `ascii_only`. A ValueError too.
        ValueError: NaN or infinity, or nested too deeply.
        TypeError: A value that JSON does not know.
    """
    encoder = _ASCII if ascii_only else _UTF8
    try:
        return encoder.encode(value).encode()
    except RecursionError as error:
        message = "value nested too deeply for JSON"
        raise ValueError(message) from error


class Quiet:
    """Keeps content out of logs: `repr` and `str` show the named attributes and nothing else."""

    shown: ClassVar[tuple[str, ...]] = ()

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        return [(name, getattr(self, name)) for name in self.shown]
