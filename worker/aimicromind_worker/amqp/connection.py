"""Open a connection to the broker at the first address that answers, under a deadline."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import wraps

from aiormq.abc import ExceptionType
from aiormq.base import FutureStore
from aiormq.connection import Connection
from aiormq.exceptions import AMQPConnectionError

from aimicromind_schemas.client.transport.opening import first_of
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection

_CLOSE_TIMEOUT_S = 5.0
_Reject = Callable[[FutureStore, ExceptionType | None], Awaitable[None]]
_reject: _Reject = FutureStore.reject_all


class BrokerLost(ConnectionError):
    """The connection to the broker closed while it was used."""

    def __init__(self) -> None:
        super().__init__("the connection to the broker closed")


class PermissionMissing(Exception):
    """The broker accepts the login and rejects an operation; waiting would not help."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the broker's user lacks a permission ({' '.join(reason.split())}): grant it "
            "configure, write and read on all names that begin with the prefix, and write on "
            "amq.default"
        )


class BrokerConnection(GuardedConnection):
    """A guarded connection, with access to that of aiormq."""

    @property
    def inner(self) -> Connection:
        """The underlying connection of aiormq.

        Raises:
            BrokerLost: The connection is closed.
        """
        if self.transport is None or not isinstance(self.transport.connection, Connection):
            raise BrokerLost
        return self.transport.connection


@asynccontextmanager
async def connect(
    urls: Sequence[str], name: str, heartbeat: timedelta, tls: ssl.SSLContext | None = None
) -> AsyncIterator[BrokerConnection]:
    """Open a connection for the body, and close it afterwards within 5 s.

    Args:
        urls: The addresses, tried in order.
        name: The name in the broker's list of connections.
        heartbeat: The heartbeat interval to request, in whole seconds.
        tls: The TLS context for amqps:// addresses; None: the system's certificates are trusted.

    Raises:
        BrokerUnreachable: No address answered as a broker.
        BrokerRefused: The broker rejects the login or the virtual host.
        BrokerTlsRefused: One side does not accept the other's certificate.
        BrokerLost: The connection closed while the body used it.
    """
    give_closings_a_reason()
    connection = await first_of(
        urls,
        lambda url: BrokerConnection(url, name, tls),
        int(heartbeat.total_seconds()),
        tls,
        "AIMICROMIND_AMQP_URL",
    )
    try:
        yield connection
    except RuntimeError as error:
        # aio_pika and aiormq raise this for a call on a connection or channel that has closed.
        if connection.connected.is_set():
            raise
        raise BrokerLost from error
    finally:
        try:
            async with asyncio.timeout(_CLOSE_TIMEOUT_S):
                await connection.close()
        except (TimeoutError, ConnectionError, AMQPConnectionError):
            connection.wire.abort()


def version_of(connection: BrokerConnection) -> tuple[int, ...]:
    """Return major and minor version of the broker; empty if it does not say them in numbers."""
    told = connection.inner.server_properties.get("version")
    text = told.decode(errors="replace") if isinstance(told, bytes) else str(told or "")
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())


@wraps(_reject)
def _reject_with_reason(store: FutureStore, exception: ExceptionType | None) -> Awaitable[None]:
    return _reject(store, exception or AMQPConnectionError("the connection closed"))


def give_closings_a_reason() -> None:
    """Fail what waits on a closed connection with an error of AMQP, whatever closed it.

    aiormq 7 fails it with a bare `Exception` where it knows no reason, as when a broker is killed.
    Nobody can tell that from a fault of the program, which ends the worker. This replaces a method
    of aiormq; calling it again changes nothing.
    """
    FutureStore.reject_all = _reject_with_reason  # type: ignore[method-assign]
