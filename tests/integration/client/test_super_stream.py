"""The event log as clients of the stream protocol see it: `make test-super-stream`."""

import asyncio
import json
import socket
from typing import Any

import pytest

from aimicromind_schemas import Names, partition_of
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.connection import connect, version_of
from aimicromind_worker.amqp.declaring import declare
from aimicromind_worker.amqp.topology import Retention, topology
from tests.integration.outgoing import sink_at
from tests.integration.speaker import Speaker
from tests.support.amqp import BEAT, WITHIN_S

rstream = pytest.importorskip("rstream", reason="rstream is not installed: make test-super-stream")
_READABLE_FROM = (4, 0)
_CHATS = [f"chat-{number}" for number in range(8)]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


async def test_rstream_reads_all_partitions_of_the_event_log() -> None:
    port, names = _free_port(), Names()
    settings = {
        "stream.listeners.tcp.1": f"127.0.0.1:{port}",
        "stream.advertised_host": "127.0.0.1",
        "stream.advertised_port": str(port),
    }
    async with (
        PrivateBroker(settings=settings, plugins=["rabbitmq_stream"]) as broker,
        connect([broker.url], "test", BEAT) as connection,
    ):
        if version_of(connection) < _READABLE_FROM:
            pytest.skip("rstream cannot read the list of partitions that RabbitMQ 3.10 sends")
        await declare(connection, topology(names, Retention("1h", 10_000_000)))
        async with sink_at(broker.url, names) as publisher:
            for chat in _CHATS:
                speaker = Speaker(publisher, f"job-of-{chat}", chat_id=chat)
                speaker.say("start")
                speaker.say("end")
                await speaker.attempt_publisher.confirmed()
        came = await _read(port, names.events_log, 2 * len(_CHATS))

    assert len({partition_of(chat, 4) for chat in _CHATS}) > 1
    for chat in _CHATS:
        stream = names.events_log_stream(partition_of(chat, 4))
        assert came.count((stream, chat)) == 2
    assert len(came) == 2 * len(_CHATS)


async def _read(port: int, super_stream: str, count: int) -> list[tuple[str, str]]:
    """Give stream and chat of each message."""
    came: list[tuple[str, str]] = []
    done = asyncio.Event()

    async def take(message: Any, context: Any) -> None:  # noqa: ANN401 - of rstream
        came.append((context.stream, json.loads(message.body)["chatId"]))
        if len(came) == count:
            done.set()

    consumer = rstream.SuperStreamConsumer(
        host="127.0.0.1",
        port=port,
        username="guest",
        password="guest",
        super_stream=super_stream,
    )
    await consumer.start()
    try:
        await consumer.subscribe(
            callback=take,
            decoder=rstream.amqp_decoder,
            offset_specification=rstream.ConsumerOffsetSpecification(rstream.OffsetType.FIRST),
        )
        await asyncio.wait_for(done.wait(), WITHIN_S)
    finally:
        await consumer.close()
    return came
