"""Hold the lock of a chat: an exclusive queue, which only one connection at a time can declare.

Invariants:

- The broker deletes the queue with its connection: a lost worker keeps no chat locked.
- The same connection can declare the queue twice. `jobs/turns.py` excludes that beforehand.
- A refused declaration closes its channel. Each request in flight thus has a channel of its own.
- A consumer on the queue keeps a policy from expiring it, and reports its deletion.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from time import monotonic

import structlog
from aiormq.exceptions import (
    AMQPConnectionError,
    AMQPError,
    ChannelLockedResource,
    ChannelPreconditionFailed,
)
from pamqp import commands

from aimicromind_schemas import Names
from aimicromind_worker.amqp.channels import asked_at_once, highest_channel
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.rpc_channel import RpcChannel

log = structlog.get_logger()

_TIMEOUT_S = 30.0
_ASK_EVERY_S = 0.05


class ChatLocksLost(ConnectionError):
    """The broker does not answer requests for chat locks, which end with the connection."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the chat locks are lost: {reason}")


class ChatLock:
    """A chat lock while it is held.

    Attributes:
        chat_id: The chat.
        on_loss: A callback for a lock that the broker takes away while the connection lives.
    """

    def __init__(self, chat_id: str) -> None:
        self.chat_id = chat_id
        self.on_loss: Callable[[], None] = lambda: None


class ChatLocks:
    """The chat locks of one connection. Open it in the event loop, and use it there."""

    def __init__(self, names: Names, channels: Sequence[RpcChannel]) -> None:
        self._names = names
        self._holding, *self._to_ask_on = channels
        self._asking = asyncio.Semaphore(len(self._to_ask_on))
        self._held: dict[str, ChatLock] = {}
        self._holding.on_cancel = self._taken_away

    @classmethod
    async def open(cls, connection: BrokerConnection, names: Names) -> "ChatLocks":
        """Prepare to hold chat locks; call this once for a connection.

        Raises:
            ChatLocksLost: The broker opens no channel for them.
        """
        inner, highest = connection.inner, highest_channel(connection)
        # aiormq numbers its channels from the lowest upwards; these are numbered from the highest
        # down. There is one for each request in flight, instead of one for each slot.
        lowest = highest - asked_at_once(connection)
        channels = [RpcChannel(connection.wire, it) for it in range(highest, lowest - 1, -1)]

        def lost(_: object) -> None:
            for channel in channels:
                channel.lost(AMQPConnectionError("the connection closed"))

        inner.closing.add_done_callback(lost)
        async with _answered():
            await channels[0].open()
        return cls(names, channels)

    @contextlib.asynccontextmanager
    async def hold(self, chat_id: str, patience: timedelta) -> AsyncIterator[ChatLock | None]:
        """Hold the lock of a chat while the body runs.

        Args:
            chat_id: The chat, which no other task of this process may hold.
            patience: How long to try again while another worker holds the lock.

        Yields:
            The lock; None if another worker holds it.

        Raises:
            ChatLocksLost: The broker did not answer within 30 s, or the channel closed.
        """
        queue = self._names.chat_lease(chat_id)
        if not await self._granted(queue, patience):
            yield None
            return
        chat_lock = self._held[queue] = ChatLock(chat_id)
        try:
            async with _answered():
                # Without a consumer, a policy may expire the queue, and no deletion is reported.
                await self._holding.ask(
                    commands.Basic.Consume(queue=queue, consumer_tag=queue, no_ack=True)
                )
            yield chat_lock
        except (ConnectionError, asyncio.CancelledError):
            # The connection ends, and the lock with it.
            raise
        except BaseException:
            await self._release(queue)
            raise
        else:
            await self._release(queue)
        finally:
            self._held.pop(queue, None)

    async def _granted(self, queue: str, patience: timedelta) -> bool:
        ends = monotonic() + patience.total_seconds()
        while not await self._ask(queue):
            if monotonic() >= ends:
                return False
            await asyncio.sleep(_ASK_EVERY_S)
        return True

    async def _ask(self, queue: str) -> bool:
        async with self._asking:
            channel = self._to_ask_on.pop()
            try:
                async with _answered():
                    if not channel.is_open:
                        await channel.open()
                    await channel.ask(_declare(queue))
            except ChatLocksLost as error:
                match error.__cause__:
                    case ChannelLockedResource():
                        return False
                    case ChannelPreconditionFailed() as full if "limit" in str(full):
                        # The limit of queues in the virtual host is reached: the job waits.
                        log.warning("chat_lock.no_queue", reason=" ".join(str(full).split()))
                        return False
                    case _:
                        raise
            finally:
                self._to_ask_on.append(channel)
            return True

    async def _release(self, queue: str) -> None:
        # No longer held: the deletion of the queue is no loss.
        self._held.pop(queue, None)
        async with _answered():
            await self._holding.ask(
                commands.Basic.Cancel(consumer_tag=queue, nowait=True),
                commands.Queue.Delete(queue=queue),
            )

    def _taken_away(self, queue: str) -> None:
        chat_lock = self._held.get(queue)
        if chat_lock is not None:
            log.warning("chat_lock.lost", chat_id=chat_lock.chat_id)
            chat_lock.on_loss()


def _declare(queue: str) -> commands.Queue.Declare:
    return commands.Queue.Declare(
        queue=queue, exclusive=True, arguments={"x-queue-type": "classic"}
    )


@contextlib.asynccontextmanager
async def _answered() -> AsyncIterator[None]:
    """Send a request to the broker in the body, under a deadline of 30 s.

    Raises:
        ChatLocksLost: The broker does not answer, or the connection has closed.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            yield
    except (AMQPError, RuntimeError, TimeoutError) as error:
        raise ChatLocksLost(str(error) or type(error).__name__) from error
