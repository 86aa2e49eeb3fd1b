"""The lease of a chat: an exclusive queue, which the broker grants to one connection at a time.

It ends with its connection, so that a lost worker keeps no chat. The same connection is granted
it twice: within the process, turns are taken before (see `turns`).
"""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from datetime import timedelta
from time import monotonic

import structlog
from aio_pika.abc import AbstractChannel, AbstractConnection
from aiormq.abc import AbstractChannel as InnerChannel
from aiormq.exceptions import ChannelLockedResource
from pamqp import commands

from aimicromind_schemas import Names

log = structlog.get_logger()

_TIMEOUT_S = 30.0
_ASK_EVERY_S = 0.05
# Each on a channel of its own, which broker and worker would otherwise keep for each slot.
_ASKED_AT_ONCE = 16
# aiormq frees the number of a refused channel before it has told the broker that the channel is
# closed; whoever opens it too soon has the broker end the connection. So each number rests for
# long. The lower ones are left to the other channels.
_LEFT_TO_OTHERS = 10
_MOST_CHANNELS = 65_535


class LeasesLost(ConnectionError):
    """The broker no longer answers for the leases; they end with the connection."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"the leases of chats are lost: {reason}")


class Lease:
    """A lease while it is held.

    Attributes:
        chat_id: The chat.
        on_loss: Called if the lease is taken away while the connection lives.
    """

    def __init__(self, chat_id: str) -> None:
        self.chat_id = chat_id
        self.on_loss: Callable[[], None] = lambda: None


class ChatLeases:
    """The leases of one connection. Open it in the event loop, and use it there."""

    def __init__(self, names: Names, holding: AbstractChannel, inner: InnerChannel) -> None:
        self._names = names
        self._holding = holding
        self._inner = inner
        self._to_ask_on: list[InnerChannel] = []
        self._asking = asyncio.Semaphore(_ASKED_AT_ONCE)
        highest = inner.connection.connection_tune.channel_max or _MOST_CHANNELS
        self._numbers = itertools.cycle(range(highest // _LEFT_TO_OTHERS, highest + 1))
        self._held: dict[str, Lease] = {}
        inner.on_consumer_cancel_callbacks.add(self._taken_away)

    @classmethod
    async def open(cls, connection: AbstractConnection, names: Names) -> "ChatLeases":
        """Prepare to hold leases; they close with the connection."""
        holding = await connection.channel()
        return cls(names, holding, await holding.get_underlay_channel())

    @contextlib.asynccontextmanager
    async def hold(self, chat_id: str, patience: timedelta) -> AsyncIterator[Lease | None]:
        """Hold the lease of a chat for the body; None where another worker has it.

        Args:
            chat_id: The chat; no other task of this process may be holding it.
            patience: How long to go on asking.

        Raises:
            LeasesLost: The broker does not answer, or its channel closed.
        """
        queue = self._names.chat_lease(chat_id)
        if not await self._granted(queue, patience):
            yield None
            return
        lease = self._held[queue] = Lease(chat_id)
        try:
            async with _answered():
                # Without a consumer, a policy may let the queue expire; and nobody would tell.
                await self._inner.basic_consume(queue, _ignore, no_ack=True, consumer_tag=queue)
            yield lease
        except (ConnectionError, asyncio.CancelledError):
            # The connection ends, and the lease with it.
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
        # A refusal closes the channel that asked: each question has one of its own.
        async with self._asking:
            async with _answered():
                idle = self._to_ask_on
                channel = idle.pop() if idle else await self._open_channel()
                try:
                    await channel.queue_declare(
                        queue,
                        exclusive=True,
                        arguments={"x-queue-type": "classic"},
                    )
                except ChannelLockedResource:
                    return False
            idle.append(channel)
            return True

    async def _open_channel(self) -> InnerChannel:
        connection = self._inner.connection
        number = next(number for number in self._numbers if number not in connection.channels)
        return await connection.channel(number, publisher_confirms=False)

    async def _release(self, queue: str) -> None:
        # No longer held: the end of its consumer is no loss.
        self._held.pop(queue, None)
        async with _answered():
            await self._inner.basic_cancel(queue, nowait=True)
            await self._inner.queue_delete(queue)

    def _taken_away(self, cancelled: commands.Basic.Cancel) -> None:
        lease = self._held.get(cancelled.consumer_tag or "")
        if lease is not None:
            log.warning("lease.taken_away", chat_id=lease.chat_id)
            lease.on_loss()


@contextlib.asynccontextmanager
async def _answered() -> AsyncIterator[None]:
    """Ask the broker in the body.

    A deadline over all is far cheaper than aiormq's own, which makes a task of every step.

    Raises:
        LeasesLost: It does not answer, or the connection has closed.
    """
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            yield
    except Exception as error:
        # Where the connection closes, aiormq and aio_pika raise RuntimeError or just Exception.
        raise LeasesLost(str(error) or type(error).__name__) from error


async def _ignore(_: object) -> None:
    """Take what nobody should send here."""
