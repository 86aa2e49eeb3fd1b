"""Read HTTP/1.1 requests of clients that nobody knows, from bytes, in bounded memory.

Invariant: a connection that sent `_MOST_REQUEST_BYTES` without a whole request, body included, is
refused with the read that passes it. Of one read at most `_MOST_REQUESTS_AHEAD` are kept.
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
    """A whole request whose body and header fields were dropped.

    Attributes:
        is_last: Whether the connection closes after its answer.
    """

    method: str
    path: str
    is_last: bool


@dataclass(frozen=True, slots=True)
class Refused:
    """Bytes from which no request can be read, nor anything after them."""

    status: HTTPStatus


class RequestReader:
    """Bytes of one connection → requests, in order."""

    def __init__(self) -> None:
        self._read: deque[ProbeRequest | Refused] = deque()
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._unfinished_bytes = 0
        self._too_large = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE

    def next(self) -> ProbeRequest | Refused | None:
        """Return the first that was not returned yet; None if there is none."""
        return self._read.popleft() if self._read else None

    def feed(self, data: bytes) -> None:
        """Read requests from the bytes that follow; of no use after a refusal."""
        self._unfinished_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # The request is answered as any other; see `on_message_complete`.
        except httptools.HttpParserError:
            self._read.append(Refused(HTTPStatus.BAD_REQUEST))
        if self._unfinished_bytes > _MOST_REQUEST_BYTES:
            self._read.append(Refused(self._too_large))

    # The rest is called by the parser. What it raises ends as `HttpParserError`.

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._url = b""
        self._too_large = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE

    def on_url(self, part: bytes) -> None:
        """Take a part of the target."""
        self._url += part

    def on_headers_complete(self) -> None:
        """Record that only a body can be too large from here on."""
        self._too_large = HTTPStatus.REQUEST_ENTITY_TOO_LARGE

    def on_message_complete(self) -> None:
        """Take the request as it is."""
        if len(self._read) == _MOST_REQUESTS_AHEAD:
            raise OverflowError
        parser = self._parser
        path = httptools.parse_url(self._url).path or b""
        goes_on = parser.should_keep_alive() and parser.get_http_version() == "1.1"
        is_last = not goes_on or parser.should_upgrade()
        method = parser.get_method().decode()
        self._read.append(ProbeRequest(method, unquote(path.decode()), is_last))
        self._unfinished_bytes = 0
