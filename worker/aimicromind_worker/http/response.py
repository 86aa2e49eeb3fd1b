"""Read an HTTP response's body, and translate the HTTP library's errors into failures of a call.

Invariants:

- A body is never decompressed whole: its reader gets bounded pieces and counts them itself.
- More than one layer of compression is refused, because layers multiply the size.
- Error sentences hold no bytes of the response.
"""

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import suppress

import httpx

from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.errors import (
    EndpointUnavailable,
    Misconfigured,
    StreamCut,
    TlsRefused,
)
from aimicromind_worker.core.endpoint.exchange import Body, Take
from aimicromind_worker.core.endpoint.failures import failure_of_status
from aimicromind_worker.http.inflate import Inflate
from aimicromind_worker.http.transport import BODY

_BEGINNING_BYTES = 16 * 1024
# `none` is no content coding of RFC 9110 8.4.1, but some servers write it.
_NO_ENCODING = ("", "identity", "none")


def content_type_of(response: httpx.Response) -> str:
    """Return the media type; a header that is there twice counts once."""
    parts = response.headers.get("Content-Type", "").split(",")
    return ", ".join(dict.fromkeys(it.partition(";")[0].strip().lower() for it in parts))


async def beginning(response: httpx.Response) -> bytes:
    """Read the first 16 KiB of a body, which hold the text of an error."""
    body = bytearray()
    async for chunk in chunks(response):
        body += chunk
        if len(body) > _BEGINNING_BYTES:
            break
    return bytes(body[:_BEGINNING_BYTES])


async def chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the body as it arrives, decompressed, cut anywhere.

    Raises:
        StreamCut: The connection broke, or the body is not compressed as announced.
        Misconfigured: The body has an encoding that cannot be read.
    """
    inflate = _inflate_for(response)
    try:
        async for chunk in response.aiter_raw():
            if inflate is None:
                yield chunk
                continue
            for piece in inflate.pieces(chunk):
                yield piece
                # A chunk may expand a thousandfold; other tasks run in between.
                await asyncio.sleep(0)
    except (httpx.TransportError, zlib.error) as error:
        raise StreamCut(_sentence(error)) from error
    if inflate is not None and not inflate.complete:
        raise StreamCut("it ended within compressed data")


def body_of(response: httpx.Response) -> Body:
    """Return the body, decompressed, for a reader that pumps it.

    Raises:
        Misconfigured: The body has an encoding that cannot be read.
    """
    if _inflate_for(response) is not None:
        return _Pulled(chunks(response))
    pushed: Body = response.extensions[BODY]
    return _Pushed(pushed)


async def close(response: httpx.Response) -> None:
    """Close the connection, or keep it for the next request."""
    with suppress(httpx.HTTPError, OSError):
        await response.aclose()


def failure_before_answer(error: Exception) -> CallFailed:
    """Distinguish a request that was never sent from one that may have arrived."""
    match error:
        case httpx.ConnectError(__cause__=ssl.SSLError()):
            return TlsRefused(_sentence(error))
        case httpx.ConnectError() | httpx.ConnectTimeout():
            return EndpointUnavailable(because=_sentence(error), request_sent=False)
        case httpx.LocalProtocolError():
            return Misconfigured("a header of the request holds a line end or NUL")
        case httpx.UnsupportedProtocol() | ValueError():
            return no_address()
        case _:
            lost = EndpointUnavailable(because=f"no response, {_sentence(error)}")
            lost.run_goes_on = lost.speaks_for_server = True
            return lost


def no_address() -> Misconfigured:
    """Return the failure of a call whose address is no URL."""
    return Misconfigured("the endpoint's address is not a URL")


async def refuse_redirect(response: httpx.Response) -> None:
    """Fail a redirect before httpx reads its `Location`, which may be unreadable.

    Raises:
        RedirectRefused: The response is a redirect.
    """
    if response.is_redirect:
        raise failure_of_status(response.status_code, "", location_host=_host_of(response))


def _host_of(response: httpx.Response) -> str:
    try:
        return httpx.URL(response.headers.get("Location", "")).host
    except (httpx.InvalidURL, ValueError):
        return ""


def _sentence(error: Exception) -> str:
    """Describe an error without the bytes of the response."""
    match error:
        case httpx.TransportError():
            return str(error)
        case zlib.error():
            return "the answer is not compressed as its Content-Encoding says"
        case _:
            return type(error).__name__


def _inflate_for(response: httpx.Response) -> Inflate | None:
    lines = response.headers.get_list("Content-Encoding")
    # A proxy may repeat the header of the server behind it, which adds no layer.
    listed = dict.fromkeys(line.strip().lower() for line in lines)
    layers = [it.strip() for line in listed for it in line.split(",")]
    layers = [it for it in layers if it not in _NO_ENCODING]
    match layers:
        case []:
            return None
        case ["gzip" | "x-gzip" | "deflate" as encoding]:
            return Inflate(encoding)
        case _:
            raise Misconfigured(
                f"the endpoint's answer has Content-Encoding {', '.join(layers)}, "
                "and only gzip or deflate can be read"
            )


class _Pushed:
    """A body whose connection pushes its parts."""

    def __init__(self, body: Body) -> None:
        self._body = body

    async def pump(self, take: Take) -> bool:
        try:
            return await self._body.pump(take)
        except httpx.TransportError as error:
            raise StreamCut(_sentence(error)) from error


class _Pulled:
    """A body that is decompressed piece by piece."""

    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    async def pump(self, take: Take) -> bool:
        async for piece in self._pieces:
            if not take(piece):
                return True
        return False
