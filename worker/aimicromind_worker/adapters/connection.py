"""Open connections to the broker: the first address that answers, under a deadline."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta

import aio_pika
from aiormq.connection import DEFAULT_PORTS, Connection
from aiormq.exceptions import (
    AMQPConnectionError,
    AuthenticationError,
    ConnectionNotAllowed,
    IncompatibleProtocolError,
    InvalidFrameError,
    ProbableAuthenticationError,
)
from yarl import URL

from aimicromind_schemas.client.tls import tls_refusal
from aimicromind_schemas.client.wire import Wire
from aimicromind_worker.adapters import close_reasons

_CLOSE_TIMEOUT_S = 5.0
# For each address: TCP, TLS and the AMQP handshake.
_PATIENCE_S = 5.0
# The last is what aiormq makes of a close in place of "open-ok": no such virtual host.
_REFUSALS = (
    AuthenticationError,
    ProbableAuthenticationError,
    ConnectionNotAllowed,
    InvalidFrameError,
)


class BrokerUnreachable(ConnectionError):
    """No broker answered at any of the addresses."""

    def __init__(self, failures: Sequence[str]) -> None:
        super().__init__(
            f"no broker answers at {'; '.join(failures)}: start it, or check AIMICROMIND_AMQP_URL"
        )


class BrokerGone(ConnectionError):
    """The connection closed while it was used."""

    def __init__(self) -> None:
        super().__init__("the connection to the broker closed")


class BrokerRefused(Exception):
    """The broker answers and does not let us in; waiting would not help."""

    def __init__(self, where: str) -> None:
        super().__init__(
            f"the broker at {where} refuses the connection: "
            "check user, password and virtual host in AIMICROMIND_AMQP_URL"
        )


class PermissionMissing(Exception):
    """The broker lets us in and refuses what we do; waiting would not help."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the broker's user lacks a permission ({' '.join(reason.split())}): grant it "
            "configure, write and read on all names that begin with the prefix, and write on "
            "amq.default"
        )


class BrokerConnection(aio_pika.Connection):
    """A connection of aio_pika, with a hand on its socket.

    Attributes:
        wire: The socket.
    """

    def __init__(self, url: URL, name: str, tls: ssl.SSLContext | None) -> None:
        super().__init__(url, ssl_context=tls, client_properties={"connection_name": name})
        self.wire = Wire()
        self.kwargs["transport_factory"] = self.wire

    @property
    def inner(self) -> Connection:
        """The connection of aiormq.

        Raises:
            BrokerGone: It is closed.
        """
        if self.transport is None or not isinstance(self.transport.connection, Connection):
            raise BrokerGone
        return self.transport.connection


@asynccontextmanager
async def connect(
    urls: Sequence[str], name: str, heartbeat: timedelta, tls: ssl.SSLContext | None = None
) -> AsyncIterator[BrokerConnection]:
    """Open a connection and close it at the end.

    Args:
        urls: Addresses, tried in order.
        name: What operators see in the broker's list of connections.
        heartbeat: Interval that is asked for.
        tls: Whom to trust and what to show where an address begins with amqps://; None: the
            system's certificates are trusted.

    Raises:
        BrokerUnreachable: No address answered as a broker.
        BrokerRefused: A broker answered and refused us.
        BrokerTlsRefused: One of the two sides does not accept the other's certificate.
        BrokerGone: The connection closed while the body used it.
    """
    close_reasons.install()
    connection = await _first_of(urls, name, heartbeat, tls)
    try:
        yield connection
    except RuntimeError as error:
        # So aio_pika and aiormq report a call on what has closed meanwhile.
        if connection.connected.is_set():
            raise
        raise BrokerGone from error
    finally:
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await connection.close()
        except (TimeoutError, ConnectionError, AMQPConnectionError):
            connection.wire.abort()


async def _first_of(
    urls: Sequence[str], name: str, heartbeat: timedelta, tls: ssl.SSLContext | None
) -> BrokerConnection:
    failures, refusals = [], []
    for text in urls:
        url = URL(text).update_query(heartbeat=int(heartbeat.total_seconds()))
        where = f"{url.host}:{url.port or DEFAULT_PORTS[url.scheme]}"
        try:
            connection = BrokerConnection(url, name, tls)
            async with asyncio.timeout(_PATIENCE_S):
                await connection.connect()
            return connection  # noqa: TRY300 - an address that fails is not the last word
        except _REFUSALS as error:
            raise BrokerRefused(where) from error
        except TimeoutError:
            failures.append(f"{where} within {_PATIENCE_S:g} s")
        except StopAsyncIteration:
            # So aiormq tells that the peer hung up within the handshake.
            failures.append(f"{where} (it closed the connection)")
        except (OSError, AMQPConnectionError, IncompatibleProtocolError) as error:
            refusal = await tls_refusal(error, url, tls)
            if refusal is not None:
                refusals.append(refusal)
            failures.append(f"{where} ({error.args[-1] if error.args else type(error).__name__})")
    if refusals and len(refusals) == len(failures):
        raise refusals[0]
    raise BrokerUnreachable(failures)
