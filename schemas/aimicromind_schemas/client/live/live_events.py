"""Give the live events of any chats to their followers, from one queue for the whole process.

Invariants:

- Somebody who joined gets each event that is published after `join` returned, until it leaves or
  is told that it misses some.
- After a lost connection, the queue and the bindings of all come back together: the bindings are
  sent at once, and each who waits is told when its own is there.
- Whoever names something that the broker refuses gets the error alone.
"""

import asyncio
import logging
from typing import Final

from aimicromind_schemas.client.connection import ClientConnection
from aimicromind_schemas.client.delivery import Delivery
from aimicromind_schemas.client.errors import BrokerGone
from aimicromind_schemas.client.live.answers import Answers
from aimicromind_schemas.client.live.dispatch import Dispatch, Taker
from aimicromind_schemas.client.live.live_queue import Handlers, LiveQueue
from aimicromind_schemas.client.live.rounds import Rounds
from aimicromind_schemas.client.transport.stream_frames import StreamMessage

_log = logging.getLogger(__name__)

PAUSE_S: Final = 0.1
"""Before another try on a connection that was lost."""

# All followers then ask for what they missed.
_BEHIND_EVERY_S: Final = 30.0


class LiveEvents:
    """The live events of one exchange. Any number of tasks may join at once.

    Attributes:
        answers: Who waits for an answer that comes in the same queue.
        rounds: Whose turn it is to read what was missed.
    """

    def __init__(self, connection: ClientConnection, exchange: str) -> None:
        """Prepare; nothing is sent before somebody joins.

        Args:
            connection: Opened, and opened again after a loss.
            exchange: Exchange of events.
        """
        self.answers = Answers()
        self.rounds = Rounds()
        self._connection = connection
        self._exchange = exchange
        self._dispatch = Dispatch()
        self._members: set[Taker] = set()
        self._queue: LiveQueue | None = None
        self._opening: asyncio.Task[None] | None = None
        self._behind_at: float | None = None
        self._is_closed = False

    @property
    def queue_name(self) -> str | None:
        """Name of the queue, where answers can be sent to; None while there is none."""
        return None if self._queue is None else self._queue.name

    async def join(self, taker: Taker) -> None:
        """Pass somebody its events, from now on until it leaves.

        Raises:
            NothingToListenTo: The exchange of events does not exist.
            BrokerUnreachable: No broker answers.
            BrokerRefused: The user lacks a permission, or a limit is reached.
        """
        self._members.add(taker)
        self._dispatch.hold(taker.wanted.binding)
        try:
            await self.restored(taker)
        except BaseException:
            self.leave(taker)
            raise
        self._dispatch.add(taker)

    async def restored(self, taker: Taker) -> None:
        """Wait until the events of somebody who joined come again, after a lost connection.

        Raises:
            NothingToListenTo, BrokerUnreachable, BrokerRefused: See `join`.
        """
        key = taker.wanted.binding
        while True:
            try:
                queue = await self._opened()
                await asyncio.shield(queue.bindings.bound(key))
            except BrokerGone:
                await asyncio.sleep(PAUSE_S)
                continue
            # It may have been lost before this task went on.
            if queue is self._queue:
                return

    def leave(self, taker: Taker) -> None:
        """Pass it no more events."""
        if taker not in self._members:
            return
        self._members.remove(taker)
        self._dispatch.remove(taker)
        key = taker.wanted.binding
        if self._dispatch.release(key) and self._queue is not None:
            self._queue.bindings.unbind(key)

    async def close(self) -> None:
        """Open nothing again. The connection is closed by whoever opened it."""
        self._is_closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.wait((self._opening,))

    async def _opened(self) -> LiveQueue:
        while self._queue is None:
            if self._is_closed:
                raise RuntimeError("the client was closed")
            await asyncio.shield(self._opening or self._open())
        return self._queue

    def _open(self) -> asyncio.Task[None]:
        def opened(task: asyncio.Task[None]) -> None:
            self._opening = None
            # Whoever waited has the error, and perhaps nobody waited.
            task.cancelled() or task.exception()

        self._opening = asyncio.create_task(self._open_queue())
        self._opening.add_done_callback(opened)
        return self._opening

    async def _open_queue(self) -> None:
        connection = await self._connection.connection()
        handlers = Handlers(self._take, self._lost, self._behind)
        queue = await LiveQueue.open(connection, self._exchange, handlers)
        if queue.is_over:
            raise BrokerGone
        self._queue = queue
        for key in self._dispatch.keys:
            queue.bindings.bound(key)

    def _take(self, message: StreamMessage) -> None:
        try:
            delivery = Delivery.of_frames(message)
            if not self.answers.is_answer(delivery.labels, message):
                self._dispatch.route(delivery)
        except Exception as error:  # noqa: BLE001 - one message must not cost the connection
            # Without its text, which might quote the message.
            _log.warning("skipped a message: %s", type(error).__name__)

    def _behind(self) -> None:
        now = asyncio.get_running_loop().time()
        if self._behind_at is not None and now - self._behind_at < _BEHIND_EVERY_S:
            return
        self._behind_at = now
        _log.warning("this process is slower than its events: its followers may miss some")
        for taker in self._dispatch.takers:
            taker.miss()

    def _lost(self, queue: LiveQueue) -> None:
        if queue is not self._queue:
            return
        self._queue = None
        for taker in self._dispatch.takers:
            taker.miss()
        if self._members and not self._is_closed and self._opening is None:
            self._open()
