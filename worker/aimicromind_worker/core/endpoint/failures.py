"""Decide which failure a status or error text of the endpoint means, and what wait it asks for."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

import msgspec

from aimicromind_worker.core.endpoint.call_failed import CallFailed, Lasting, is_from_gateway
from aimicromind_worker.core.endpoint.errors import (
    BadRequest,
    ChatflowNotFound,
    EndpointError,
    EndpointUnavailable,
    Forbidden,
    Misconfigured,
    RateLimited,
    RedirectRefused,
    RequestTooLarge,
    Unauthorized,
)
from aimicromind_worker.core.endpoint.failure_table import TABLE
from aimicromind_worker.core.endpoint.failure_table.row import beginnings

_LONGEST_READ = 1000
_LONGEST_WAIT = timedelta(days=1)
# The gateway gave up waiting; the run behind it may go on.
_GATEWAY_TIMEOUTS: Final = (504, 524, 598)
_COME_AGAIN: Final = (408, 425)
_KEY_REFUSED = re.compile(r"(?:\bbuildChatflow - Unauthorized|^Unauthorized Access)\W*$")
_UNKNOWN_FLOW = re.compile(r"chatflow\s+(\S{1,128})\s+not found", re.IGNORECASE)
_ASKS_TO_WAIT = re.compile(
    r"\b(?:(?:try|retry(?:ing)?|wait|resets?)\b[^.;\n]{0,40}?\b(?:in|after|for)|wait"
    r"|retry[-_ ]?(?:after|delay|in))\b[\s\"':=]{0,4}(?:at least |about |another )?(?=\d)",
    re.IGNORECASE,
)
_RETRY_AFTER = re.compile(
    r"\bretry[-_ ]?after[\s\"':=]{1,4}(\d{1,9})(?![\d.]|\s?[\w/])", re.IGNORECASE
)
_SPAN = re.compile(
    r"(?:\s|,|and){0,3}(\d{1,9}(?:\.\d{1,9})?)\s?"
    r"(ms|milliseconds?|s|sec(?:ond)?s?|m|min(?:ute)?s?|h|hrs?|hours?|d|days?)(?![a-z])",
    re.IGNORECASE,
)
_SECONDS = {"ms": 0.001, "mi": 60.0, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


def unknown_flow(text: str) -> ChatflowNotFound | None:
    """Return the failure for a text that says that a flow does not exist, else None."""
    found = _UNKNOWN_FLOW.search(text)
    return ChatflowNotFound(found[1]) if found else None


def failure_of_text(text: str) -> CallFailed:
    """Return the failure that the text of an `error` frame means; such frames have no code."""
    text = text[:_LONGEST_READ]
    failure = unknown_flow(text) or _by_the_table(text)
    failure.by_server = _KEY_REFUSED.search(text) is not None
    failure.run_is_over = True
    if not isinstance(failure, Lasting):
        failure.retry_after = read_wait(text)
    return failure


def _by_the_table(text: str) -> CallFailed:
    places = beginnings(text)
    for row in TABLE:
        if row.fits(text, places):
            return row.meaning(text)
    return EndpointError(text)


def failure_of_status(
    status: int, text: str, *, retry_after: timedelta | None = None, location_host: str = ""
) -> CallFailed:
    """Return the failure that a status means.

    Args:
        status: HTTP status outside 200 to 299.
        text: Message in the JSON of the body, else empty.
        retry_after: Header `Retry-After`, read by `read_retry_after`.
        location_host: Host that a redirect names.
    """
    failure = _failure_of_status(status, text, location_host)
    failure.http_status = status
    failure.run_goes_on = status in _GATEWAY_TIMEOUTS
    failure.speaks_for_server = is_from_gateway(status)
    failure.run_is_over = not failure.speaks_for_server
    if isinstance(failure, RateLimited | EndpointUnavailable):
        failure.retry_after = read_wait(text) if retry_after is None else retry_after
    return failure


def _failure_of_status(status: int, text: str, location_host: str) -> CallFailed:
    told = f"HTTP {status}: {text}" if text else f"HTTP {status}"
    match status:
        case 401:
            refused = Unauthorized(told)
            refused.by_server = True
            return refused
        case 403:
            return Forbidden(told)
        case 404:
            return unknown_flow(text) or Misconfigured("HTTP 404: nothing answers at this address")
        case 413:
            return RequestTooLarge()
        case 429:
            return RateLimited(told)
        case _ if status in _COME_AGAIN or is_from_gateway(status):
            return EndpointUnavailable(text, because=f"HTTP {status}", http_status=status)
        case _ if 300 <= status < 400:  # noqa: PLR2004 - the class of redirects
            return RedirectRefused(location_host or "another address", http_status=status)
        case _ if 400 <= status < 500:  # noqa: PLR2004 - the class of client errors
            return BadRequest(told)
        case _:
            return failure_of_text(text) if text else EndpointError(told)


def error_text(body: bytes) -> str:
    """Return the text in `message` or `error` of an error's JSON, empty if there is none.

    Providers and proxies write an object with a `message` in `error`.
    """
    try:
        told = msgspec.json.decode(body, type=dict[str, object])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    error = told.get("error")
    inner = error.get("message") if isinstance(error, dict) else error
    return next((it for it in (told.get("message"), inner) if it and isinstance(it, str)), "")


def read_wait(text: str) -> timedelta | None:
    """Return the wait in a text, such as "try again in 1m3.5s" or "retry after 20 seconds".

    Returns:
        The wait, at most a day; None where the text has none.
    """
    for asked in _ASKS_TO_WAIT.finditer(text):
        seconds = sum(_spans(text, asked.end()))
        if seconds:
            return _at_most_a_day(seconds)
    asked_in_seconds = _RETRY_AFTER.search(text)
    return _at_most_a_day(int(asked_in_seconds[1])) if asked_in_seconds else None


def _at_most_a_day(seconds: float) -> timedelta:
    return timedelta(seconds=min(seconds, _LONGEST_WAIT.total_seconds()))


def _spans(text: str, place: int) -> Iterator[float]:
    """Yield the parts of a wait in seconds: hours, minutes and seconds follow each other."""
    while (part := _SPAN.match(text, place)) is not None:
        unit = part[2].lower()
        yield float(part[1]) * (_SECONDS.get(unit[:2]) or _SECONDS[unit[:1]])
        place = part.end()


def read_retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Return the wait in a header `Retry-After` (RFC 9110 10.2.3): seconds, or a date.

    Returns:
        The wait, from 0 to a day; None without a readable header.
    """
    if value is None:
        return None
    try:
        if value.strip().isdecimal():
            wait = timedelta(seconds=int(value[:9]))
        else:
            date = parsedate_to_datetime(value)
            wait = (date if date.tzinfo else date.replace(tzinfo=UTC)) - now
    except (ValueError, OverflowError):
        return None
    return min(max(wait, timedelta()), _LONGEST_WAIT)
