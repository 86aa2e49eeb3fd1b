"""Pass the body of an HTTP response from the socket to its reader, without waking a task per part.

Invariants:

- Parts reach the reader in the order of their arrival, each once, none of them empty.
- The reader's callback runs within `pump` or the event loop's callback that read the socket, and
  in the `contextvars` context of `pump` either way.
- At most `_MOST_WAITING_BYTES`, plus one read of the socket, wait for a reader; then reading stops.
- An error is raised only after all that arrived before it has been passed on.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import copy_context
from dataclasses import dataclass

import httpx
from typing_extensions import override

from aimicromind_worker.core.endpoint.exchange import Take

_MOST_WAITING_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class BodyControls:
    """What a body asks of its connection.

    Attributes:
        pause: Stops reading the socket; may be called again.
        resume: Reads the socket again; may be called again.
        release: Ends the response. Called once, whether or not all of it came.
    """

    pause: Callable[[], None]
    resume: Callable[[], None]
    release: Callable[[], None]


class PushedBody(httpx.AsyncByteStream):
    """The body of one response, for one reading task.

    Attributes:
        complete: Whether nothing more arrives.
    """

    def __init__(self, controls: BodyControls) -> None:
        self.complete = False
        self._controls = controls
        self._is_open = True
        self._error: httpx.TransportError | None = None
        self._parts: list[bytes] = []
        self._waiting_bytes = 0
        self._take: Take | None = None
        self._pumped: asyncio.Future[bool] | None = None

    async def pump(self, take: Take) -> bool:
        """Pass on each part as it arrives, until the body ends or `take` returns false.

        Returns:
            Whether there may be more.

        Raises:
            httpx.ReadError: The connection was lost.
            httpx.RemoteProtocolError: The bytes are not HTTP.
            Exception: What `take` raised.
        """
        context = copy_context()
        self._take = lambda data: context.run(take, data)
        self._pumped = asyncio.get_running_loop().create_future()
        try:
            self.deliver()
            return await self._pumped
        finally:
            self._take = self._pumped = None

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        taken: list[bytes] = []

        def take(data: bytes) -> bool:
            taken.append(data)
            return False

        while await self.pump(take):
            yield taken.pop()

    @override
    async def aclose(self) -> None:
        # A second call must not release the connection of a later response.
        if self._is_open:
            self._is_open = False
            self._controls.release()

    def put(self, data: bytes) -> None:
        """Keep a part until `deliver`. For the connection."""
        self._parts.append(data)
        self._waiting_bytes += len(data)

    def end(self, error: httpx.TransportError | None = None) -> None:
        """Record that nothing more arrives. For the connection."""
        self.complete, self._error = True, error
        self.deliver()

    def deliver(self) -> None:
        """Pass the kept parts to a waiting reader, and pause or resume the socket."""
        pumped = self._pumped
        if pumped is not None and not pumped.done():
            self._deliver_to(pumped)
        if self._waiting_bytes < _MOST_WAITING_BYTES:
            self._controls.resume()
        else:
            self._controls.pause()

    def _deliver_to(self, pumped: asyncio.Future[bool]) -> None:
        if self._parts and self._take is not None:
            data = b"".join(self._parts)
            self._parts.clear()
            self._waiting_bytes = 0
            try:
                wants_more = self._take(data)
            except Exception as error:  # noqa: BLE001 - it is raised in the reading task
                pumped.set_exception(error)
                return
            if not wants_more:
                pumped.set_result(True)
                return
        if self._error is not None:
            pumped.set_exception(self._error)
        elif self.complete:
            pumped.set_result(False)
