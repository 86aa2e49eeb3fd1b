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
from aimicromind_testing import Head, Script, ScriptedEndpoint, status_answer
from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.errors import (
    EndpointUnavailable,
    HeadersOverdue,
    Misconfigured,
    RedirectRefused,
    StreamCut,
)
from aimicromind_worker.http.inflate import Inflate
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


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, gzip", "compress", "br, identity"])
@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
async def test_answer_that_is_compressed_otherwise_is_refused_by_its_name(
    endpoint: ScriptedEndpoint, encoding: str, content_type: str
) -> None:
    headers = [("Content-Encoding", encoding)]
    script = status_answer(200, b"?", content_type=content_type, headers=headers)
    endpoint.flow("flow", script)

    failure = await failure_of(endpoint)

    assert type(failure) is Misconfigured
    assert encoding.removesuffix(", identity") in str(failure)


@pytest.mark.parametrize(
    "lines",
    [
        ["none"],
        [""],
        ["Identity"],
        ["identity, identity"],
        ["identity", "identity"],
        ["none", "identity"],
        ["gzip"],
        ["x-gzip"],
        ["GZIP"],
        ["gzip, identity"],
        ["identity", "gzip"],
        ["gzip", "gzip"],
        ["deflate", "Deflate"],
    ],
    ids=str,
)
@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
async def test_encoding_is_read_however_it_is_written(
    endpoint: ScriptedEndpoint, lines: list[str], content_type: str
) -> None:
    named = next((it for it in ("gzip", "deflate") if it in lines[-1].lower()), "")
    body = compressed(named, STREAM) if named else STREAM
    headers = [("Content-Encoding", line) for line in lines]
    endpoint.flow("flow", status_answer(200, body, content_type=content_type, headers=headers))

    assert await call_once(endpoint, max_answer_bytes=len(STREAM)) == STREAM


FRAMES = [b"data: %d\n\n" % number for number in range(300)]
PADDING = b"\0" * 512


@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
@pytest.mark.parametrize("between", [b"", PADDING], ids=["", "zeros between"])
@pytest.mark.parametrize("after", [b"", PADDING, b"garbage"], ids=["", "zeros", "garbage"])
async def test_every_member_of_a_gzip_body_is_read(
    endpoint: ScriptedEndpoint, content_type: str, between: bytes, after: bytes
) -> None:
    members = [gzip.compress(it) for it in (*FRAMES, b"", STREAM)]
    body = between.join(members) + after
    headers = [("Content-Encoding", "gzip")]
    endpoint.flow("flow", status_answer(200, body, content_type=content_type, headers=headers))

    assert await call_once(endpoint, max_answer_bytes=1_000_000) == b"".join(FRAMES) + STREAM


@pytest.mark.parametrize("size", [1, 2, 3, 17, 1000])
def test_members_are_read_however_they_are_cut(size: int) -> None:
    inflate = Inflate("gzip")
    body = PADDING[:3].join(gzip.compress(it) for it in FRAMES) + PADDING

    pieces = [body[start : start + size] for start in range(0, len(body), size)]

    assert b"".join(chain.from_iterable(map(inflate.pieces, pieces))) == b"".join(FRAMES)
    assert inflate.complete


@pytest.mark.parametrize("missing", [1, 8, 12])
async def test_last_member_that_breaks_off_is_a_cut(
    endpoint: ScriptedEndpoint, missing: int
) -> None:
    body = b"".join(gzip.compress(it) for it in FRAMES)[:-missing]
    headers = [("Content-Encoding", "gzip")]
    script = status_answer(200, body, content_type="text/event-stream", headers=headers)
    endpoint.flow("flow", script)

    assert type(await failure_of(endpoint)) is StreamCut


def test_very_many_empty_members_take_no_time() -> None:
    inflate, began = Inflate("gzip"), time.process_time()

    assert not list(inflate.pieces(gzip.compress(b"") * 13_000))
    assert time.process_time() - began < 1


@pytest.mark.parametrize("status", [200, 201, 202, 203, 206, 299])
@pytest.mark.parametrize("content_type", ["text/event-stream", "application/json"])
async def test_answer_comes_with_any_status_of_success(
    endpoint: ScriptedEndpoint, status: int, content_type: str
) -> None:
    endpoint.flow("flow", status_answer(status, STREAM, content_type=content_type))

    assert await call_once(endpoint, max_answer_bytes=len(STREAM)) == STREAM


@pytest.mark.parametrize("status", [204, 205])
async def test_success_without_a_body_is_no_answer(endpoint: ScriptedEndpoint, status: int) -> None:
    head = Head(status, (("Connection", "keep-alive"), ("Content-Length", "0"))[: 205 - status + 1])
    endpoint.flow("flow", Script.of(head))

    failure = await failure_of(endpoint)

    assert (failure.kind, failure.http_status) == (FailureKind.ENDPOINT_ERROR, status)
    assert str(failure) == f"HTTP {status} has no body"


@pytest.mark.parametrize("status", [201, 202, 206])
async def test_success_that_is_no_answer_is_not_quoted(
    endpoint: ScriptedEndpoint, status: int
) -> None:
    endpoint.flow("flow", status_answer(status, b"s3cr3t " * 2000, content_type="text/plain"))

    failure = await failure_of(endpoint)

    assert type(failure) is Misconfigured
    assert "s3cr3t" not in str(failure)


@pytest.mark.parametrize("second", ["text/event-stream", "Text/Event-Stream; charset=utf-8"])
async def test_content_type_given_twice_is_one(endpoint: ScriptedEndpoint, second: str) -> None:
    headers = [("Content-Type", second)]
    script = status_answer(200, STREAM, content_type="text/event-stream", headers=headers)
    endpoint.flow("flow", script)

    assert await call_once(endpoint) == STREAM


async def test_two_content_types_are_none(endpoint: ScriptedEndpoint) -> None:
    headers = [("Content-Type", "text/html")]
    script = status_answer(200, STREAM, content_type="text/event-stream", headers=headers)
    endpoint.flow("flow", script)

    assert "answered with text/event-stream, text/html" in str(await failure_of(endpoint))


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
