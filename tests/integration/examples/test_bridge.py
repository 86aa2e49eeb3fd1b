"""examples/bridge.py as a browser sees it, without one; with one: tests/browser."""

import asyncio
import json
import random

import pytest

from aimicromind_testing import Head, Script, Stall, answer, send
from tests.integration.bridge import SseReader, bridging
from tests.integration.stage import Stage
from tests.integration.workers import Chats
from tests.support.amqp import WITHIN_S, until_no_channels
from tests.support.proxy import Proxy

pytestmark = pytest.mark.timeout(90)

STILL_TO_COME = Script.of(Head(), send("start", ""), send("token", "Well"), Stall())


@pytest.mark.parametrize("seed", range(2))
async def test_answer_resumed_at_any_byte_by_any_bridge_is_what_was_published(
    stage: Stage, proxy: Proxy, seed: int
) -> None:
    odd = answer(200, rate=80, token="{}\r\n\u2028\x85é ".format)
    stage.endpoint.flow("flow", odd.cut(after_sends=100).forgotten(), odd)
    chance = random.Random(seed)

    async def break_now_and_then() -> None:
        for _ in range(20):
            await asyncio.sleep(chance.uniform(0.3, 1.2))
            proxy.reset()

    async with (
        stage.working() as chats,
        bridging(stage, proxy.url) as one,
        bridging(stage, proxy.url) as other,
    ):
        where = await one.ask("Why?")
        steady, cut = SseReader(one, where), SseReader(one, where)
        requests = 0
        breaking = asyncio.create_task(break_now_and_then())
        async with steady.reading() as reading, asyncio.timeout(60):
            while not cut.ended:
                cut.bridge = chance.choice((one, other))
                await cut.read(up_to_bytes=chance.randrange(1, 9000))
                requests += 1
            await reading
        breaking.cancel()
        await chats.end_of(_job(where))

    assert requests > 5
    assert cut.events == _published(chats)
    assert steady.events == _published(chats)
    assert {json.loads(data)["attempt"] for _, data in cut.events} == {1, 2}


async def test_answer_that_has_ended_is_not_sent_again(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(3))
    async with stage.working(), bridging(stage) as bridge:
        where = await bridge.ask("Why?")
        reader = SseReader(bridge, where)
        await reader.read()
        again = await bridge.http.get(where, headers={"Last-Event-ID": reader.last_id})

    assert reader.ended
    assert (again.status_code, again.content) == (204, b"")


async def test_browsers_that_leave_leave_nothing_behind(stage: Stage) -> None:
    stage.endpoint.flow("flow", STILL_TO_COME)
    chance = random.Random(5)
    async with stage.working() as chats, bridging(stage) as bridge:
        where = await bridge.ask("Why?")
        await chats.shows("token")

        async def look_in() -> None:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(chance.uniform(0.01, 2.5)):
                    await SseReader(bridge, where).read()

        await asyncio.gather(*(look_in() for _ in range(40)))
        await until_no_channels(stage.broker, "aimicromind client, streams")
        chat = where.split("/")[2]
        async with asyncio.timeout(20):
            while chat in await stage.broker.rabbitmqctl("list_bindings", "routing_key"):  # noqa: ASYNC110 - the broker knows
                await asyncio.sleep(0.1)


async def test_silent_answer_is_kept_awake_by_comments(stage: Stage) -> None:
    stage.endpoint.flow("flow", STILL_TO_COME)
    async with stage.working(), bridging(stage) as bridge:
        reader = SseReader(bridge, await bridge.ask("Why?"))
        async with reader.reading(), asyncio.timeout(20):
            while not reader.comments:  # noqa: ASYNC110 - another process sends it
                await asyncio.sleep(0.1)

    assert len(reader.events) == 2


async def test_stopped_answer_ends_cancelled(stage: Stage) -> None:
    stage.endpoint.flow("flow", STILL_TO_COME)
    async with stage.working() as chats, bridging(stage) as bridge:
        where = await bridge.ask("Why?")
        await chats.shows("token")
        await bridge.http.delete(where)
        reader = SseReader(bridge, where)
        async with asyncio.timeout(WITHIN_S):
            await reader.read()

    assert json.loads(reader.events[-1][1])["data"]["status"] == "cancelled"


async def test_bridge_that_is_told_to_stop_breaks_off_its_answers(stage: Stage) -> None:
    stage.endpoint.flow("flow", STILL_TO_COME)
    async with stage.working() as chats, bridging(stage) as bridge:
        reader = SseReader(bridge, await bridge.ask("Why?"))
        async with reader.reading() as reading:
            await chats.shows("token")
            await bridge.stops()
            await asyncio.wait([reading], timeout=WITHIN_S)

    assert reading.done()


async def test_question_that_nobody_takes_is_refused_with_the_reason(stage: Stage) -> None:
    async with bridging(stage) as bridge:
        reply = await bridge.http.post("/questions", json={"text": "Why?"})

    assert reply.status_code == 503
    assert "has a worker run?" in reply.json()["detail"]


def _job(where: str) -> str:
    return where.partition("?")[0].rpartition("/")[2]


def _published(chats: Chats) -> list[tuple[str, str]]:
    """Give id and body of each event as it was published, repeats left out."""
    bodies: dict[str, str] = {}
    for message in chats.inbox.messages:
        bodies.setdefault(message.message_id or "", message.body.decode())
    return list(bodies.items())
