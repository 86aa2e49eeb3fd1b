"""An HTTP response's bytes and errors → ours. What status and content mean is left to others."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator

import aiohttp
import httpx

from aimicromind_worker.core.errors import (
    CallFailed,
    EndpointUnavailable,
    Misconfigured,
    StreamCut,
    TlsRefused,
)
from aimicromind_worker.core.failures import failure_of_status

_BEGINNING_BYTES = 16 * 1024
_PIECE_BYTES = 64 * 1024
# What zlib must expect: a header of gzip or zlib, or none.
_WITH_HEADER, _WITHOUT_HEADER = zlib.MAX_WBITS | 32, -zlib.MAX_WBITS


async def beginning(response: httpx.Response) -> bytes:
    """Read as much of a body as an error's text may take."""
    body = bytearray()
    async for chunk in chunks(response):
        body += chunk
        if len(body) > _BEGINNING_BYTES:
            break
    return bytes(body[:_BEGINNING_BYTES])


async def chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    """Give the body as it comes, decompressed, cut anywhere into at most 64 KiB.

    Raises:
        StreamCut: The connection broke.
        Misconfigured: The body is encoded otherwise than was asked for.
    """
    encoding = response.headers.get("Content-Encoding", "identity").strip().lower()
    if encoding not in {"identity", "gzip", "deflate"}:
        # Layers multiply: two of them make gigabytes of kilobytes.
        raise Misconfigured("the endpoint's answer is encoded in a way that was not asked for")
    inflate = None if encoding == "identity" else _Inflate(encoding)
    try:
        async for chunk in response.aiter_raw():
            if inflate is None:
                yield chunk
                continue
            for piece in inflate.pieces(chunk):
                yield piece
                # A thousandfold of what came may follow; others have their turn in between.
                await asyncio.sleep(0)
    except (httpx.HTTPError, aiohttp.ClientError, OSError, zlib.error) as error:
        raise StreamCut(_sentence(error)) from error
    if inflate is not None and not inflate.complete:
        raise StreamCut("it ended within what was compressed")


async def close(response: httpx.Response) -> None:
    """Give the connection up or back, whatever state it is in."""
    try:
        await response.aclose()
    except (httpx.HTTPError, aiohttp.ClientError, OSError, TimeoutError):
        return


def failure_before_answer(error: Exception) -> CallFailed:
    """Tell a request that never left from one that the endpoint may have seen.

    httpx-aiohttp gives both a refused connection and a lost one the name ConnectTimeout, so
    the aiohttp error behind it decides.
    """
    cause = error.__cause__ if isinstance(error, httpx.HTTPError) and error.__cause__ else error
    match cause:
        case aiohttp.ClientConnectorCertificateError() | aiohttp.ClientConnectorSSLError():
            return TlsRefused(_sentence(cause))
        case aiohttp.ClientConnectorError() | aiohttp.ConnectionTimeoutError():
            return EndpointUnavailable(_sentence(cause), request_sent=False)
        case aiohttp.InvalidURL() | ValueError():
            return no_address()
        case _:
            return EndpointUnavailable(f"no response, {_sentence(cause)}")


def no_address() -> Misconfigured:
    """Say that nobody can be called at the address that was set."""
    return Misconfigured("the endpoint's address is not a URL")


async def refuse_redirect(response: httpx.Response) -> None:
    """Stop at a redirect before httpx reads where it leads: some of that it cannot read.

    Raises:
        RedirectRefused: It is one.
    """
    if response.is_redirect:
        raise failure_of_status(response.status_code, "", location_host=_host_of(response))


def _host_of(response: httpx.Response) -> str:
    try:
        return httpx.URL(response.headers.get("Location", "")).host
    except (httpx.InvalidURL, ValueError):
        return ""


def _sentence(error: BaseException) -> str:
    """Say what happened without the text of the bytes that came."""
    if isinstance(error, httpx.HTTPError) and error.__cause__ is not None:
        error = error.__cause__
    match error:
        case aiohttp.ClientConnectorError():
            reason = error.os_error.strerror or type(error.os_error).__name__
            return f"cannot connect to {error.host}:{error.port} ({reason})"
        case aiohttp.ConnectionTimeoutError():
            return "no connection in time"
        case aiohttp.ServerDisconnectedError():
            return "the connection was closed before the response"
        case aiohttp.ClientPayloadError():
            return "the connection was closed within the answer"
        case zlib.error():
            return "the answer is not compressed as it says"
        case OSError():
            return "the connection was reset"
        case _:
            return type(error).__name__


class _Inflate:
    """Decompresses one body, never more at once than a piece: the limits are for its user."""

    def __init__(self, encoding: str) -> None:
        self._zlib = zlib.decompressobj(_WITH_HEADER)
        # Some servers mean by `deflate` what RFC 1951 does, and leave the header out.
        self._may_lack_header = encoding == "deflate"
        self._began = False

    @property
    def complete(self) -> bool:
        """Whether the body has come to its end; one without any byte has."""
        return self._zlib.eof or not self._began

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Give what the next bytes of the body hold.

        Raises:
            zlib.error: They are no such body.
        """
        try:
            piece = self._zlib.decompress(data, _PIECE_BYTES)
        except zlib.error:
            if self._began or not self._may_lack_header:
                raise
            self._zlib = zlib.decompressobj(_WITHOUT_HEADER)
            piece = self._zlib.decompress(data, _PIECE_BYTES)
        self._began = True
        while piece:
            yield piece
            piece = self._zlib.decompress(self._zlib.unconsumed_tail, _PIECE_BYTES)
