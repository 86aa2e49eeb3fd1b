"""Keep a connection to the broker open, and sort the errors of a lost one."""

import asyncio
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, Final

from aiormq.exceptions import (
    AMQPError,
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelPreconditionFailed,
    ConnectionNotAllowed,
)
from tenacity import (
    AsyncRetrying,
    retry_if_exception_type,
    stop_before_delay,
    wait_exponential,
)
from yarl import URL

from aimicromind_schemas.client.errors import BrokerGone, BrokerRefused, BrokerUnreachable
from aimicromind_schemas.client.transport.cancelling import unless_cancelled
from aimicromind_schemas.client.transport.opening import (
    CHANNELS_NEEDED,
    closing_of,
    first_of,
    refusal_of,
)
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.transport.tls import says_tls

TIMEOUT_S: Final = 10.0
_CLOSE_S: Final = 3.0
_HEARTBEAT_S: Final = 10
_FIRST_PAUSE_S: Final = 0.1
_LONGEST_PAUSE_S: Final = 3.0
REFUSALS: Final = (
    ChannelAccessRefused,
    ChannelLockedResource,
    ChannelPreconditionFailed,
    # 530: no more channels are allowed.
    ConnectionNotAllowed,
)


class ClientConnection:
    """One connection, opened on demand. Any number of tasks may ask for it."""

    def __init__(
        self, urls: Sequence[str], name: str, patience: timedelta, tls: ssl.SSLContext | None
    ) -> None:
        """Prepare; nothing is opened yet.

        Args:
            urls: Addresses, tried in order.
            name: Shown to operators in the broker's list of connections.
            patience: How long to try to connect.
            tls: For `amqps://`; None trusts the system's certificates.

        Raises:
            ValueError: An address has TLS parameters after its `?`.
        """
        if any(map(says_tls, urls)):
            raise ValueError("url has TLS parameters after the ?: use the argument tls")
        self._urls = urls
        self._name = name
        self._patience = patience
        self._tls = tls
        self._opening = asyncio.Lock()
        self._connection: GuardedConnection | None = None
        self._closing: asyncio.Future[Any] | None = None

    async def connection(self, *, once: bool = False) -> GuardedConnection:
        """Return the open connection; open a new one if the last was lost.

        Args:
            once: Try each address once, without waiting.

        Raises:
            BrokerUnreachable: No address answered in time.
            BrokerRefused: The broker rejects the login or the virtual host, or the last connection
                was closed for a limit.
            BrokerTlsRefused: One side rejects the other's certificate.
        """
        async with self._opening:
            if self._connection is None or not self._connection.connected.is_set():
                _check(self._closing)
                await self.close()
                self._connection = await (self._first() if once else self._patiently())
                self._closing = closing_of(self._connection)
            return self._connection

    async def close(self) -> None:
        """Close the connection, if one is open, within 3 s."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(TimeoutError, ConnectionError, AMQPError, RuntimeError):
                async with asyncio.timeout(_CLOSE_S):
                    await connection.close()
            unless_cancelled()

    async def _patiently(self) -> GuardedConnection:
        tries = AsyncRetrying(
            retry=retry_if_exception_type(BrokerUnreachable),
            wait=wait_exponential(_FIRST_PAUSE_S, _LONGEST_PAUSE_S),
            stop=stop_before_delay(self._patience),
            reraise=True,
        )
        return await tries(self._first)

    async def _first(self) -> GuardedConnection:
        return await first_of(self._urls, self._prepared, _HEARTBEAT_S, self._tls, "the address")

    def _prepared(self, url: URL) -> GuardedConnection:
        return GuardedConnection(url, self._name, self._tls)


def _check(closing: asyncio.Future[Any] | None) -> None:
    """Check that the last connection was not closed for a limit, as the next would be.

    Raises:
        BrokerRefused: It was: the broker allows too few channels.
    """
    if closing is not None and (reason := refusal_of(closing)) is not None:
        raise BrokerRefused(reason, remedy=CHANNELS_NEEDED)


@contextmanager
def broker_errors() -> Iterator[None]:
    """Raise the client's errors for those of aiormq.

    Raises:
        BrokerGone: The connection or channel closed, or a deadline passed.
        BrokerRefused: A permission is missing, a queue exists with other arguments, or a limit is
            reached.
    """
    try:
        yield
    except asyncio.CancelledError as error:
        # aiormq cancels what waits on a connection that closes, without a cancel of the task.
        unless_cancelled()
        raise BrokerGone from error
    except ConnectionNotAllowed as error:
        raise BrokerRefused(str(error), remedy=CHANNELS_NEEDED) from error
    except REFUSALS as error:
        raise BrokerRefused(str(error)) from error
    except (AMQPError, OSError, RuntimeError) as error:
        unless_cancelled()
        raise BrokerGone from error
    except Exception as error:
        # aiormq 7 raises a bare Exception in calls that wait for a killed broker.
        if type(error) is Exception:
            raise BrokerGone from error
        raise
