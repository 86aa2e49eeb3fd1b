"""What the page server does with clients of all kinds; plain sockets, so that nothing is mended."""

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator
from contextlib import ExitStack, suppress
from http import HTTPStatus

import psutil
import pytest
import pytest_asyncio

from aimicromind_worker.telemetry import page_server
from aimicromind_worker.telemetry.page_server import Page, serving_pages
from tests.support.waiting import until

GET = b"GET /ok HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LARGE = 64 << 20
WITHIN_S = 5.0


def respond(method: str, path: str) -> Page:
    if path == "/broken":
        raise ValueError("broken")
    body = b"x" * LARGE if path == "/large" else f"{method} {path}".encode()
    return Page(HTTPStatus.OK, "text/plain", body)


@pytest_asyncio.fixture
async def port() -> AsyncIterator[int]:
    listening = socket.create_server(("127.0.0.1", 0), backlog=1024)
    taken: int = listening.getsockname()[1]
    async with serving_pages(listening, respond):
        yield taken


async def said(port: int, sent: bytes, *, half_close: bool = False) -> bytes:
    """Send bytes on a new connection and give all that came until it was closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    if half_close:
        writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), WITHIN_S)
    finally:
        writer.close()


async def exchange(connection: socket.socket, sent: bytes = GET) -> bytes:
    """Ask once, and give what came first: nothing where the connection was closed."""
    loop = asyncio.get_running_loop()
    with suppress(ConnectionError):
        await loop.sock_sendall(connection, sent)
        return await asyncio.wait_for(loop.sock_recv(connection, 65536), WITHIN_S)
    return b""


async def connected(port: int) -> socket.socket:
    connection = socket.socket()
    connection.setblocking(False)  # noqa: FBT003 - the socket module's own
    await asyncio.get_running_loop().sock_connect(connection, ("127.0.0.1", port))
    return connection


def serves_nobody(port: int) -> bool:
    """Say whether the server, which is in this process, has no connection."""
    return not any(
        it.laddr.port == port and it.status == psutil.CONN_ESTABLISHED
        for it in psutil.Process().net_connections("tcp")
    )


async def test_answer_has_head_and_body(port: int) -> None:
    head, _, body = (await said(port, LAST)).partition(b"\r\n\r\n")

    lines = head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert {"content-type: text/plain", "content-length: 7", "connection: close"} < set(lines)
    assert body == b"GET /ok"


async def test_answer_to_head_has_the_length_and_no_body(port: int) -> None:
    answer = await said(port, LAST.replace(b"GET", b"HEAD"))

    assert b"content-length: 8\r\n" in answer
    assert answer.endswith(b"\r\n\r\n")


async def test_connection_is_kept_for_requests_to_come(port: int) -> None:
    with await connected(port) as connection:
        answers = [await exchange(connection) for _ in range(3)]

    for answer in answers:
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"connection: close" not in answer


async def test_connection_of_http_1_0_is_closed_after_the_answer(port: int) -> None:
    answer = await said(port, b"GET /ok HTTP/1.0\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


async def test_requests_in_a_row_are_answered_in_order(port: int) -> None:
    asked = [GET.replace(b"/ok", b"/%d" % number) for number in range(5)]

    answer = await said(port, b"".join([*asked, LAST]))

    places = [answer.index(b"GET /%d" % number) for number in range(5)]
    assert places == sorted(places)
    assert answer.endswith(b"GET /ok")


async def test_client_that_says_that_no_more_follows_is_answered(port: int) -> None:
    assert (await said(port, GET, half_close=True)).endswith(b"GET /ok")
    assert await said(port, GET[:-2], half_close=True) == b""


async def test_page_that_fails_is_an_error_and_the_next_is_served(port: int) -> None:
    with await connected(port) as connection:
        failed = await exchange(connection, GET.replace(b"/ok", b"/broken"))
        served = await exchange(connection)

    assert failed.startswith(b"HTTP/1.1 500 ")
    assert served.endswith(b"GET /ok")


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (bytes.fromhex("16030100f8010000f40303") + b"\x8f" * 240, 400),
        (GET[:-2] + b"X: " + b"x" * 10_000, 431),
        (GET[:-2] + b"Content-Length: 100000\r\n\r\n" + b"x" * 10_000, 413),
    ],
    ids=["TLS", "large head", "large body"],
)
async def test_client_is_told_why_it_is_refused(port: int, sent: bytes, status: int) -> None:
    answer = await said(port, sent)

    assert answer.startswith(b"HTTP/1.1 %d " % status)
    assert b"\r\nconnection: close\r\n" in answer


async def test_request_that_does_not_end_is_waited_for_no_longer_than_its_time(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_server, "_REQUEST_TIMEOUT_S", 0.3)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with await connected(port) as connection:
        await loop.sock_sendall(connection, GET[:-2] + b"X: ")
        ended = asyncio.create_task(exchange(connection, b"x"))
        while not ended.done():
            with suppress(ConnectionError):
                await loop.sock_sendall(connection, b"x")
            await asyncio.sleep(0.02)

    assert ended.result() == b""
    assert 0.25 < loop.time() - began < WITHIN_S


async def test_answer_that_nobody_takes_is_held_no_longer_than_its_time(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(page_server, "_REQUEST_TIMEOUT_S", 0.3)
    loop = asyncio.get_running_loop()
    with await connected(port) as connection:
        await loop.sock_sendall(connection, GET.replace(b"/ok", b"/large"))
        await until(lambda: serves_nobody(port))

        came = 0
        with suppress(ConnectionError):
            while part := await asyncio.wait_for(loop.sock_recv(connection, 1 << 20), WITHIN_S):
                came += len(part)

    assert 0 < came < LARGE


async def test_one_connection_too_many_closes_the_one_that_was_idle_for_longest(port: int) -> None:
    with ExitStack() as stack:
        held = [stack.enter_context(await connected(port)) for _ in range(256)]
        # The first has asked, so that now the second was idle for longest.
        assert await exchange(held[0])

        late = stack.enter_context(await connected(port))

        assert await exchange(late)
        assert await exchange(held[0])
        assert not await exchange(held[1])
        assert await exchange(held[2])


async def test_client_gets_in_where_no_descriptor_is_left(port: int) -> None:
    _, hard = limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    with ExitStack() as stack:
        held = [stack.enter_context(await connected(port)) for _ in range(20)]
        late = stack.enter_context(socket.socket())
        late.setblocking(False)  # noqa: FBT003 - the socket module's own
        assert await exchange(held[-1])
        resource.setrlimit(resource.RLIMIT_NOFILE, (late.fileno() + 50, hard))
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, limit)
        with suppress(OSError):
            while True:
                stack.callback(os.close, os.dup(late.fileno()))

        await asyncio.get_running_loop().sock_connect(late, ("127.0.0.1", port))

        assert await exchange(late)
        assert not await exchange(held[0])
