import asyncio
import socket
import time

import pytest

from aimicromind_testing import (
    END,
    HEARTBEAT,
    Cut,
    Finish,
    Head,
    Recording,
    Reset,
    Script,
    ScriptedEndpoint,
    Send,
    Stall,
    Wait,
    answer,
    error_answer,
    frame,
    play,
    send,
    status_answer,
)

BODY = Recording.load("a-unicode").body

REQUEST = (
    b"POST /api/v1/prediction/flow HTTP/1.1\r\nHost: localhost\r\nContent-Length: 54\r\n\r\n"
    b'{"question": "why?","streaming":true,"chatId": "chat"}'
)


class RawClient:
    """A client without a library: it sees what is on the wire."""

    def __init__(self, endpoint: ScriptedEndpoint) -> None:
        self._port = int(endpoint.url.rsplit(":", 1)[1])

    async def ask(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        writer.write(REQUEST)
        return reader, writer

    async def answer(self, seconds: float = 5) -> tuple[bytes, str]:
        """Give the whole answer, body still in chunks, and how the connection ended.

        It reads the socket itself: a StreamReader drops what it holds when a reset comes.
        """
        received = b""
        loop = asyncio.get_running_loop()
        with socket.socket() as client:
            client.settimeout(0)
            try:
                async with asyncio.timeout(seconds):
                    await loop.sock_connect(client, ("127.0.0.1", self._port))
                    await loop.sock_sendall(client, REQUEST)
                    while part := await loop.sock_recv(client, 65_536):
                        received += part
            except ConnectionResetError:
                return received, "RST"
            except TimeoutError:
                return received, "open"
        return received, "FIN"


def unchunked(answer: bytes) -> tuple[bytes, bool]:
    """Give the body of a chunked answer, and whether its last chunk came."""
    _, _, rest = answer.partition(b"\r\n\r\n")
    body = b""
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        if int(size, 16) == 0:
            return body, True
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]
    return body, False


@pytest.mark.parametrize("size", [0, 1, 43, 44, 500, len(BODY) - 1, len(BODY)])
async def test_answer_is_cut_after_any_byte(size: int) -> None:
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", play("a-unicode", pace=0).cut(after_bytes=size))

        received, ending = await RawClient(endpoint).answer()

        assert endpoint.calls[0].bytes_sent == size
    assert unchunked(received) == (BODY[:size], False)
    assert ending == "FIN"


async def test_answer_is_cut_after_so_many_frames() -> None:
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", answer().cut(after_sends=3))

        received, _ = await RawClient(endpoint).answer()

    tokens = frame("token", "tok0 ") + frame("token", "tok1 ")
    assert unchunked(received) == (frame("start", "") + tokens, False)


async def test_reset_comes_after_all_bytes() -> None:
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", play("a-big", pace=0).cut(Reset()))

        received, ending = await RawClient(endpoint).answer()

        assert not endpoint.calls[0].client_gone
    assert unchunked(received) == (Recording.load("a-big").body, False)
    assert ending == "RST"


async def test_stalled_answer_stays_open_and_silent_until_the_client_goes() -> None:
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", answer(5).cut(Stall(), after_sends=2))

        received, ending = await RawClient(endpoint).answer(seconds=0.3)

        assert unchunked(received)[0].endswith(frame("token", "tok0 "))
        assert ending == "open"
        await endpoint.until(lambda: not endpoint.live_calls)
        assert endpoint.calls[0].client_gone


async def test_finished_answer_leaves_the_connection_open() -> None:
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", Script.of(Head(), END, Finish(), send("token", "never sent")))

        received, ending = await RawClient(endpoint).answer(seconds=0.3)

    assert unchunked(received) == (frame("end", "[DONE]"), True)
    assert ending == "open"


async def test_body_without_framing_lasts_until_the_close() -> None:
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", Script.of(Head(200, (("X-A", "b"),)), Send(b"one"), Send(b"two")))

        received, ending = await RawClient(endpoint).answer()

    assert received == b"HTTP/1.1 200 OK\r\nX-A: b\r\n\r\nonetwo"
    assert ending == "FIN"


async def test_cut_before_the_headers_sends_nothing() -> None:
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", Script.of(Cut()))

        assert await RawClient(endpoint).answer() == (b"", "FIN")


async def test_headers_are_delayed() -> None:
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", status_answer(503).delayed(0.2))
        reader, writer = await RawClient(endpoint).ask()

        assert (await asyncio.wait_for(reader.readline(), 20)).startswith(b"HTTP/1.1 503 ")

        assert time.monotonic() - endpoint.calls[0].started >= 0.2
        writer.close()


async def test_tokens_come_at_their_rate() -> None:
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", answer(20, rate=50))
        reader, writer = await RawClient(endpoint).ask()

        times = []
        async with asyncio.timeout(20):
            while not (line := await reader.readline()).startswith(b'data:{"event":"end"'):
                if line.startswith(b'data:{"event":"token"'):
                    times.append(time.monotonic())
        writer.close()

    assert 19 / 50 * 0.9 < times[-1] - times[0] < 19 / 50 * 1.5


async def test_steps_stand_before_and_after_the_tokens() -> None:
    tools = [{"tool": "calculator", "toolInput": {}, "toolOutput": "42"}]
    async with ScriptedEndpoint() as endpoint:
        script = answer(1, before=[Wait(0.01), Send(HEARTBEAT)], after=[send("usedTools", tools)])
        endpoint.flow("flow", script)

        received, _ = await RawClient(endpoint).answer(seconds=0.3)

    body, _ = unchunked(received)
    assert body.startswith(frame("start", "") + HEARTBEAT + frame("token", "tok0 "))
    assert body.index(b'"usedTools"') < body.index(b'"metadata"') < body.index(b'"end"')


async def test_failed_run_says_error_then_end() -> None:
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", error_answer("out of order", tokens=1))

        received, _ = await RawClient(endpoint).answer(seconds=0.3)

    said = [("start", ""), ("token", "tok0 "), ("error", "out of order"), ("end", "[DONE]")]
    assert unchunked(received) == (b"".join(frame(*it) for it in said), True)


async def test_client_that_does_not_read_is_not_buffered_for() -> None:
    chunk = Send(b"x" * 10_000)
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", Script.of(Head(), *[chunk] * 5_000))
        reader, writer = await RawClient(endpoint).ask()
        (call,) = await endpoint.called(1)

        await asyncio.sleep(0.5)
        held = call.bytes_sent
        await asyncio.sleep(0.2)

        assert call.bytes_sent == held < 25_000_000
        async with asyncio.timeout(10):
            while not (await reader.read(1_000_000)).endswith(b"0\r\n\r\n"):
                pass
        assert call.bytes_sent == 50_000_000
        writer.close()


async def test_run_goes_on_when_a_client_leaves_that_did_not_read() -> None:
    async with ScriptedEndpoint() as endpoint:
        endpoint.flow("flow", Script.of(Head(), *[Send(b"x" * 10_000)] * 5_000))
        _, writer = await RawClient(endpoint).ask()
        (call,) = await endpoint.called(1)
        await asyncio.sleep(0.5)
        held = len(call.said)

        writer.close()

        await endpoint.until(lambda: call.run_ended is not None)
        assert held < 25_000_000
        assert len(call.said) == 50_000_000


async def test_line_separators_are_sent_unescaped() -> None:
    assert "\u2028".encode() in frame("token", "a\u2028b")
    assert b"\n" not in frame("token", "a\nb").removeprefix(b"message:\n").removesuffix(b"\n\n")


async def test_fault_in_a_script_is_raised_when_the_endpoint_ends() -> None:
    endpoint = ScriptedEndpoint()
    endpoint.flow("flow", answer(1, token=lambda number: str(1 // number)))

    with pytest.raises(ZeroDivisionError):
        async with endpoint:
            _, ending = await RawClient(endpoint).answer()

    assert ending != "open"
    assert not endpoint.live_calls
