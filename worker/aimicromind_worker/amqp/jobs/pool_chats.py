"""Reach the chats of the pool: take their locks, and tell holders and workers something.

RabbitMQ 4.3 keeps the exclusive queue of a connection to a node that is killed; 4.0 frees it. It
refuses the lock until that node is back, and nacks what is published to it: the lock is *orphaned*.
Then a second lock of the chat, of another name, takes its place. Invariants:

- Whoever gets a chat's first lock looks whether anybody holds the second one, and lets go if so.
- Whoever gets the second one looks whether the first is still orphaned, and lets go if not.
- Thus of two workers that each get one of them, at least one sees the other.
"""

from collections.abc import Callable
from enum import Enum, auto

from aio_pika import Message
from aiormq.exceptions import DeliveryError, PublishError

from aimicromind_schemas import Names
from aimicromind_worker.amqp.jobs.chat_lock import ChatLocks
from aimicromind_worker.amqp.republishing import Outgoing
from aimicromind_worker.core.chats.actions import LockAnswer
from aimicromind_worker.core.chats.messages import TakeMail

Version = tuple[int, ...]

_KEEPS_ORPHANS_FROM: Version = (4, 1)
_ANYBODY = b"{}"
"""A message that no holder understands."""


class _Told(Enum):
    TAKEN = auto()
    RETURNED = auto()
    NACKED = auto()


class PoolChats:
    """The chats, as one session of a worker reaches them.

    Attributes:
        worker: The queue that this worker is told by.
    """

    def __init__(
        self, locks: ChatLocks, outgoing: Outgoing, names: Names, worker: str, version: Version
    ) -> None:
        """Prepare.

        Args:
            locks: The chat locks of the connection of the jobs.
            outgoing: The publisher of messages, which uses another connection.
            names: The names of the locks.
            worker: The queue that this worker is told by.
            version: The version of the broker.
        """
        self.worker = worker
        self._locks = locks
        self._outgoing = outgoing
        self._names = names
        self._keeps_orphans = version >= _KEEPS_ORPHANS_FROM
        self._orphaned: set[str] = set()
        self._held_instead: set[str] = set()

    async def lock(
        self, chat_id: str, take_mail: TakeMail, on_loss: Callable[[], None]
    ) -> LockAnswer:
        """Ask for a chat's lock, once.

        Args:
            chat_id: The chat, which nobody in this process may hold or ask for.
            take_mail: A callback with each message to the holder, while the lock is held.
            on_loss: A callback for a lock that the broker takes away while the connection lives.

        Raises:
            ConnectionError: The connection to the broker is lost.
        """
        first = self._names.chat_lease(chat_id)
        answer = await self._locks.lock(first, take_mail, on_loss)
        if answer is LockAnswer.GRANTED and self._keeps_orphans:
            self._orphaned.discard(chat_id)
            second = self._names.chat_lease_instead(chat_id)
            if await self._tell(second, _ANYBODY) is _Told.TAKEN:
                await self._locks.unlock(first)
                return LockAnswer.HELD
        if answer is LockAnswer.HELD and chat_id in self._orphaned:
            return await self._lock_instead(chat_id, take_mail, on_loss)
        return answer

    async def _lock_instead(
        self, chat_id: str, take_mail: TakeMail, on_loss: Callable[[], None]
    ) -> LockAnswer:
        second = self._names.chat_lease_instead(chat_id)
        answer = await self._locks.lock(second, take_mail, on_loss)
        if answer is not LockAnswer.GRANTED:
            return answer
        first = self._names.chat_lease(chat_id)
        if await self._tell(first, _ANYBODY) is not _Told.NACKED:
            self._orphaned.discard(chat_id)
            await self._locks.unlock(second)
            return LockAnswer.HELD
        self._held_instead.add(chat_id)
        return answer

    async def unlock(self, chat_id: str) -> None:
        """Release a chat's lock: see `ChatLocks.unlock`."""
        is_second = chat_id in self._held_instead
        self._held_instead.discard(chat_id)
        self._orphaned.discard(chat_id)
        names = self._names
        lock = names.chat_lease_instead(chat_id) if is_second else names.chat_lease(chat_id)
        await self._locks.unlock(lock)

    async def tell_holder(self, chat_id: str, message: bytes) -> bool:
        """Send a message to the holder of a chat, and return whether there is one.

        Raises:
            ConnectionError: There is no way to the broker.
        """
        told = await self._tell(self._names.chat_lease(chat_id), message)
        if told is _Told.TAKEN or not self._keeps_orphans:
            return told is not _Told.RETURNED
        instead = await self._tell(self._names.chat_lease_instead(chat_id), message)
        if told is _Told.RETURNED:
            return instead is _Told.TAKEN
        self._orphaned.add(chat_id)
        # Where both locks are orphaned, nobody can take the chat: the caller asks again later.
        return instead is not _Told.RETURNED

    async def tell_worker(self, worker: str, message: bytes) -> None:
        """Send a message to the queue of a worker, which may be gone.

        Raises:
            ConnectionError: There is no way to the broker.
        """
        await self._tell(worker, message)

    async def _tell(self, queue: str, message: bytes) -> _Told:
        told = Message(message, content_type="application/json")
        try:
            await self._outgoing.publish(told, "", queue)
        except PublishError:
            return _Told.RETURNED
        except DeliveryError:
            return _Told.NACKED
        return _Told.TAKEN
