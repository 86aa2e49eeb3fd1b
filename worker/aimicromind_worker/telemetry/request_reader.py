"""Parse HTTP/1.1 requests of unknown clients in bounded memory.

Invariants:

- A request, body included, has at most `_MOST_REQUEST_BYTES`. A read beyond that ends in `Refused`.
- At most `_MOST_REQUESTS_AHEAD` requests are kept. A read with more ends in `Refused`.
- Nothing that follows a `Refused` can be parsed.
"""

from collections import deque
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import unquote

import httptools

_MOST_REQUEST_BYTES: Final = 8 * 1024
_MOST_REQUESTS_AHEAD: Final = 8


@dataclass(frozen=True, slots=True)
class ProbeRequest:
    """A whole request, without its body and header fields.

    Attributes:
        is_last: Whether the connection closes after the answer.
    """

    method: str
    path: str
    is_last: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """Bytes that are no request; the connection closes with this status."""

    status: HTTPStatus


class RequestReader:
    """Parses the bytes of one connection into requests, in order."""

    def __init__(self) -> None:
        self._read: deque[ProbeRequest | Refused] = deque()
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._unfinished_bytes = 0
        self._too_large = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE

    def next(self) -> ProbeRequest | Refused | None:
        """Return the next request; None if no whole one has arrived."""
        return self._read.popleft() if self._read else None

    def feed(self, data: bytes) -> None:
        """Parse the next bytes; not to be called after a `Refused`."""
        self._unfinished_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # The request is answered like any other: see `on_message_complete`.
        except httptools.HttpParserError:
            self._read.append(Refused(HTTPStatus.BAD_REQUEST))
        if self._unfinished_bytes > _MOST_REQUEST_BYTES:
            self._read.append(Refused(self._too_large))

    # The parser calls the rest. What it raises ends `feed_data` as `HttpParserError`.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url = b""
        self._too_large = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE

    def on_url(self, part: bytes) -> None:
        """Keep a part of the target."""
        self._url += part

    def on_headers_complete(self) -> None:
        """End the head: from here on only the body can be too large."""
        self._too_large = HTTPStatus.REQUEST_ENTITY_TOO_LARGE

    def on_message_complete(self) -> None:
        """Keep the request."""
        if len(self._read) == _MOST_REQUESTS_AHEAD:
            raise OverflowError
        parser = self._parser
        path = httptools.parse_url(self._url).path or b""
        goes_on = parser.should_keep_alive() and parser.get_http_version() == "1.1"
        is_last = not goes_on or parser.should_upgrade()
        method = parser.get_method().decode()
        self._read.append(ProbeRequest(method, unquote(path.decode()), is_last))
        self._unfinished_bytes = 0
