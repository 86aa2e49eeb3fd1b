"""Copies for `reply_to` go by a connection of their own: what befalls it costs copies only."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Final

import pytest
from aio_pika.abc import AbstractConnection

from tests.integration.speaker import Speaker
from tests.integration.wire import Wire
from tests.support.amqp import WITHIN_S, Inbox
from tests.support.hostile import HOSTILE
from tests.support.proxy import Proxy

COPIES: Final = "aimicromind-worker copies"
PATIENCE_S: Final = 5.0
# For a machine that has much to do.
_SLACK_S: Final = 2.0


@asynccontextmanager
async def reply_queue(connection: AbstractConnection) -> AsyncIterator[tuple[str, Inbox]]:
    async with connection.channel() as channel:
        queue, inbox = await channel.declare_queue(exclusive=True), Inbox()
        await queue.consume(inbox.take, no_ack=True)
        yield queue.name, inbox


async def test_lost_connection_of_copies_brings_them_again_in_order_and_holds_up_no_event(
    wire: Wire, proxy: Proxy
) -> None:
    async with (
        reply_queue(wire.connection) as (queue, copies),
        wire.events(proxy.url) as (way, box),
    ):
        speaker = Speaker(way.publisher, reply_to=queue)
        for part in range(1, 4):
            speaker.say("token", "first")
            await copies.until(lambda: len(copies.ids) == 100 * part - 99)  # noqa: B023 - awaited here
            proxy.hold(COPIES)
            for _ in range(99):
                speaker.say("token", "word ")
            await box.received(100 * part)
            proxy.reset(COPIES)
            await copies.until(lambda: len(copies.ids) == 100 * part)  # noqa: B023 - awaited here
        speaker.say("end")
        await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)
        await copies.until(lambda: "job:end" in copies.ids)

    expected = [*(f"job:1:{seq}" for seq in range(300)), "job:end"]
    assert list(copies.ids) == expected
    assert [message.message_id for message in box.messages] == expected
    assert len(copies.messages) > len(expected)


async def test_silent_connection_of_copies_holds_up_an_end_for_a_bounded_time_once(
    wire: Wire, proxy: Proxy
) -> None:
    async with (
        reply_queue(wire.connection) as (queue, copies),
        wire.events(proxy.url) as (way, box),
    ):
        speaker = Speaker(way.publisher, reply_to=queue)
        speaker.say("token", "heard")
        await copies.received(1)
        proxy.silence(COPIES)

        speaker.say("token", "unheard")
        began = monotonic()
        await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)
        before_the_end_s = monotonic() - began
        speaker.say("end")
        await box.until(lambda: "job:end" in box.ids, PATIENCE_S)
        began = monotonic()
        await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)
        waited_s = monotonic() - began

    assert before_the_end_s < _SLACK_S
    assert PATIENCE_S - _SLACK_S < waited_s < PATIENCE_S + _SLACK_S


async def test_full_window_of_copies_drops_and_counts_them_and_events_go_on(
    wire: Wire, proxy: Proxy
) -> None:
    async with (
        reply_queue(wire.connection) as (queue, copies),
        wire.events(proxy.url, messages=10) as (way, box),
    ):
        speaker = Speaker(way.publisher, reply_to=queue)
        other = Speaker(way.publisher, "other", chat_id="other")
        speaker.say("token", "first")
        await copies.received(1)
        proxy.hold(COPIES)

        began = monotonic()
        for number in range(30):
            speaker.say("token", f"{number}")
            if speaker.attempt_publisher.full:
                await asyncio.wait_for(speaker.attempt_publisher.room(), WITHIN_S)
            other.say("token", f"{number}")
            await asyncio.wait_for(other.attempt_publisher.confirmed(), WITHIN_S)
        took_s = monotonic() - began
        await box.received(61)
        proxy.release(COPIES)
        await copies.received(11)
        dropped = way.publisher.counts.passed_over
        async with asyncio.timeout(WITHIN_S):
            while len(copies.ids) == 11:
                speaker.say("token", "once there is room again")
                await asyncio.sleep(0.05)

    assert dropped == 20
    assert took_s < PATIENCE_S + _SLACK_S
    assert list(copies.ids)[:11] == [f"job:1:{seq}" for seq in range(11)]


async def test_no_connection_of_copies_is_opened_before_a_job_wants_one(
    wire: Wire, proxy: Proxy
) -> None:
    async with (
        reply_queue(wire.connection) as (queue, copies),
        wire.publishing(proxy.url) as way,
    ):
        before = proxy.open
        Speaker(way.publisher, reply_to=queue).say("token", "Once")
        await copies.received(1)

        assert (before, proxy.open) == (1, 2)


@pytest.mark.parametrize("name", HOSTILE)
async def test_name_that_closes_the_connection_is_given_up_and_others_get_all_in_order(
    wire: Wire, name: str
) -> None:
    async with (
        reply_queue(wire.connection) as (queue, copies),
        wire.events() as (way, box),
    ):
        honest = Speaker(way.publisher, reply_to=queue)
        hostile = Speaker(way.publisher, "hostile", chat_id="hostile", reply_to=HOSTILE[name])
        for _ in range(50):
            honest.say("token", "word ")
            hostile.say("token", "word ")
        for speaker in (hostile, honest):
            speaker.say("end")
            await asyncio.wait_for(speaker.attempt_publisher.confirmed(), WITHIN_S)
        await copies.until(lambda: "job:end" in copies.ids)
        await box.received(102)

        assert way.publisher.counts.passed_over >= 50
    assert list(copies.ids) == [*(f"job:1:{seq}" for seq in range(50)), "job:end"]
