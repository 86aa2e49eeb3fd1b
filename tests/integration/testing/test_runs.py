"""A run is the server's: it goes on, hangs or dies, whatever becomes of its client."""

import httpx
import pytest

from aimicromind_testing import (
    Crash,
    Cut,
    Head,
    Mute,
    Reset,
    Script,
    ScriptedEndpoint,
    Stall,
    answer,
    error_answer,
    play,
    send,
    too_many_requests,
)
from tests.integration.testing.chats import SOON_SILENT, chatting, text_of, tokens


def run_ended(endpoint: ScriptedEndpoint) -> bool:
    return all(call.run_ended is not None for call in endpoint.calls)


async def test_run_goes_on_at_its_pace_when_its_client_leaves_and_is_saved() -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", answer(40, rate=50))

        await chats.leave_after(5)
        (call,) = endpoint.calls
        await endpoint.until(lambda: not endpoint.live_calls)
        assert call.client_gone
        assert call.run_ended is None
        assert await chats.messages() == []
        await endpoint.until(lambda: call.run_ended is not None)

        assert await chats.answers() == [tokens(40)]
        assert (call.run_ended or 0) - call.started > 40 / 50 * 0.9
        assert call.bytes_sent < len(call.said)


@pytest.mark.parametrize("broken", [Cut(), Reset()], ids=repr)
async def test_run_goes_on_when_its_stream_is_broken_and_is_saved(broken: Cut | Reset) -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", answer(30, rate=50).cut(broken, after_sends=10))

        shown = text_of(await chats.said())
        (call,) = endpoint.calls
        assert call.run_ended is None
        assert not call.client_gone
        await endpoint.until(lambda: call.run_ended is not None)

        assert await chats.answers() == [tokens(30)]
        assert shown == tokens(9)


@pytest.mark.parametrize("size", [0, 1, 200, 395])
async def test_answer_cut_anywhere_is_saved_whole(size: int) -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", answer(5).cut(after_bytes=size))

        await chats.said()
        await endpoint.until(lambda: run_ended(endpoint))

        assert await chats.answers() == [tokens(5)]
        assert endpoint.calls[0].bytes_sent == size


async def test_run_goes_on_behind_a_connection_that_fell_silent() -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", answer(5).cut(Mute(), after_sends=3))

        with pytest.raises(httpx.ReadTimeout):
            await chats.client.post(
                "/prediction/flow",
                json={"question": "why?", "streaming": True, "chatId": "chat"},
                timeout=SOON_SILENT,
            )

        assert await chats.answers() == [tokens(5)]
        await endpoint.until(lambda: endpoint.calls[0].client_gone)
        assert endpoint.calls[0].bytes_sent < len(endpoint.calls[0].said)


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(error_answer("out of order", tokens=2), id="failed"),
        pytest.param(answer(5).cut(Crash(), after_sends=3), id="died"),
        pytest.param(play("server-sigkill", pace=0), id="killed"),
        pytest.param(Script.of(Head(), send("token", "a"), Cut()), id="nothing after the cut"),
        pytest.param(too_many_requests(), id="refused"),
    ],
)
async def test_run_without_an_answer_leaves_nothing(script: Script) -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", script)

        await chats.said()
        await endpoint.until(lambda: run_ended(endpoint))

        assert await chats.messages() == []


async def test_crash_closes_the_connection_and_ends_the_run() -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", answer(5).cut(Crash(), after_sends=3))

        shown = await chats.said()
        (call,) = endpoint.calls
        await endpoint.until(lambda: call.run_ended is not None)

    assert text_of(shown) == tokens(2)
    assert call.bytes_sent == len(call.said)
    assert not call.client_gone


async def test_aborted_run_leaves_nothing_also_without_its_client() -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", answer(1_000, rate=50).stopped_by_abort())

        await chats.leave_after(3)
        await endpoint.until(lambda: not endpoint.live_calls)
        await chats.client.put("/chatmessage/abort/flow/chat")
        await endpoint.until(lambda: run_ended(endpoint))

        assert endpoint.calls[0].aborted
        assert await chats.messages() == []


async def test_stalled_run_hangs_also_without_its_client() -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", answer(5).cut(Stall(), after_sends=3))

        await chats.leave_after(3)
        await endpoint.until(lambda: not endpoint.live_calls)

        assert endpoint.calls[0].run_ended is None
        assert await chats.messages() == []


async def test_run_that_dies_with_the_endpoint_leaves_nothing_and_others_stay() -> None:
    endpoint = ScriptedEndpoint()
    endpoint.flow("flow", answer(2), answer(1_000, rate=50))
    async with endpoint, chatting(endpoint) as chats:
        await chats.said("before")
        await chats.leave_after(3, "dead")
    async with endpoint, chatting(endpoint) as chats:
        assert run_ended(endpoint)
        assert await chats.answers("before") == [tokens(2)]
        assert await chats.messages("dead") == []
