"""A follower that comes late gets the events of a running job from its worker."""

import asyncio
from collections.abc import Iterator
from random import Random
from typing import Any

import pytest

from aimicromind_schemas import Event, event_from
from aimicromind_schemas.client.past.catching_up import CatchUpState, ask
from aimicromind_schemas.messages.catch_up import CatchUpRequest, SeenUpTo, decode_snapshot
from aimicromind_testing import Call, Script, Stall, Step, Wait, answer, send
from tests.integration.client.late import LateFollower, late_follower
from tests.integration.stage import Stage
from tests.integration.workers import Chats
from tests.support.amqp import WITHIN_S
from tests.support.builders import a_job

REQUEST = CatchUpRequest("chat", "job")


def published(chats: Chats) -> list[Event]:
    """Return what a follower that was always there has of the job."""
    return [event_from(body) for body in chats.of("job")]


async def tokens_shown(chats: Chats, count: int) -> None:
    await chats.inbox.until(lambda: sum(it.type == "token" for it in chats.inbox.messages) >= count)


async def held(late: LateFollower, *, is_held: bool) -> None:
    """Ask until somebody holds the chat, or nobody does."""
    async with asyncio.timeout(WITHIN_S):
        while await late.asks() is not is_held:  # noqa: ASYNC110 - another process knows
            await asyncio.sleep(0.05)


async def test_answer_and_what_follows_it_are_exactly_the_events_of_the_job(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(60, rate=40))
    async with stage.working() as chats, late_follower(stage, REQUEST) as late:
        await stage.put(a_job())
        await tokens_shown(chats, 20)
        assert await late.asks()
        items = await late.ended()
        await chats.end_of("job")

    assert items == published(chats)
    assert late.catch_up.state is CatchUpState.WHOLE
    assert len(decode_snapshot(late.parts[0].body).events) > 20


async def test_answer_has_the_bodies_that_were_published_byte_for_byte(stage: Stage) -> None:
    odd = ('{"a":\n 1}', "\ud83d", "ünïcode \U0001f600")
    stage.endpoint.flow("flow", answer(9, rate=20, token=lambda number: odd[number % 3]))
    async with stage.working() as chats, late_follower(stage, REQUEST) as late:
        await stage.put(a_job())
        await tokens_shown(chats, 6)
        assert await late.asks()
        await late.answered()
        await chats.end_of("job")

    bodies = decode_snapshot(late.parts[0].body).events
    assert list(bodies) == [it.body for it in chats.inbox.messages[: len(bodies)]]


async def test_followers_that_ask_at_any_moment_miss_and_repeat_nothing(stage: Stage) -> None:
    chance, answered = Random(1), list[LateFollower]()

    def steps(call: Call) -> Iterator[Step]:
        *begin, metadata, end = answer(200, rate=80).steps(call)
        yield from begin
        # A slow machine needs more tokens until some have their answer.
        while len(answered) <= 5:
            yield Wait(1 / 80)
            yield send("token", "more ")
        yield from (metadata, end)

    stage.endpoint.flow("flow", Script(steps))

    async def follow_late(after_s: float) -> None:
        await asyncio.sleep(after_s)
        async with late_follower(stage, REQUEST) as late:
            # A request that comes as the chat is released is lost with its mailbox.
            while await late.asks() and not await late.is_answered():
                pass
            if late.catch_up.state is CatchUpState.WHOLE:
                answered.append(late)
                await late.ended()

    async with stage.working() as chats:
        await stage.put(a_job())
        await tokens_shown(chats, 1)
        moments = [chance.uniform(0, 2) for _ in range(16)]
        await asyncio.gather(*map(follow_late, moments))
        await chats.end_of("job")

    assert len(answered) > 5
    assert [it.items for it in answered] == [published(chats)] * len(answered)


async def test_long_answer_comes_in_parts_with_live_events_between(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(120, rate=50, token=lambda _: "x" * 45_000))
    async with stage.working() as chats:
        await stage.put(a_job())
        await tokens_shown(chats, 90)
        async with late_follower(stage, REQUEST) as late:
            assert await late.asks()
            items = await late.ended()
        await chats.end_of("job")

    parts = [decode_snapshot(it.body) for it in late.parts]
    assert [it.part for it in parts] == list(range(1, len(parts) + 1))
    assert len(parts) >= 4
    assert all(len(it.body) <= 1_010_000 for it in late.parts)
    assert items == published(chats)


async def test_follower_with_a_position_gets_what_follows_it(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(40, rate=20))
    request = CatchUpRequest("chat", "job", SeenUpTo(1, 9))
    async with stage.working() as chats, late_follower(stage, request) as late:
        await stage.put(a_job())
        await tokens_shown(chats, 20)
        assert await late.asks()
        await late.answered()

    (part,) = [decode_snapshot(it.body) for it in late.parts]
    assert part.events[0] == chats.inbox.messages[10].body


async def test_request_for_a_chat_that_nobody_holds_is_returned(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(1))
    async with stage.working() as chats, late_follower(stage, REQUEST) as late:
        before = await late.asks()
        await stage.put(a_job())
        await chats.end_of("job")
        await held(late, is_held=False)

    assert not before


async def test_holder_of_a_chat_that_runs_nothing_yet_answers_too(stage: Stage) -> None:
    async with stage.working(), late_follower(stage, REQUEST) as late:
        await stage.put(a_job(after="a-job-that-nobody-knows"))
        await held(late, is_held=True)
        state = await late.answered()

    assert state is CatchUpState.NOT_RUNNING
    assert late.catch_up.running is None


async def test_follower_of_another_job_learns_which_runs(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(40, rate=20))
    request = CatchUpRequest("chat", "another")
    async with stage.working() as chats, late_follower(stage, request) as late:
        await stage.put(a_job())
        await chats.shows("token")
        assert await late.asks()
        state = await late.answered()

    assert (state, late.catch_up.running) == (CatchUpState.NOT_RUNNING, "job")
    assert decode_snapshot(late.parts[0].body).events == ()


async def test_follower_of_a_chat_gets_the_job_that_runs(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(40, rate=20))
    async with stage.working() as chats, late_follower(stage, CatchUpRequest("chat")) as late:
        await stage.put(a_job())
        await tokens_shown(chats, 5)
        assert await late.asks()
        items = await late.ended()
        await chats.end_of("job")

    assert items == published(chats)


async def test_answer_beyond_what_is_kept_says_so(stage: Stage) -> None:
    script = answer(550, rate=250, token=lambda _: "x" * 20)
    stage.endpoint.flow("flow", script.cut(Stall(), after_sends=400))
    async with stage.working(max_answer_bytes=12_000) as chats:
        await stage.put(a_job())
        await tokens_shown(chats, 350)
        async with late_follower(stage, REQUEST) as late:
            assert await late.asks()
            state = await late.answered()

    (part,) = [decode_snapshot(it.body) for it in late.parts]
    assert state is CatchUpState.INCOMPLETE
    assert part.complete_from
    assert part.events == ()


@pytest.mark.parametrize("first_lock", ["gone", "orphaned"])
async def test_second_lock_of_a_chat_is_asked_where_the_first_is_not_there(
    stage: Stage, first_lock: str
) -> None:
    first, second = stage.names.chat_lease("chat"), stage.names.chat_lease_instead("chat")
    # RabbitMQ 4.3 nacks what is published to a lock that is left on a node that is down.
    nacks: dict[str, Any] = {"x-max-length": 0, "x-overflow": "reject-publish"}
    async with stage.connection.channel() as channel:
        if first_lock == "orphaned":
            await channel.declare_queue(first, exclusive=True, arguments=nacks)
        mailbox = await channel.declare_queue(second, exclusive=True)

        is_held = await ask(channel, stage.names, REQUEST, "nobody")
        message = await mailbox.get()

    assert is_held
    assert (message.body, message.reply_to) == (REQUEST.encode(), "nobody")
