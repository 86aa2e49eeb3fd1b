"""Check the broker for `doctor`: version, limits, permissions, topology and journal."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from aio_pika import Message
from aiormq.exceptions import AMQPError, ChannelAccessRefused, ChannelNotFoundEntity

from aimicromind_schemas import Names
from aimicromind_schemas.client import BrokerRefused, BrokerTlsRefused, BrokerUnreachable
from aimicromind_schemas.client.errors import NoSuchQueue
from aimicromind_schemas.client.streams.probes import first_kept
from aimicromind_schemas.client.streams.reader import StreamUnreadable
from aimicromind_schemas.client.transport.opening import closing_of, refusal_of
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_worker.amqp.channels import (
    LEAST,
    LEAST_OF_EVENTS,
    NEEDED,
    TooFewChannels,
    check_channels,
)
from aimicromind_worker.amqp.connection import BrokerConnection, BrokerLost, version_of
from aimicromind_worker.amqp.declaring import compare
from aimicromind_worker.amqp.differences import Difference
from aimicromind_worker.amqp.jobs.chat_lock import ChatLocks, ChatLocksLost
from aimicromind_worker.app.broker import broker_connection, needed_topology
from aimicromind_worker.app.settings import Settings
from aimicromind_worker.core.chats.actions import LockAnswer
from aimicromind_worker.core.findings import Finding, State

_CONNECTION = "aimicromind-worker doctor"
# Two of the worker, and one chat lock.
_OWN_QUEUES = 3
_PUBLISHED_WITHIN_S = 3.0
_OLDEST, _FILTERS_FROM = (3, 10), (3, 13)


async def examine_broker(settings: Settings) -> AsyncIterator[Finding]:
    """Yield findings from doing on the broker what a worker does; nothing of it stays.

    Args:
        settings: Addresses of the broker, and names of the topology.
    """
    closing = None
    try:
        async with broker_connection(settings, _CONNECTION) as connection:
            closing = closing_of(connection)
            yield _version(connection)
            found = await compare(connection, needed_topology(settings))
            for finding in _objects(found):
                yield finding
            yield await _permissions(connection, settings)
            yield await _publishing(settings)
            async for finding in _journal(connection, settings):
                yield finding
            # Last, because the broker closes a connection that opens too many channels.
            missing = sum(each.kind == "queue" and each.state == "missing" for each in found)
            yield await _limits(connection, settings, missing + _OWN_QUEUES)
    except BrokerLost as error:
        words = refusal_of(closing) if closing is not None else None
        yield Finding("limits", State.PROBLEM, words or str(error), f"raise that limit: {NEEDED}")
    except (BrokerTlsRefused, BrokerRefused) as error:
        yield Finding("broker", State.PROBLEM, str(error), error.remedy or "see the broker's log")
    except BrokerUnreachable as error:
        remedy = "start the broker, or set AIMICROMIND_AMQP_URL to its address"
        yield Finding("broker", State.PROBLEM, str(error), remedy)


async def _limits(connection: BrokerConnection, settings: Settings, queues: int) -> Finding:
    """Try to open the connections, channels and queues that a worker needs.

    Args:
        connection: The first connection.
        settings: Address for the second connection.
        queues: Number of queues that a worker would declare.
    """
    about = "limits"
    try:
        check_channels(connection)
        # The check of permissions has left two open.
        for _ in range(LEAST - 2):
            await connection.channel()
        async with broker_connection(settings, _CONNECTION) as second:
            *_, channel = [await second.channel() for _ in range(LEAST_OF_EVENTS)]
            for _ in range(queues):
                # The broker deletes exclusive queues with their connection.
                name = f"{settings.prefix}.doctor.{uuid4()}"
                await channel.declare_queue(name, exclusive=True)
    except TooFewChannels as error:
        return Finding(about, State.PROBLEM, str(error), "raise channel_max in rabbitmq.conf")
    except ChannelAccessRefused:
        return Finding(about, State.NOT_CHECKED, "the user may not declare queues")
    except (BrokerRefused, AMQPError) as error:
        detail = " ".join(str(error).split())
        return Finding(about, State.PROBLEM, detail, f"raise that limit: {NEEDED}")
    return Finding(about, State.OK, f"the broker allows what a worker needs: {NEEDED}")


def _version(connection: BrokerConnection) -> Finding:
    told = connection.inner.server_properties
    product = f"{_text(told.get('product'))} {_text(told.get('version'))}"
    numbers = version_of(connection)
    if numbers < _OLDEST:
        remedy = "update RabbitMQ: the worker needs 3.10 or later"
        return Finding("broker", State.PROBLEM, product, remedy)
    how = "filters its event log by chat" if numbers >= _FILTERS_FROM else "without stream filters"
    return Finding("broker", State.OK, f"{product}, {how}")


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _objects(found: Sequence[Difference]) -> Iterator[Finding]:
    declare = "start a worker, or use `aimicromind-worker topology declare`"
    if all(each.state == "missing" for each in found):
        detail = f"none of the {len(found)} exchanges and queues exists yet"
        yield Finding("topology", State.WARNING, detail, declare)
        return
    for each in found:
        about = f"{each.kind} {each.name}"
        if each.is_in_the_way:
            yield Finding(about, State.PROBLEM, f"{each.state}: {each.detail}", each.ways_out)
        elif each.state == "not compared":
            remedy = "compare as a user who may declare it: `aimicromind-worker topology check`"
            yield Finding(about, State.NOT_CHECKED, each.detail, remedy)
        elif each.state == "missing":
            yield Finding(about, State.WARNING, "it does not exist yet", declare)
    fine = sum(each.state == "as expected" for each in found)
    yield Finding(
        "topology", State.OK, f"{fine} of {len(found)} exchanges and queues exist as needed"
    )


async def _permissions(connection: BrokerConnection, settings: Settings) -> Finding:
    about, tried = "permissions", "declare, read and delete a queue of the prefix"
    names = Names(settings.prefix)
    try:
        check_channels(connection)
        queue = names.chat_lease(f"doctor-{uuid4()}")
        chat_locks = await ChatLocks.open(connection)
        answer = await chat_locks.lock(queue, lambda *_: None, lambda: None)
        if answer is not LockAnswer.GRANTED:
            detail = "the broker declares no more queues, because a limit is reached"
            return Finding("queues", State.PROBLEM, detail, f"raise that limit: {NEEDED}")
        await chat_locks.unlock(queue)
    except TooFewChannels as error:
        return Finding(about, State.NOT_CHECKED, str(error))
    except (ChatLocksLost, AMQPError) as error:
        cause = error.__cause__ or error
        remedy = "grant configure, write and read on all names that begin with the prefix"
        return Finding(about, State.PROBLEM, " ".join(str(cause).split()), remedy)
    return Finding(about, State.OK, f"the user may {tried}")


async def _publishing(settings: Settings) -> Finding:
    """Publish an event in a transaction that is rolled back: the broker checks, and routes nothing.

    RabbitMQ 4 applies topic permissions to the partition's number, too. The connection is used for
    nothing else: a broker with an alarm reads nothing more from it.
    """
    about, exchange = "publishing", Names(settings.prefix).events
    try:
        async with broker_connection(settings, _CONNECTION) as connection:
            try:
                async with asyncio.timeout(_PUBLISHED_WITHIN_S):
                    await _publish_and_roll_back(connection, exchange)
            except TimeoutError:
                # The broker would not read that the connection is closed.
                connection.wire.abort()
                detail = "the broker did not answer: has it an alarm?"
                return Finding(about, State.NOT_CHECKED, detail)
    except ChannelNotFoundEntity:
        return Finding(about, State.NOT_CHECKED, f"there is no exchange {exchange} yet")
    except (BrokerRefused, BrokerLost, BrokerUnreachable) as error:
        return Finding(about, State.NOT_CHECKED, str(error))
    except AMQPError as error:
        remedy = f"grant write on {exchange}; topic permissions need `^(chat\\.|[0-9]+$)`"
        return Finding(about, State.PROBLEM, " ".join(str(error).split()), remedy)
    return Finding(about, State.OK, "the user may publish events of all chats and partitions")


async def _publish_and_roll_back(connection: BrokerConnection, exchange: str) -> None:
    channel = await connection.channel(publisher_confirms=False)
    transaction = channel.transaction()
    await transaction.select()
    event = Message(b"", headers={"BCC": ["0"]})
    events = await channel.get_exchange(exchange, ensure=False)
    await events.publish(event, "chat.doctor.end", mandatory=False)
    await transaction.rollback()


async def _journal(connection: GuardedConnection, settings: Settings) -> AsyncIterator[Finding]:
    """Yield a warning where the journal reaches back less far than jobs live."""
    try:
        first = await first_kept(connection, Names(settings.prefix).journal)
    except (NoSuchQueue, StreamUnreadable):
        # The journal does not exist yet.
        return
    if first is None or not first.offset:
        # Nothing was removed from it yet.
        return
    needed = timedelta(seconds=settings.job_lifetime_seconds)
    if (reach := datetime.now(UTC) - (first.sent_at or datetime.now(UTC))) < needed:
        detail = (
            f"the journal reaches back {reach.total_seconds():.0f} s, and jobs live up to "
            f"{needed.total_seconds():.0f} s: an older job that loses its worker may fail"
        )
        remedy = "raise AIMICROMIND_JOURNAL_MAX_BYTES, together with a new AIMICROMIND_PREFIX"
        yield Finding("journal", State.WARNING, detail, remedy)
