import asyncio

import pytest
from aio_pika import Message

from aimicromind_schemas.client.log_reading import consumer_arguments
from aimicromind_schemas.client.subscription import Subscription
from tests.integration.client.stage import filters
from tests.integration.stage import Stage
from tests.support.amqp import WITHIN_S

_OF_OTHERS = 1000


async def test_broker_that_filters_sends_the_log_of_one_chat_alone(stage: Stage) -> None:
    if not await filters(stage.broker):
        pytest.skip("RabbitMQ filters streams from 3.13 on")
    async with stage.listening(), stage.connection.channel() as channel:
        exchange = await channel.get_exchange(stage.names.events, ensure=False)
        for chat, count in (("other", _OF_OTHERS), ("mine", 1), ("other", _OF_OTHERS), ("mine", 1)):
            message = Message(b"{}", headers={"x-stream-filter-value": chat})
            key = f"chat.{chat}.token"
            await asyncio.gather(*(exchange.publish(message, key) for _ in range(count)))
        log = await Subscription.open(
            stage.connection, stage.names.events_log_stream(), consumer_arguments("first", "mine")
        )
        mine = others = 0
        while mine < 2:
            delivery = await asyncio.wait_for(log.next(), WITHIN_S)
            await log.acknowledge(delivery, at_once=False)
            is_mine = delivery.routing_key == "chat.mine.token"
            mine, others = mine + is_mine, others + (not is_mine)
        await log.close()

    assert others < _OF_OTHERS / 10
