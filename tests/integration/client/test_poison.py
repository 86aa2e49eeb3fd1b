"""Messages that are no events, whatever they are: they end no follower and no connection."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator

import pytest

from aimicromind_schemas import EndEvent, Event
from aimicromind_schemas.client import Client
from aimicromind_testing import answer
from tests.integration.client.stage import WITHIN, a_job, all_of, client_of
from tests.integration.stage import Stage
from tests.support.amqp import WITHIN_S, connections_of, delete_queue, until_in_queue
from tests.support.raw import MESSAGE_ID, Raw, RawProperties, headers, named, nested, publish, table

_JSON = {"jobId": "x", "chatId": "x", "chatflowId": "x", "attempt": 1, "seq": 0, "event": "token"}
_TIME = "2026-11-22T13:20:00Z"
PROPERTIES = {
    "tables 2,000 deep": headers(named(b"deep", nested(2_000))),
    "arrays 600 deep": headers(named(b"deep", nested(600, b"A"))),
    "10,000 headers": headers(*(named(b"%d" % it, b"V") for it in range(10_000))),
    "an offset that is no number": headers(named(b"x-stream-offset", b"S" + table(b"?"))),
    "text that is not UTF-8": RawProperties(MESSAGE_ID, b"\x02\xff\xfe"),
    "a time beyond the calendar": headers(named(b"at", b"T" + struct.pack(">Q", 2**64 - 1))),
}
BODIES = {
    "nothing": b"",
    "no UTF-8": b"\xff",
    "arrays 100,000 deep": b"[" * 100_000,
    "data 100,000 deep": json.dumps(_JSON | {"time": _TIME, "data": 0}).encode()[:-2]
    + b"[" * 100_000
    + b"]" * 100_000
    + b"}",
    "a number of 10,000 digits": b"[" + b"9" * 10_000 + b"]",
    "a time beyond the calendar": json.dumps(
        _JSON | {"time": "0001-01-01T00:00:00+23:59", "data": ""}
    ).encode(),
    "17 MiB": b"[" + b" " * (17 * 1024 * 1024) + b"]",
}


def poisons(exchange: str, chat_id: str) -> list[Raw]:
    """Write messages of a chat that nobody can read, each odd in one way."""
    plain = headers(named(b"x-stream-filter-value", b"S" + table(chat_id.encode())))
    key = f"chat.{chat_id}.token"
    return [
        *(Raw(b"{}", properties, key, exchange) for properties in PROPERTIES.values()),
        *(Raw(body, plain, key, exchange) for body in BODIES.values()),
        Raw(b"{}", plain, f"chat.{chat_id}.".encode() + b"\xff\xfe", exchange),
    ]


async def poisoned(stage: Stage, chat_id: str) -> None:
    written = poisons(stage.names.events, chat_id)
    await asyncio.to_thread(publish, stage.broker.port, written)


async def test_follower_passes_over_messages_that_are_no_events(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(3))
    job = a_job()
    async with stage.working(), client_of(stage) as client:
        await poisoned(stage, job.chat_id or "")
        async with client.follow(chat_id=job.chat_id, job_id=job.job_id, from_start=True) as items:
            before = await connections_of(stage.broker, "aimicromind client, events")
            await poisoned(stage, job.chat_id or "")
            await client.submit(job)
            came = await asyncio.wait_for(all_of(items), WITHIN_S)
            after = await connections_of(stage.broker, "aimicromind client, events")

    assert isinstance(came[-1], EndEvent)
    assert after == before != set()


async def test_result_is_found_beside_messages_that_are_no_events(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(3))
    job = a_job()
    async with stage.working(), client_of(stage) as client:
        await poisoned(stage, job.chat_id or "")
        await client.submit(job)
        await poisoned(stage, job.chat_id or "")

        end = await client.result(job.job_id or "", within=WITHIN)

    assert end.data.status == "completed"


@pytest.mark.parametrize("kind", ["private", "shared"])
async def test_services_queue_passes_over_messages_that_are_no_events(
    stage: Stage, kind: str
) -> None:
    stage.endpoint.flow("flow", answer(3))
    job = a_job()
    queue = f"{stage.names.prefix}.service"

    binding = f"chat.{job.chat_id}.#"
    async with stage.working(), client_of(stage) as client:
        own = kind == "private"
        reading = client.private(binding) if own else client.shared(queue, binding)
        async with reading as events:
            before = await connections_of(stage.broker, "aimicromind client, events")
            await poisoned(stage, job.chat_id or "")
            await client.submit(job)
            async with asyncio.timeout(WITHIN_S):
                names = [event.event async for event in _to_the_end(events)]
            after = await connections_of(stage.broker, "aimicromind client, events")
        if not own:
            # The end alone: it was not acknowledged, since nothing was asked for after it.
            await until_in_queue(stage.connection, queue, 1)
            await delete_queue(stage.connection, queue)

    assert names[-1] == "end"
    assert after == before != set()


async def _to_the_end(events: AsyncIterator[Event]) -> AsyncIterator[Event]:
    async for event in events:
        yield event
        if isinstance(event, EndEvent):
            return


@pytest.mark.parametrize(
    "parameter", ["no_verify_ssl=1", "no_verify_ssl=", "cafile=/ca.crt", "keyfile=/key.pem"]
)
async def test_address_that_says_something_of_tls_is_refused(parameter: str) -> None:
    with pytest.raises(ValueError, match="url has TLS parameters"):
        async with Client.open(["amqp://first", f"amqps://broker/?heartbeat=9&{parameter}"]):
            pass
