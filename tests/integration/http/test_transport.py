"""The transport against servers that say what servers should not; what flows need is beside it."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from typing import Final

import httpx
import pytest

from aimicromind_worker.http.transport import BODY, PushTransport
from tests.support.amqp import WITHIN_S
from tests.support.http import raw_server

OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
ENDLESS: Final = b"x" * 512 * 1024
PART: Final = bytes(range(200)) * 150
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def a_client() -> AsyncIterator[httpx.AsyncClient]:
    transport = PushTransport(ssl.create_default_context())
    async with httpx.AsyncClient(transport=transport, trust_env=False) as client:
        yield client


async def said_by(answer: bytes, *, close: bool = False) -> httpx.Response:
    """Give what comes of these bytes, read to the end."""
    async with raw_server(answer, close=close) as server, a_client() as client:
        return await client.get(server.url)


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (OK, b"ok"),
        (CHUNKED + b"1\r\no\r\n1;said=so\r\nk\r\n0\r\nTrailer: yes\r\n\r\n", b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK, b"ok"),
    ],
    ids=["by length", "by chunks", "none", "after interim responses"],
)
async def test_body_ends_where_the_response_says(answer: bytes, body: bytes) -> None:
    assert (await said_by(answer)).content == body


async def test_headers_of_interim_responses_are_not_those_of_the_response() -> None:
    response = await said_by(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)

    assert dict(response.headers) == {"content-length": "2"}


async def test_body_that_says_nothing_of_its_length_ends_with_the_connection() -> None:
    response = await said_by(b"HTTP/1.1 200 OK\r\n\r\nall of it", close=True)

    assert response.content == b"all of it"


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 " + ENDLESS,
        b"HTTP/1.1 200 OK\r\nName: " + ENDLESS,
        b"HTTP/1.1 200 OK\r\n" + b"Name: value\r\n" * 40_000,
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20_000,
        CHUNKED + b"1;" + ENDLESS,
        CHUNKED + b"1\r\nx\r\n0\r\nName: " + ENDLESS,
    ],
    ids=["reason", "header", "headers", "interim responses", "chunk extension", "trailer"],
)
async def test_what_is_no_body_and_has_no_end_is_refused(answer: bytes) -> None:
    with pytest.raises(httpx.RemoteProtocolError, match="no end"):
        await said_by(answer)


@pytest.mark.parametrize(
    "answer",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok",
        CHUNKED + b"z\r\nok",
    ],
)
async def test_what_is_not_http_is_refused(answer: bytes) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        await said_by(answer)


@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok", CHUNKED + b"2\r\nok\r\n"]
)
async def test_body_that_is_shorter_than_it_says_is_an_error(answer: bytes) -> None:
    with pytest.raises(httpx.ReadError, match="closed within the answer"):
        await said_by(answer, close=True)


async def test_connection_is_used_again() -> None:
    async with raw_server(OK) as server, a_client() as client:
        for _ in range(5):
            assert (await client.get(server.url)).content == b"ok"

        assert (server.connections, len(server.requests)) == (1, 5)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
        OK + b"and more, that nobody asked for",
        OK + OK,
    ],
)
async def test_connection_of_such_a_response_is_not_used_again(answer: bytes) -> None:
    async with raw_server(answer) as server, a_client() as client:
        for _ in range(2):
            await client.get(server.url)

        assert server.connections == 2


async def test_connection_that_the_server_closed_is_not_used_again() -> None:
    async with a_client() as client:
        async with raw_server(OK) as server:
            await client.get(server.url)
        async with raw_server(OK, port=server.port) as again:
            assert (await client.get(again.url)).content == b"ok"


async def test_body_left_in_the_middle_closes_its_connection() -> None:
    async with raw_server(CHUNKED + b"2\r\nok\r\n") as server, a_client() as client:
        async with client.stream("GET", server.url) as response:
            assert await anext(response.aiter_raw()) == b"ok"

        await asyncio.wait_for(server.was_left.wait(), WITHIN_S)


async def test_body_that_nobody_takes_stays_with_the_server() -> None:
    size = 64 * 1024 * 1024
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size
    taken = 0

    def take(data: bytes) -> bool:
        nonlocal taken
        taken += len(data)
        return True

    async with (
        raw_server(head + b"x" * size) as server,
        a_client() as client,
        client.stream("GET", server.url) as response,
    ):
        await asyncio.sleep(0.3)
        unsent = server.unsent
        await response.extensions[BODY].pump(take)

    assert unsent > size // 2
    assert taken == size


async def test_bytes_are_taken_in_the_context_of_who_pumps() -> None:
    whose: ContextVar[str] = ContextVar("whose", default="nobody's")
    seen = []

    def take(_: bytes) -> bool:
        seen.append(whose.get())
        return True

    async with raw_server(OK) as server, a_client() as client:
        for name in ("first", "second"):
            whose.set(name)
            async with client.stream("GET", server.url) as response:
                assert not await response.extensions[BODY].pump(take)

    assert seen == ["first", "second"]


async def test_error_of_who_takes_is_raised_where_it_pumps() -> None:
    def take(_: bytes) -> bool:
        raise LookupError("of its own")

    async with raw_server(OK) as server, a_client() as client:
        with pytest.raises(LookupError, match="of its own"):
            async with client.stream("GET", server.url) as response:
                await response.extensions[BODY].pump(take)


@pytest.mark.parametrize("value", ["a\r\nInjected: yes", "a\nb", "a\0b"])
async def test_header_that_would_be_more_than_one_is_not_sent(value: str) -> None:
    async with raw_server(OK) as server, a_client() as client:
        with pytest.raises(httpx.LocalProtocolError):
            await client.get(server.url, headers={"traceparent": value})

        assert server.requests == []


@asynccontextmanager
async def a_server(serve: Serve) -> AsyncIterator[str]:
    """Have a server that treats its one connection as a test wants."""

    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)
        except ConnectionError:
            pass
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    server = await asyncio.start_server(served, "127.0.0.1", 0, limit=4096)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


class Parts:
    """A long body that tells how much of it was asked for."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.asked = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while self.asked < self.count:
            self.asked += 1
            yield PART


async def posted(url: str, parts: Parts) -> httpx.Response:
    headers = {"Content-Length": str(parts.count * len(PART))}
    async with a_client() as client, asyncio.timeout(WITHIN_S):
        return await client.post(url, content=parts, headers=headers)


async def test_long_request_arrives_whole_and_in_order() -> None:
    came = bytearray()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"chunked" not in head
        came.extend(await reader.readexactly(300 * len(PART)))
        writer.write(OK)

    async with a_server(serve) as url:
        assert (await posted(url, Parts(300))).content == b"ok"

    assert bytes(came) == PART * 300


async def test_request_is_not_made_faster_than_it_is_taken() -> None:
    parts, goes_on = Parts(2000), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await goes_on.wait()
        await reader.readexactly(parts.count * len(PART))
        writer.write(OK)

    async with a_server(serve) as url:
        posting = asyncio.create_task(posted(url, parts))
        asked = -1
        while asked != parts.asked or not asked:
            asked = parts.asked
            await asyncio.sleep(0.2)
        goes_on.set()

        assert (await posting).content == b"ok"
    # The sockets' buffers take some megabytes of the 60.
    assert asked < parts.count // 3


@pytest.mark.parametrize("closes", [True, False])
async def test_answer_that_comes_before_the_request_is_whole_is_read(closes: bool) -> None:  # noqa: FBT001 - given by pytest
    parts, done = Parts(2000), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Payload Too Large\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        if not closes:
            await done.wait()

    async with a_server(serve) as url:
        try:
            response = await posted(url, parts)
        except httpx.ReadError:
            # The close may reset the connection before the answer is read.
            assert closes
        else:
            assert (response.status_code, response.content) == (413, b"no")
        done.set()
    assert parts.asked < parts.count


async def test_connection_of_a_request_that_was_not_sent_whole_is_not_used_again() -> None:
    heads: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(OK)
        await reader.read()

    async with a_server(serve) as url, a_client() as client, asyncio.timeout(WITHIN_S):
        parts = Parts(2000)
        headers = {"Content-Length": str(parts.count * len(PART))}
        await client.post(url, content=parts, headers=headers)
        assert (await client.get(url)).content == b"ok"

    assert [head.split()[0] for head in heads] == [b"POST", b"GET"]


async def test_connection_that_is_lost_within_the_request_is_told() -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.transport.abort()

    async with a_server(serve) as url:
        with pytest.raises(httpx.ReadError):
            await posted(url, Parts(2000))
