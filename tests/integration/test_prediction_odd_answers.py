"""Answers that are odd below the level of events: slow, endless, compressed, sent elsewhere."""

import asyncio
import gzip
import time
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import chain, count, repeat

import pytest

from aimicromind_schemas import FailureKind
from aimicromind_worker.core.errors import (
    CallFailed,
    EndpointUnavailable,
    HeadersOverdue,
    Misconfigured,
    RedirectRefused,
    StreamCut,
)
from aimicromind_worker.testing import ScriptedEndpoint, status_answer
from tests.integration.calls import KEY, call_once, failure_of

pytestmark = pytest.mark.usefixtures("no_certificates")

HEAD = b"HTTP/1.1 200 OK\r\n"
STREAM = b"data: one\n\ndata: two\n\n" * 5000
EVERY_S = 0.05


@asynccontextmanager
async def speaker(pieces: Iterator[bytes], pause_s: float = 0) -> AsyncIterator[str]:
    """Serve one client these pieces, as long as it listens; gives the base URL."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(pause_s)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def in_bytes(data: bytes) -> Iterator[bytes]:
    return (data[place : place + 1] for place in range(len(data)))


async def test_headers_that_come_byte_by_byte_are_waited_for_no_longer_than_others() -> None:
    endless = chain(in_bytes(HEAD), in_bytes(b"X-Slow: "), repeat(b"x"))
    async with speaker(endless, EVERY_S) as url:
        began = time.monotonic()
        failure = await failure_of(url, first_byte_timeout=timedelta(seconds=0.5))

    assert type(failure) is HeadersOverdue
    assert time.monotonic() - began < 3


@pytest.mark.parametrize(
    "pieces",
    [
        (b"X-%d: y\r\n" % number for number in count()),
        chain([b"X-Long: "], repeat(b"x" * 1000)),
        (b"100 Continue\r\n\r\nHTTP/1.1 " for _ in count()),
    ],
    ids=["lines", "line", "answers before the answer"],
)
async def test_endless_headers_are_no_answer(pieces: Iterator[bytes]) -> None:
    async with speaker(chain([HEAD], pieces)) as url:
        failure = await failure_of(url, first_byte_timeout=timedelta(seconds=2))

    assert isinstance(failure, EndpointUnavailable | HeadersOverdue)
    assert failure.request_sent


async def test_error_whose_text_comes_slowly_is_told_without_it() -> None:
    head = b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\n"
    async with speaker(chain([head], repeat(b"x")), 1) as url:
        began = time.monotonic()
        failure = await failure_of(url)

    assert (failure.kind, failure.http_status) == (FailureKind.BAD_REQUEST, 400)
    assert time.monotonic() - began < 10


def compressed(encoding: str, body: bytes) -> bytes:
    match encoding:
        case "gzip":
            return gzip.compress(body)
        case "deflate":
            return zlib.compress(body)
        case _:
            packer = zlib.compressobj(wbits=-15)
            return packer.compress(body) + packer.flush()


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "deflate without header"])
@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
async def test_compressed_answer_is_read(
    endpoint: ScriptedEndpoint, encoding: str, content_type: str
) -> None:
    headers = [("Content-Encoding", encoding.split(maxsplit=1)[0])]
    body = compressed(encoding, STREAM)
    script = status_answer(200, body, content_type=content_type, headers=headers)
    endpoint.flow("flow", script)

    assert await call_once(endpoint, max_answer_bytes=len(STREAM)) == STREAM


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
async def test_compressed_answer_that_breaks_off_is_a_cut(
    endpoint: ScriptedEndpoint, encoding: str, content_type: str
) -> None:
    headers = [("Content-Encoding", encoding)]
    body = compressed(encoding, STREAM)[:-12]
    script = status_answer(200, body, content_type=content_type, headers=headers)
    endpoint.flow("flow", script)

    assert type(await failure_of(endpoint, max_answer_bytes=len(STREAM))) is StreamCut


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress"])
async def test_answer_that_is_compressed_otherwise_is_a_matter_of_configuration(
    endpoint: ScriptedEndpoint, encoding: str
) -> None:
    headers = [("Content-Encoding", encoding)]
    script = status_answer(200, b"?", content_type="text/event-stream", headers=headers)
    endpoint.flow("flow", script)

    assert type(await failure_of(endpoint)) is Misconfigured


async def test_error_in_an_encoding_nobody_reads_is_told_by_its_status(
    endpoint: ScriptedEndpoint,
) -> None:
    endpoint.flow("flow", status_answer(503, b"?", headers=[("Content-Encoding", "br")]))

    failure = await failure_of(endpoint)

    assert (type(failure), failure.http_status) == (EndpointUnavailable, 503)


@pytest.mark.parametrize(
    "location",
    ["http://xn--zzzzzz/", "//xn--a.b", "http://xn--/", "http://a:99999/", "http://\xff/", "http:"],
)
async def test_redirect_to_what_is_no_host_is_refused_as_any_other(
    endpoint: ScriptedEndpoint, location: str
) -> None:
    endpoint.flow("flow", status_answer(307, headers=[("Location", location)]))

    failure = await failure_of(endpoint)

    assert type(failure) is RedirectRefused
    assert KEY not in str(failure)


@pytest.mark.parametrize("place", ["same host", "other host"])
async def test_redirected_preflight_takes_the_key_nowhere(
    endpoint: ScriptedEndpoint, place: str
) -> None:
    async with ScriptedEndpoint() as other:
        where = endpoint.url if place == "same host" else other.url
        head = f"HTTP/1.1 302 Found\r\nLocation: {where}/x\r\nContent-Length: 0\r\n\r\n"
        async with speaker(iter([head.encode()])) as url:
            failure: CallFailed = await failure_of(url)

        assert type(failure) is RedirectRefused
        assert [*endpoint.other_requests, *other.other_requests, *other.calls] == []
