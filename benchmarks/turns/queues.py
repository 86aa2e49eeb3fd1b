"""Declare the exchanges and queues of a turn: the worker's topology, or one of each for a peer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Final

from aio_pika import ExchangeType
from pamqp.common import FieldTable

from aimicromind_schemas import Names
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.amqp.declaring import declare, remove
from aimicromind_worker.app.broker import needed_topology
from aimicromind_worker.app.broker_settings import BrokerSettings
from benchmarks.turns.workers import MeasuredWorker, TurnPlace

_COPIES_KEPT: Final = 1000


@asynccontextmanager
async def queues(place: TurnPlace, worker: MeasuredWorker) -> AsyncIterator[None]:
    """Declare them for the time of the body."""
    settings = BrokerSettings.read(
        amqp_url=place.amqp_url, prefix=place.prefix, events_log=worker.event_log
    )
    needed = needed_topology(settings)
    names = Names(place.prefix)
    async with (
        connect([place.amqp_url], "bench", timedelta(seconds=60)) as connection,
        connection.channel() as channel,
    ):
        if worker.is_product:
            await declare(connection, needed)
            arguments: FieldTable = {"x-max-length": _COPIES_KEPT}
            await channel.declare_queue(place.copies, exclusive=True, arguments=arguments)
            yield
            await remove(connection, needed)
        else:
            await channel.declare_exchange(names.events, ExchangeType.TOPIC, durable=True)
            await channel.declare_queue(names.jobs, durable=True)
            yield
            await channel.queue_delete(names.jobs)
            await channel.exchange_delete(names.events)
