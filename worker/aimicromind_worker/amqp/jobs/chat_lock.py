"""Hold the lock of a chat: an exclusive queue, which only one connection at a time can declare.

The queue is the holder's mailbox, too: others publish to it through the default exchange. A message
that comes back was for a chat that nobody holds. Invariants:

- The broker deletes the queue with its connection: a lost worker keeps no chat locked.
- The same connection can declare the queue twice. `jobs/chat_driver.py` excludes that beforehand.
- A refused declaration closes its channel. Each request in flight thus has a channel of its own.
- A consumer on the queue reads it, keeps a policy from expiring it, and reports its deletion.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from zlib import crc32

import structlog
from aiormq.exceptions import (
    AMQPConnectionError,
    AMQPError,
    ChannelLockedResource,
    ChannelPreconditionFailed,
)
from pamqp import commands

from aimicromind_worker.amqp.channels import asked_at_once, highest_channel, holding_channels
from aimicromind_worker.amqp.connection import BrokerConnection
from aimicromind_worker.amqp.jobs.return_address import return_address
from aimicromind_worker.amqp.rpc_channel import RpcChannel
from aimicromind_worker.core.chats.actions import LockAnswer
from aimicromind_worker.core.chats.messages import TakeMail

log = structlog.get_logger()


class ChatLocksLost(ConnectionError):
    """The broker does not answer requests for chat locks, which end with the connection."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the chat locks are lost: {reason}")


@dataclass(frozen=True, slots=True)
class _Held:
    take_mail: TakeMail
    on_loss: Callable[[], None]


class ChatLocks:
    """The chat locks of one connection. Open it in the event loop, and use it there."""

    def __init__(self, holding: Sequence[RpcChannel], asking: Sequence[RpcChannel]) -> None:
        self._holding = holding
        self._to_ask_on = list(asking)
        self._asking = asyncio.Semaphore(len(self._to_ask_on))
        self._held: dict[str, _Held] = {}
        for channel in holding:
            channel.on_cancel = self._taken_away
            channel.on_message = self._take_mail

    @classmethod
    async def open(cls, connection: BrokerConnection) -> "ChatLocks":
        """Prepare to hold chat locks; call this once for a connection.

        Raises:
            ChatLocksLost: The broker opens no channel for them.
        """
        inner, highest = connection.inner, highest_channel(connection)
        # aiormq numbers its channels from the lowest upwards; these are numbered from the highest
        # down. There is one for each request in flight, instead of one for each slot.
        holding, asking = holding_channels(connection), asked_at_once(connection)
        lowest = highest - holding - asking + 1
        channels = [RpcChannel(connection.wire, it) for it in range(highest, lowest - 1, -1)]

        def lost(_: object) -> None:
            for channel in channels:
                channel.lost(AMQPConnectionError("the connection closed"))

        inner.closing.add_done_callback(lost)
        with _answered():
            for channel in channels[:holding]:
                await channel.open()
        return cls(channels[:holding], channels[holding:])

    async def lock(
        self, queue: str, take_mail: TakeMail, on_loss: Callable[[], None]
    ) -> LockAnswer:
        """Ask for a lock, once.

        Args:
            queue: The name of the lock, which nobody in this process may hold or ask for.
            take_mail: A callback with each message to the holder, while the lock is held.
            on_loss: A callback for a lock that the broker takes away while the connection lives.

        Raises:
            ChatLocksLost: The broker did not answer within 30 s, or the channel closed.
        """
        answer = await self._ask(queue)
        if answer is LockAnswer.GRANTED:
            self._held[queue] = _Held(take_mail, on_loss)
            with _answered():
                # Without a consumer, a policy may expire the queue, and no deletion is reported.
                await self._holder_of(queue).ask(
                    commands.Basic.Consume(queue=queue, consumer_tag=queue, no_ack=True)
                )
        return answer

    async def unlock(self, queue: str) -> None:
        """Release a lock. A message that comes at the same moment may be lost.

        Raises:
            ChatLocksLost: The broker did not answer within 30 s, or the channel closed.
        """
        # No longer held: the deletion of the queue is no loss.
        self._held.pop(queue, None)
        with _answered():
            await self._holder_of(queue).ask(
                commands.Basic.Cancel(consumer_tag=queue, nowait=True),
                commands.Queue.Delete(queue=queue),
            )

    def _holder_of(self, queue: str) -> RpcChannel:
        return self._holding[crc32(queue.encode()) % len(self._holding)]

    async def _ask(self, queue: str) -> LockAnswer:
        async with self._asking:
            channel = self._to_ask_on.pop()
            try:
                with _answered():
                    if not channel.is_open:
                        await channel.open()
                    await channel.ask(_declare(queue))
            except ChatLocksLost as error:
                match error.__cause__:
                    case ChannelLockedResource():
                        return LockAnswer.HELD
                    case ChannelPreconditionFailed() as full if "limit" in str(full):
                        # The limit of queues in the virtual host is reached: the job waits.
                        log.warning("chat_lock.no_queue", reason=" ".join(str(full).split()))
                        return LockAnswer.NO_ROOM
                    case _:
                        raise
            finally:
                self._to_ask_on.append(channel)
            return LockAnswer.GRANTED

    def _taken_away(self, queue: str) -> None:
        held = self._held.pop(queue, None)
        if held is not None:
            held.on_loss()

    def _take_mail(self, queue: str, body: bytes, header: bytes) -> None:
        held = self._held.get(queue)
        if held is None:
            return
        try:
            held.take_mail(body, return_address(header))
        except Exception as error:  # noqa: BLE001 - one message must not cost the session
            log.warning("chat.unreadable", error=type(error).__name__)


def _declare(queue: str) -> commands.Queue.Declare:
    return commands.Queue.Declare(
        queue=queue, exclusive=True, arguments={"x-queue-type": "classic"}
    )


@contextmanager
def _answered() -> Iterator[None]:
    """Raise `ChatLocksLost` if a request in the body has no answer, or its channel closes."""
    try:
        yield
    except (AMQPError, RuntimeError, TimeoutError) as error:
        raise ChatLocksLost(str(error) or type(error).__name__) from error
