"""Count the partitions of the event log on the broker.

The number cannot change while the log exists: the earlier events of most chats would be in another
partition than where their readers look. The partitions are declared from the last to the first, so
that of an interrupted declaration the first is missing.
"""

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelNotFoundEntity

from aimicromind_worker.amqp.differences import Difference
from aimicromind_worker.amqp.topology import SuperStream


async def other_partitions(
    connection: AbstractConnection, log: SuperStream | None
) -> list[Difference]:
    """Return the difference if the event log has another number of partitions."""
    there = await partitions_there(connection, log) if log is not None else 0
    if log is None or there == log.partitions:
        return []
    detail = f"it has {there} partitions, not AIMICROMIND_EVENTS_LOG_PARTITIONS={log.partitions}"
    remedy = (
        f"set AIMICROMIND_EVENTS_LOG_PARTITIONS to {there}; or stop the workers, delete the "
        f"streams {log.stream(0)} to {log.stream(there - 1)} with their events, and start again"
    )
    return [Difference(log.name, "super stream", "different", detail, remedy)]


async def partitions_there(connection: AbstractConnection, log: SuperStream) -> int:
    """Return how many partitions the event log on the broker was declared with.

    Returns:
        The number that is wanted where nothing contradicts it: nothing was declared yet, or single
        partitions were deleted, which are declared again.
    """
    if await _is_there(connection, log.stream(log.partitions)):
        return await _count(connection, log, log.partitions + 1)
    last_is_there = await _is_there(connection, log.stream(log.partitions - 1))
    if last_is_there or not await _is_there(connection, log.stream(0)):
        return log.partitions
    return await _count(connection, log, 1)


async def _count(connection: AbstractConnection, log: SuperStream, known: int) -> int:
    while await _is_there(connection, log.stream(known)):
        known += 1
    return known


async def _is_there(connection: AbstractConnection, stream: str) -> bool:
    try:
        # The broker closes a channel where a name is not found.
        async with connection.channel() as channel:
            await channel.declare_queue(stream, durable=True, passive=True)
    except ChannelNotFoundEntity:
        return False
    return True
