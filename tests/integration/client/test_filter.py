import asyncio

import pytest
from aio_pika import Message
from aio_pika.abc import HeadersType

from aimicromind_schemas.client.streams.reader import reading
from aimicromind_schemas.client.transport.stream_frames import StreamMessage
from tests.integration.client.stage import filters
from tests.integration.stage import Stage
from tests.support.amqp import WITHIN_S

_OF_OTHERS = 1000


async def test_broker_that_filters_sends_the_log_of_one_chat_alone(stage: Stage) -> None:
    if not await filters(stage.broker):
        pytest.skip("RabbitMQ filters streams from 3.13 on")
    mine: list[StreamMessage] = []
    came = asyncio.Event()

    def take(message: StreamMessage) -> None:
        if message.filter_value == "mine":
            mine.append(message)
        if len(mine) == 2:
            came.set()

    async with stage.listening(), stage.connection.channel() as channel:
        exchange = await channel.get_exchange(stage.names.events, ensure=False)
        for chat, count in (("other", _OF_OTHERS), ("mine", 1), ("other", _OF_OTHERS), ("mine", 1)):
            headers: HeadersType = {"x-stream-filter-value": chat, "BCC": ["0"]}
            key = f"chat.{chat}.token"
            await asyncio.gather(
                *(exchange.publish(Message(b"{}", headers=headers), key) for _ in range(count))
            )
        log = stage.names.events_log_stream(0)
        async with reading(stage.connection, log, None, take, filter_values=("mine",)) as reader:
            await asyncio.wait_for(came.wait(), WITHIN_S)
            others = reader.count - len(mine)

    assert others < _OF_OTHERS / 10
