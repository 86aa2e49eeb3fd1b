"""The one table of what the endpoint's statuses and error texts mean.

Texts are what a Flowise 3.1 server and the model clients in it were seen to write. They are
matched without regard to case, first match wins; a text that matches nothing is an
`EndpointError`.
"""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Final

from aimicromind_worker.core.errors import (
    BadRequest,
    CallFailed,
    ChatflowNotFound,
    EndpointError,
    EndpointUnavailable,
    Forbidden,
    Misconfigured,
    RateLimited,
    RedirectRefused,
    RequestTooLarge,
    RunAborted,
    Unauthorized,
)

_Make = Callable[[str], CallFailed]

# fmt: off
_TEXTS: Final[tuple[tuple[re.Pattern[str], _Make], ...]] = tuple(
    (re.compile(pattern, re.IGNORECASE), make)
    for pattern, make in (
        (r"operation was aborted|\baborted\b.{0,40}\buser\b",                RunAborted),
        (r"\bunauthori[sz]ed\b|\b401\b|incorrect api key|invalid api key", Unauthorized),
        (r"\b429\b|rate.?limit|too many requests|quota",                RateLimited),
        (r"\bforbidden\b|\b403\b|not allowed to access",                Forbidden),
        (r"\boverloaded\b|\b50[234]\b|service unavailable|bad gateway", EndpointUnavailable),
        (r"connection error|unreachable|econn|etimedout|enotfound|eai_again", EndpointUnavailable),
        (r"socket hang up|fetch failed|timed out|(^|- )terminated\W*$", EndpointUnavailable),
        (r"\b400\b|bad request|invalid_request|context length|413\b",   BadRequest),
        (r"invalid json|mime type|not supported|is required|no longer supported", BadRequest),
    )
)
# fmt: on
_LONGEST_READ = 2000
_GATEWAY_TIMEOUTS = (504, 524)
# A gateway answers in place of the server; 52x and 530 are Cloudflare's.
_GATEWAY = frozenset((502, 503, 504, *range(520, 528), 530, 598, 599))
_KEY_REFUSED = re.compile(r"\bbuildChatflow - Unauthorized\W*$")
_UNKNOWN_FLOW = re.compile(r"chatflow\s+(\S{1,128})\s+not found", re.IGNORECASE)


def unknown_flow(text: str) -> ChatflowNotFound | None:
    """Say whether this text tells that a flow does not exist."""
    found = _UNKNOWN_FLOW.search(text)
    return ChatflowNotFound(found[1]) if found else None


def failure_of_text(text: str) -> CallFailed:
    """Classify the text of an `error` frame, which comes with status 200 and no code."""
    text = text[:_LONGEST_READ]
    missing = unknown_flow(text)
    if missing is not None:
        return missing
    for pattern, make in _TEXTS:
        if pattern.search(text):
            failure = make(text)
            failure.by_server = _KEY_REFUSED.search(text) is not None
            return failure
    return EndpointError(text)


def failure_of_status(
    status: int, text: str, *, retry_after: timedelta | None = None, location_host: str = ""
) -> CallFailed:
    """Classify a response whose status is not 200.

    Args:
        status: The HTTP status.
        text: The error text of the body, or its beginning.
        retry_after: The header of that name, read by `read_retry_after`.
        location_host: Where a redirect points to.
    """
    failure = _failure_of_status(status, text or f"HTTP {status}", location_host)
    failure.http_status = status
    # The gateway waited for the endpoint no longer; that goes on.
    failure.run_goes_on = status in _GATEWAY_TIMEOUTS
    failure.speaks_for_server = status in _GATEWAY
    if isinstance(failure, RateLimited | EndpointUnavailable):
        failure.retry_after = retry_after
    return failure


def _failure_of_status(status: int, text: str, location_host: str) -> CallFailed:
    match status:
        case 401:
            refused = Unauthorized(text)
            refused.by_server = True
            return refused
        case 403:
            return Forbidden(text)
        case 404:
            return unknown_flow(text) or Misconfigured("HTTP 404: nothing answers at this address")
        case 413:
            return RequestTooLarge()
        case 429:
            return RateLimited(text)
        case 408 | 425 | 502 | 503 | 504:
            return EndpointUnavailable(f"HTTP {status}: {text}")
        case _ if 300 <= status < 400:  # noqa: PLR2004 - the class of redirects
            return RedirectRefused(location_host or "another address", http_status=status)
        case _ if 400 <= status < 500:  # noqa: PLR2004 - the class of client errors
            return BadRequest(f"HTTP {status}: {text}")
        case _:
            return failure_of_text(text)


def read_retry_after(value: str | None, now: datetime) -> timedelta | None:
    """Read a Retry-After header (RFC 9110 10.2.3): seconds or a date, never negative.

    Returns:
        The wait, at most a day; None for no header or one that makes no sense.
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
    return min(max(wait, timedelta()), timedelta(days=1))
