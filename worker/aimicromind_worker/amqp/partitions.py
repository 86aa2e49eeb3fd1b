"""Compare the number of the event log's partitions on the broker with the number that is wanted.

It cannot change while the log exists: the earlier events of most chats would be in another
partition than where their readers look. Partitions are declared from the last to the first. Thus
after an interrupted declaration the first is missing.
"""

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelAccessRefused, ChannelNotFoundEntity, ChannelPreconditionFailed

from aimicromind_worker.amqp.differences import Difference
from aimicromind_worker.amqp.topology import Queue, SuperStream, Topology


async def other_partitions(connection: AbstractConnection, wanted: Topology) -> list[Difference]:
    """Return the difference if the event log was declared with another number of partitions.

    Single partitions that were deleted are no difference: they are declared again.
    """
    log = wanted.event_log
    there = await _partitions_there(connection, log, wanted) if log is not None else 0
    if log is None or there == log.partitions:
        return []
    detail = f"it has {there} partitions, not AIMICROMIND_EVENTS_LOG_PARTITIONS={log.partitions}"
    remedy = (
        f"set AIMICROMIND_EVENTS_LOG_PARTITIONS to {there}; or stop the workers, delete the "
        f"streams {log.stream(0)} to {log.stream(there - 1)} with their events, and start again"
    )
    return [Difference(log.name, "super stream", "different", detail, remedy)]


async def _partitions_there(
    connection: AbstractConnection, log: SuperStream, wanted: Topology
) -> int:
    if await _exists(connection, log.stream(log.partitions)):
        return await _count(connection, log, log.partitions + 1)
    last_exists = await _exists(connection, log.stream(log.partitions - 1))
    if last_exists or not await _exists(connection, log.stream(0)):
        return log.partitions
    there = await _count(connection, log, 1)
    first = next(queue for queue in wanted.queues if queue.name == log.stream(0))
    # The size of each partition tells of how many it is. Of one, the bindings differ, too.
    if there == log.partitions - 1 > 1 and await _exists_as_wanted(connection, first):
        return log.partitions
    return there


async def _count(connection: AbstractConnection, log: SuperStream, known: int) -> int:
    while await _exists(connection, log.stream(known)):
        known += 1
    return known


async def _exists(connection: AbstractConnection, stream: str) -> bool:
    try:
        # The broker closes a channel where a name is not found.
        async with connection.channel() as channel:
            await channel.declare_queue(stream, durable=True, passive=True)
    except (ChannelNotFoundEntity, ChannelAccessRefused):
        # RabbitMQ 4.3 refuses a name that is not found to a user who may not declare it.
        return False
    return True


async def _exists_as_wanted(connection: AbstractConnection, first: Queue) -> bool:
    try:
        async with connection.channel() as channel:
            await channel.declare_queue(first.name, durable=True, arguments=dict(first.arguments))
    except (ChannelPreconditionFailed, ChannelAccessRefused):
        return False
    return True
