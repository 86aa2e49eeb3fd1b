"""Calls of equal chatId share a channel, as at the real server; others do not touch."""

import asyncio
import re
from collections.abc import AsyncIterator
from typing import Any

from aimicromind_testing import Recording, Script, ScriptedEndpoint, answer, whole_answer
from tests.integration.testing.chats import chatting, frames_of, text_of, tokens

RUNS = (("a", 30), ("b", 90))


async def all_of(frames: AsyncIterator[dict[str, Any]]) -> list[dict[str, Any]]:
    return [frame async for frame in frames]


def speaking(word: str, count: int, rate: float = 50) -> Script:
    return answer(count, rate=rate, token=lambda number: f"{word}{number} ")


TWO = tuple(speaking(word, count) for word, count in RUNS)


def words(frames: list[dict[str, Any]], pattern: str) -> list[int]:
    """Give the numbers of the tokens of a run, in the order in which they came."""
    return [int(number) for number in re.findall(pattern, text_of(frames))]


def check_mix(
    frames: list[dict[str, Any]], first: tuple[str, int], second: tuple[str, int], asked: str
) -> None:
    """Check a second call's frames: the first one's rest and its ending, and a part of its own.

    A run is given by the pattern of its tokens' numbers and by how many it has; `asked` begins
    the first one's question.
    """
    foreign, own = words(frames, first[0]), words(frames, second[0])
    assert foreign == list(range(foreign[0], first[1]))
    assert own == list(range(len(own)))
    assert 0 < len(own) < second[1]
    assert [it["event"] for it in frames[-2:]] == ["metadata", "end"]
    assert frames[-2]["data"]["question"].startswith(asked)


async def test_second_call_gets_both_answers_and_the_end_of_the_first_which_hangs() -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", *TWO)

        async with chats.asking(question="first") as response:
            first = frames_of(response)
            for _ in range(5):
                await anext(first)
            second = await chats.said(question="second")
            hanging = asyncio.create_task(all_of(first))
            await asyncio.wait([hanging], timeout=0.3)

            assert not hanging.done()
            assert [call.live for call in endpoint.calls] == [True, False]
            assert endpoint.calls[0].run_ended is not None
            assert endpoint.calls[1].run_ended is None
            hanging.cancel()

        await endpoint.until(lambda: endpoint.calls[1].run_ended is not None)
        replies = await chats.answers()

    check_mix(second, (r"a(\d+) ", 30), (r"b(\d+) ", 90), "first")
    assert replies == ["".join(f"{word}{n} " for n in range(count)) for word, count in RUNS]


def test_mix_is_checked_as_the_real_server_makes_it() -> None:
    recorded = Recording.load("same-chat-a-conversation-second").frames()

    check_mix(recorded, (r"(\d+)@", 60), (r"tok(\d+) ", 100), "AAA")


async def test_call_after_a_cut_one_gets_the_rest_of_it() -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", *TWO)

        await chats.leave_after(5, question="first")
        second = await chats.said(question="second")

    check_mix(second, (r"a(\d+) ", 30), (r"b(\d+) ", 90), "first")
    assert not endpoint.calls[1].client_gone


async def test_connection_that_a_foreign_end_freed_serves_the_next_call() -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", *TWO, answer(3))

        await chats.leave_after(3, question="first")
        await chats.said(question="second")
        assert endpoint.calls[1].run_ended is None
        third = await chats.said("other")

        await endpoint.until(lambda: endpoint.calls[1].run_ended is not None)
    assert text_of(third) == tokens(3)


async def test_call_whose_client_left_before_its_headers_takes_no_channel() -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", answer(1).delayed(0.4), speaking("b", 30))

        leaving = asyncio.create_task(chats.said(question="first"))
        await endpoint.called(1)
        leaving.cancel()
        await endpoint.until(lambda: not endpoint.live_calls)
        second = await chats.said(question="second")

    assert second[-2]["data"]["question"] == "first"
    assert not endpoint.calls[1].client_gone


async def test_calls_of_different_chats_do_not_touch() -> None:
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", speaking("a", 10), speaking("b", 10))

        async with asyncio.TaskGroup() as tasks:
            first = tasks.create_task(chats.said("one"))
            second = tasks.create_task(chats.said("two"))

    texts = {text_of(first.result()), text_of(second.result())}
    assert texts == {"".join(f"{word}{number} " for number in range(10)) for word in "ab"}


async def test_answer_that_is_no_stream_stays_out_of_the_channel() -> None:
    asked = {"question": "why?", "chatId": "chat"}
    async with ScriptedEndpoint() as endpoint, chatting(endpoint) as chats:
        endpoint.flow("flow", TWO[0], whole_answer("all of it"))

        async with chats.asking() as response:
            frames = frames_of(response)
            await anext(frames)
            whole = await chats.client.post("/prediction/flow", json=asked)
            rest = await all_of(frames)

    assert whole.json()["text"] == "all of it"
    assert words(rest, r"a(\d+) ") == list(range(30))
