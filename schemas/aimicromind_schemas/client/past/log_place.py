"""Say where the event log has the events of a chat or of a job.

The log is a super stream: a chat's events are in one partition.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from aimicromind_schemas.client.errors import NoSuchQueue
from aimicromind_schemas.client.past.sources import Missed
from aimicromind_schemas.client.streams.probes import partitions_of
from aimicromind_schemas.client.streams.reader import PREFETCH
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.handle import Handle, HandleUnreadable, Installation, decode_handle
from aimicromind_schemas.partitions import partition_of
from aimicromind_schemas.routing import Names

_log = logging.getLogger(__name__)

CLOCK_SLACK: Final = timedelta(minutes=5)
"""Largest difference between the clocks of workers, broker and client."""

# They can be large, and the broker's prefetch counts messages.
_ENDINGS_AHEAD: Final = 20


@dataclass(frozen=True, slots=True)
class LogPlace:
    """Where to read.

    Attributes:
        streams: The streams, read one after the other.
        since: When to begin, aware, to the precision of a stream's chunks; None: the beginning.
        handle: Where to begin in the only stream; `since` is for a handle that is void.
        prefetch: Messages that the broker sends ahead; few where they are large.
    """

    streams: tuple[str, ...]
    since: datetime | None = None
    handle: Handle | None = None
    prefetch: int = PREFETCH


async def place_in_log(
    connection: GuardedConnection,
    names: Names,
    chat_id: str | None,
    since: datetime | None = None,
    handle: str | None = None,
) -> LogPlace:
    """Return where the event log has the events of a chat, or of a job.

    Args:
        connection: Where to ask how many partitions there are.
        names: Names of the installation.
        chat_id: The chat; None: unknown, thus all partitions are read unless there is a handle.
        since: When to begin, aware; None: the handle's time, or the beginning.
        handle: The handle of the job.

    Raises:
        NoSuchQueue: There is no event log.
        HandleUnreadable: It is no handle of this event log, or of another chat.
        BrokerGone: The connection closed.
    """
    partitions = await partitions_of(connection, names.events_log)
    if not partitions:
        raise NoSuchQueue(names.events_log_stream())
    only = None if chat_id is None else partition_of(chat_id, partitions)
    place = None
    if handle is not None:
        place = decode_handle(handle, Installation(names.prefix, partitions))
        if only not in {None, place.partition}:
            raise HandleUnreadable("it is of another chat")
        only = place.partition
        since = since or place.time - CLOCK_SLACK
    each = range(partitions) if only is None else (only,)
    return LogPlace(tuple(map(names.events_log_stream, each)), since, place)


def earliest(stream: str, places: Sequence[LogPlace]) -> LogPlace:
    """Return a place in a stream before all of some."""
    begins = [it.since for it in places]
    handles = [it.handle for it in places]
    return replace(
        places[0],
        streams=(stream,),
        since=None if None in begins else min(filter(None, begins)),
        handle=None if None in handles else min(filter(None, handles), key=lambda it: it.offset),
    )


async def missed_in_log(names: Names, connection: GuardedConnection, missed: Missed) -> LogPlace:
    """Return where the event log has what a follower missed.

    A handle that cannot be read is left out, with a warning: the events are found without it.

    Raises:
        NoSuchQueue: There is no event log.
        BrokerGone: The connection closed.
    """
    chat_id, since = missed.wanted.chat_id, missed.since
    try:
        place = await place_in_log(connection, names, chat_id, since, missed.handle)
    except HandleUnreadable as error:
        _log.warning("%s", error)
        place = await place_in_log(connection, names, chat_id, since)
    if place.handle is not None and since is not None and place.handle.time < since:
        return replace(place, handle=None)
    return place


async def missed_in_endings(names: Names, _: GuardedConnection, missed: Missed) -> LogPlace:
    """Return where the stream of endings has what a follower missed."""
    return LogPlace((names.endings,), missed.since, prefetch=_ENDINGS_AHEAD)
