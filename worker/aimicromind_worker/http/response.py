"""An HTTP response's bytes and errors → ours. What status and content mean is left to others."""

import asyncio
import ssl
import zlib
from collections.abc import AsyncIterator, Iterator
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
from aimicromind_worker.http.transport import BODY

_BEGINNING_BYTES = 16 * 1024
_PIECE_BYTES = 64 * 1024
_SLICE_BYTES = 4 * 1024
_GZIP = b"\x1f"
# `none` is no content coding of RFC 9110 8.4.1, but some servers write it.
_NO_ENCODING = ("", "identity", "none")
# What zlib must expect: a header of gzip or zlib, or none.
_WITH_HEADER, _WITHOUT_HEADER = zlib.MAX_WBITS | 32, -zlib.MAX_WBITS


def content_type_of(response: httpx.Response) -> str:
    """Return the media type; a line that came twice counts once."""
    parts = response.headers.get("Content-Type", "").split(",")
    return ", ".join(dict.fromkeys(it.partition(";")[0].strip().lower() for it in parts))


async def beginning(response: httpx.Response) -> bytes:
    """Read as much of a body as an error's text may take."""
    body = bytearray()
    async for chunk in chunks(response):
        body += chunk
        if len(body) > _BEGINNING_BYTES:
            break
    return bytes(body[:_BEGINNING_BYTES])


async def chunks(response: httpx.Response) -> AsyncIterator[bytes]:
    """Yield the body as it comes, decompressed, cut anywhere.

    Raises:
        StreamCut: The connection broke.
        Misconfigured: The body is encoded otherwise than was asked for.
    """
    inflate = _inflate_for(response)
    try:
        async for chunk in response.aiter_raw():
            if inflate is None:
                yield chunk
                continue
            for piece in inflate.pieces(chunk):
                yield piece
                # A thousandfold of what came may follow; others have their turn in between.
                await asyncio.sleep(0)
    except (httpx.TransportError, zlib.error) as error:
        raise StreamCut(_sentence(error)) from error
    if inflate is not None and not inflate.complete:
        raise StreamCut("it ended within what was compressed")


def body_of(response: httpx.Response) -> Body:
    """Return the body to be pumped, decompressed.

    Raises:
        Misconfigured: It is encoded otherwise than was asked for.
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
            return Misconfigured("the request cannot be written: its headers make no sense")
        case httpx.UnsupportedProtocol() | ValueError():
            return no_address()
        case _:
            lost = EndpointUnavailable(because=f"no response, {_sentence(error)}")
            lost.run_goes_on = lost.speaks_for_server = True
            return lost


def no_address() -> Misconfigured:
    """Return that nobody can be called at the address that was set."""
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


def _sentence(error: Exception) -> str:
    """Return what happened without the text of the bytes that came."""
    match error:
        case httpx.TransportError():
            return str(error)
        case zlib.error():
            return "the answer is not compressed as it says"
        case _:
            return type(error).__name__


def _inflate_for(response: httpx.Response) -> "_Inflate | None":
    lines = response.headers.get_list("Content-Encoding")
    # A proxy may repeat the line of the server behind it, which adds no layer.
    listed = dict.fromkeys(line.strip().lower() for line in lines)
    layers = [it.strip() for line in listed for it in line.split(",")]
    layers = [it for it in layers if it not in _NO_ENCODING]
    match layers:
        case []:
            return None
        case ["gzip" | "x-gzip" | "deflate" as encoding]:
            return _Inflate(encoding)
        case _:
            # Layers multiply: two of them make gigabytes of kilobytes.
            raise Misconfigured(
                f"the endpoint's answer is encoded as {', '.join(layers)}, which nobody asked for"
            )


class _Pushed:
    def __init__(self, body: Body) -> None:
        self._body = body

    async def pump(self, take: Take) -> bool:
        try:
            return await self._body.pump(take)
        except httpx.TransportError as error:
            raise StreamCut(_sentence(error)) from error


class _Pulled:
    def __init__(self, pieces: AsyncIterator[bytes]) -> None:
        self._pieces = pieces

    async def pump(self, take: Take) -> bool:
        async for piece in self._pieces:
            if not take(piece):
                return True
        return False


class _Inflate:
    """Decompresses one body, never more at once than a piece: the limits are for its user."""

    def __init__(self, encoding: str) -> None:
        self._zlib = zlib.decompressobj(_WITH_HEADER)
        # Some servers mean by `deflate` what RFC 1951 does, and leave the header out.
        self._may_lack_header = encoding == "deflate"
        self._may_have_members = encoding != "deflate"
        self._began = False

    @property
    def complete(self) -> bool:
        """Whether the body has come to its end; one without any byte has."""
        return self._zlib.eof or not self._began

    def pieces(self, data: bytes) -> Iterator[bytes]:
        """Yield what the next bytes of the body hold.

        Raises:
            zlib.error: They are no such body.
        """
        # zlib copies what follows a member: of a slice, not of all that came.
        for start in range(0, len(data), _SLICE_BYTES):
            yield from self._pieces(data[start : start + _SLICE_BYTES])

    def _pieces(self, data: bytes) -> Iterator[bytes]:
        while data := self._next_member(data):
            piece = self._decompress(data)
            while piece:
                yield piece
                piece = self._zlib.decompress(self._zlib.unconsumed_tail, _PIECE_BYTES)
            data = self._zlib.unused_data if self._zlib.eof else b""

    def _next_member(self, data: bytes) -> bytes:
        """Skip what is no member, and prepare for one that begins.

        RFC 1952 2.2: a gzip file is a series of members. As `gzip` does, zeros behind one are
        skipped, and other bytes end the body; whether the answer is whole is seen by its content.
        """
        if not self._zlib.eof:
            return data
        data = data.lstrip(b"\0")
        if not (self._may_have_members and data.startswith(_GZIP)):
            self._may_have_members = self._may_have_members and not data
            return b""
        self._zlib = zlib.decompressobj(_WITH_HEADER)
        return data

    def _decompress(self, data: bytes) -> bytes:
        try:
            piece = self._zlib.decompress(data, _PIECE_BYTES)
        except zlib.error:
            if self._began or not self._may_lack_header:
                raise
            self._zlib = zlib.decompressobj(_WITHOUT_HEADER)
            piece = self._zlib.decompress(data, _PIECE_BYTES)
        self._began = True
        return piece
