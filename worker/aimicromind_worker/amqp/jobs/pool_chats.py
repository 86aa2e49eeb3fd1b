"""Reach the chats of the pool: take their locks, and tell holders and workers something."""

from collections.abc import Callable

from aio_pika import Message
from aiormq.exceptions import DeliveryError

from aimicromind_worker.amqp.jobs.chat_lock import ChatLocks
from aimicromind_worker.amqp.republishing import Outgoing
from aimicromind_worker.core.chats.actions import LockAnswer


class PoolChats:
    """The chats, as one session of a worker reaches them.

    Attributes:
        worker: The queue that this worker is told by.
    """

    def __init__(self, locks: ChatLocks, outgoing: Outgoing, worker: str) -> None:
        """Prepare.

        Args:
            locks: The chat locks of the connection of the jobs.
            outgoing: The publisher of messages, which uses another connection.
            worker: The queue that this worker is told by.
        """
        self.worker = worker
        self._locks = locks
        self._outgoing = outgoing

    async def lock(
        self, chat_id: str, take_mail: Callable[[bytes], None], on_loss: Callable[[], None]
    ) -> LockAnswer:
        """Ask for a chat's lock, once: see `ChatLocks.lock`."""
        return await self._locks.lock(chat_id, take_mail, on_loss)

    async def unlock(self, chat_id: str) -> None:
        """Release a chat's lock: see `ChatLocks.unlock`."""
        await self._locks.unlock(chat_id)

    def mailbox(self, chat_id: str) -> str:
        """Return the queue that is read by the holder of a chat."""
        return self._locks.mailbox(chat_id)

    async def tell(self, queue: str, message: bytes) -> bool:
        """Send a message to a queue, and return whether the queue is there.

        Raises:
            ConnectionError: There is no way to the broker.
        """
        told = Message(message, content_type="application/json")
        try:
            await self._outgoing.publish(told, "", queue)
        except DeliveryError:
            return False
        return True
