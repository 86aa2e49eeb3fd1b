"""Open a connection to the first address where a broker answers, under a deadline for each."""

import asyncio
import re
import ssl
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeVar

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import (
    AMQPError,
    AuthenticationError,
    ConnectionNotAllowed,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from yarl import URL

from aimicromind_schemas.client.errors import BrokerRefused, BrokerUnreachable
from aimicromind_schemas.client.transport.peer import peer_at
from aimicromind_schemas.client.transport.tls import tls_refusal

Opened = TypeVar("Opened", bound=AbstractConnection)

PATIENCE_S: Final = 5.0
"""For each address: TCP, TLS and the AMQP handshake."""

_PORTS: Final = {"amqp": 5672, "amqps": 5671}
_TOLD: Final = (ProbableAuthenticationError, ConnectionNotAllowed)


async def first_of(
    urls: Sequence[str],
    prepare: Callable[[URL], Opened],
    heartbeat_s: int,
    tls: ssl.SSLContext | None,
    named_by: str,
) -> Opened:
    """Return an open connection.

    Args:
        urls: Addresses, tried in order.
        prepare: Makes a connection that is not open yet.
        heartbeat_s: Interval that is asked for.
        tls: What connections are made with, unless the address says that.
        named_by: What the addresses come from, for the remedy.

    Raises:
        BrokerUnreachable: No address answered as a broker.
        BrokerRefused: A broker answered and refused us.
        BrokerTlsRefused: One of the two sides does not accept the other's certificate.
    """
    failures: list[tuple[URL, str, Exception]] = []
    nack_period = []
    for text in urls:
        url = URL(text).update_query(heartbeat=heartbeat_s)
        where = f"{url.host}:{url.port or _PORTS.get(url.scheme, 5672)}"
        try:
            connection = prepare(url)
            async with asyncio.timeout(PATIENCE_S):
                await connection.connect()
            return connection  # noqa: TRY300 - an address that fails is not the last word
        except _TOLD as error:
            raise refused(str(error), where, named_by) from error
        except AuthenticationError as error:
            raise refused("it offers no way to log in that we know", where, named_by) from error
        except InvalidFrameError as error:
            # So aiormq tells that the virtual host was not opened; it drops the words.
            peer = await peer_at(url, tls)
            if peer is not None and peer.is_broker and peer.words:
                raise refused(peer.words, where, named_by) from error
            failures.append((url, where, error))
        # What aiormq raises on a peer that is no broker is of any kind.
        except Exception as error:  # noqa: BLE001 - see above
            refusal = await tls_refusal(error, url, tls)
            if refusal is not None:
                nack_period.append(refusal)
            failures.append((url, where, error))
    if nack_period and len(nack_period) == len(failures):
        raise nack_period[0]
    # Once no address is left: another one is not kept waiting for what a peer says.
    told = await asyncio.gather(*(_told(url, error, tls) for url, _, error in failures))
    each = [f"{where} ({why})" for (_, where, _), why in zip(failures, told, strict=True)]
    raise BrokerUnreachable(each, named_by)


async def _told(url: URL, error: Exception, tls: ssl.SSLContext | None) -> str:
    """Return why a connection failed."""
    if isinstance(error, OSError) and not isinstance(error, AMQPError | TimeoutError):
        return str(error.args[-1]) if error.args else type(error).__name__
    peer = await peer_at(url, tls)
    if peer is not None and not peer.is_broker:
        return peer.words
    if isinstance(error, TimeoutError):
        return f"not within {PATIENCE_S:g} s"
    return "it closed the connection"


def refused(words: str, where: str, named_by: str) -> BrokerRefused:
    """Return what to do about a broker that refuses the connection, by its own words."""
    remedies = (
        # The broker's words on limits speak of access as well.
        (r"\blimit\b", "raise that limit: a worker needs two connections or three, a client two"),
        (r"vhost .* not found", f"add that virtual host, or name another in {named_by}"),
        (r"access to vhost", "grant the user permissions on that virtual host"),
        (r"ACCESS_REFUSED|log in", f"check user and password in {named_by}"),
    )
    fitting = (remedy for pattern, remedy in remedies if re.search(pattern, words))
    return BrokerRefused(words, where, next(fitting, "see the broker's log"))


def closing_of(connection: AbstractConnection) -> asyncio.Future[Any] | None:
    """Return what is done once an open connection has closed."""
    return connection.transport.connection.closing if connection.transport else None


def refusal_of(closing: asyncio.Future[Any]) -> str | None:
    """Return the broker's words, if it closed a connection that did what it may not."""
    if not closing.done() or closing.cancelled():
        return None
    error = closing.exception()
    return str(error) if isinstance(error, ConnectionNotAllowed) else None
