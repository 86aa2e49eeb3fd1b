"""Open a connection to the first address where a broker answers, and channels on it."""

import asyncio
import re
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from aio_pika.abc import AbstractConnection
from aiormq.abc import AbstractChannel
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ChannelInvalidStateError,
    ConnectionNotAllowed,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from yarl import URL

from aimicromind_schemas.client.errors import BrokerRefused, BrokerTlsRefused, BrokerUnreachable
from aimicromind_schemas.client.transport.cancelling import uncancelled, unless_cancelled
from aimicromind_schemas.client.transport.peer import peer_at, port_of
from aimicromind_schemas.client.transport.tls import tls_refusal

Opened = TypeVar("Opened", bound=AbstractConnection)

PATIENCE_S: Final = 5.0
"""Deadline of TCP, TLS and AMQP handshake together, for each address."""

_CLOSED: Final = (AMQPError, ChannelInvalidStateError, RuntimeError)

CHANNELS_NEEDED: Final = (
    "raise that limit: a client needs up to 14 channels, and one for each `shared`, `private` or "
    "`consume`"
)
"""What to do where the broker allows a client too few channels."""

# AMQP 0-9-1, 1.4.2.6.3: no limit is as many as a number of two bytes can name.
_MOST_CHANNELS: Final = 65_535
_REFUSED_IN_WORDS: Final = (ProbableAuthenticationError, ConnectionNotAllowed)


@dataclass(frozen=True, slots=True)
class _Failure:
    """An address where no connection was opened."""

    url: URL
    where: str
    error: Exception
    tls_refusal: BrokerTlsRefused | None = None


async def first_of(
    urls: Sequence[str],
    prepare: Callable[[URL], Opened],
    heartbeat_s: int,
    tls: ssl.SSLContext | None,
    named_by: str,
) -> Opened:
    """Return an open connection.

    Args:
        urls: Addresses, `amqp://` or `amqps://`, tried in order.
        prepare: Returns a connection that is not open yet.
        heartbeat_s: Heartbeat interval to ask the broker for, in seconds.
        tls: Used for `amqps://` by `prepare`, and to find out why a connection failed.
        named_by: What holds the addresses, as the remedy is to name it.

    Raises:
        BrokerUnreachable: No address answered as a broker.
        BrokerRefused: A broker answered and rejects the login or the virtual host.
        BrokerTlsRefused: At every address, one side rejects the other's certificate.
    """
    failures: list[_Failure] = []
    for text in urls:
        opened = await _try(URL(text).update_query(heartbeat=heartbeat_s), prepare, tls, named_by)
        if not isinstance(opened, _Failure):
            return opened
        failures.append(opened)
    refusals = [it.tls_refusal for it in failures if it.tls_refusal is not None]
    if refusals and len(refusals) == len(failures):
        raise refusals[0]
    # Asking a peer takes time, therefore only after all addresses were tried.
    reasons = await asyncio.gather(*(_reason(it, tls) for it in failures))
    each = [f"{it.where} ({why})" for it, why in zip(failures, reasons, strict=True)]
    raise BrokerUnreachable(each, named_by)


async def open_channel(connection: AbstractConnection) -> AbstractChannel:
    """Open a channel of aiormq, without publisher confirms.

    With aiormq 7.2.4, aio-pika 10.2 keeps a callback of each of its own channels until the
    connection closes: 4 KB of memory for each.

    It takes the lowest free number: aiormq would count on from the highest, beyond the limit.

    Raises:
        RuntimeError: The connection has closed.
        BrokerRefused: The connection has as many channels as the broker allows.
    """
    transport = connection.transport
    if transport is None:
        raise RuntimeError("the connection has closed")
    await connection.ready()
    opened = transport.connection
    most = most_channels(connection)
    number = next((it for it in range(1, most + 1) if it not in opened.channels), None)
    if number is None:
        words = f"all {most} channels of the connection are in use (channel_max)"
        raise BrokerRefused(words, remedy=CHANNELS_NEEDED)
    return await opened.channel(channel_number=number, publisher_confirms=False)


def most_channels(connection: AbstractConnection) -> int:
    """Return how many channels the broker allows on an open connection."""
    transport = connection.transport
    tuned = None if transport is None else transport.connection.connection_tune
    return _MOST_CHANNELS if tuned is None else tuned.channel_max or _MOST_CHANNELS


async def kept_channel(connection: AbstractConnection) -> AbstractChannel:
    """Open a channel as `open_channel`, of which nothing is left if the caller is cancelled.

    Raises:
        RuntimeError: The connection has closed.
    """
    opening = asyncio.create_task(open_channel(connection))
    try:
        return await asyncio.shield(opening)
    except asyncio.CancelledError:
        await uncancelled(_undo(opening))
        raise


async def _undo(opening: asyncio.Task[AbstractChannel]) -> None:
    with suppress(*_CLOSED, TimeoutError, asyncio.CancelledError):
        async with asyncio.timeout(PATIENCE_S):
            await close_channel(await opening)


async def close_channel(channel: AbstractChannel) -> None:
    """Close a channel; do not wait for a broker that ignores that.

    Await it by `uncancelled`: if the caller is cancelled meanwhile, the channel stays open.
    """
    # aiormq also raises CancelledError where the connection closes.
    with suppress(*_CLOSED, TimeoutError, asyncio.CancelledError):
        async with asyncio.timeout(PATIENCE_S):
            await channel.close()


def closing_of(connection: AbstractConnection) -> asyncio.Future[Any] | None:
    """Return a future that is done once an open connection has closed."""
    return connection.transport.connection.closing if connection.transport else None


def refusal_of(closing: asyncio.Future[Any]) -> str | None:
    """Return the broker's reply text, if it closed the connection with 530 (not-allowed)."""
    if not closing.done() or closing.cancelled():
        return None
    error = closing.exception()
    return str(error) if isinstance(error, ConnectionNotAllowed) else None


def refused(words: str, where: str, named_by: str) -> BrokerRefused:
    """Return the error, with a remedy, for a broker that rejects a connection.

    Args:
        words: The broker's reply text.
        where: HOST:PORT of the broker.
        named_by: What holds the address, as the remedy is to name it.
    """
    remedies = (
        # First, since RabbitMQ's texts on limits contain "access to vhost" as well.
        (r"\blimit\b", "raise that limit: workers and clients need two connections or three"),
        (r"vhost .* not found", f"add that virtual host, or name another in {named_by}"),
        (r"access to vhost", "grant the user permissions on that virtual host"),
        (r"ACCESS_REFUSED|log in", f"check user and password in {named_by}"),
    )
    fitting = (remedy for pattern, remedy in remedies if re.search(pattern, words))
    return BrokerRefused(words, where, next(fitting, "see the broker's log"))


async def _try(
    url: URL, prepare: Callable[[URL], Opened], tls: ssl.SSLContext | None, named_by: str
) -> Opened | _Failure:
    """Open a connection to one address.

    Raises:
        BrokerRefused: A broker answered and rejects the login or the virtual host.
    """
    where = f"{url.host}:{port_of(url)}"
    try:
        connection = prepare(url)
        async with asyncio.timeout(PATIENCE_S):
            await connection.connect()
    except _REFUSED_IN_WORDS as error:
        raise refused(str(error), where, named_by) from error
    except AuthenticationError as error:
        words = "it offers no mechanism to log in that this client knows"
        raise refused(words, where, named_by) from error
    except InvalidFrameError as error:
        # aiormq raises this where the virtual host is not opened, without the reply text.
        peer = await peer_at(url, tls)
        if peer is not None and peer.is_broker and peer.words:
            raise refused(peer.words, where, named_by) from error
        return _Failure(url, where, error)
    except Exception as error:  # noqa: BLE001 - of any kind, where the peer is no broker
        unless_cancelled()
        return _Failure(url, where, error, await tls_refusal(error, url, tls))
    return connection


async def _reason(failure: _Failure, tls: ssl.SSLContext | None) -> str:
    """Return why a connection failed, in a few words."""
    error = failure.error
    if isinstance(error, OSError) and not isinstance(error, AMQPError | TimeoutError):
        return str(error.args[-1]) if error.args else type(error).__name__
    peer = await peer_at(failure.url, tls)
    if peer is not None and not peer.is_broker:
        return peer.words
    if isinstance(error, TimeoutError):
        return f"not within {PATIENCE_S:g} s"
    return "it closed the connection"
