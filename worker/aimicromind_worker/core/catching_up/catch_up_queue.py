"""Decide which request of a late follower is answered next, and which are not taken.

Pure: the time is an argument, in seconds that never go back. Invariants:

- Chats take turns, part by part: a chat with many askers, or a long answer, delays no other.
- Each chat, and each asker in it, has an allowance of bytes, which requests use up, too. Beyond it,
  a request is not taken, and a part waits.
- What waits is bounded: the requests of a chat and of an asker by number, each of them by time.
"""

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Final, Protocol

from aimicromind_schemas.messages.catch_up import CatchUpRequest
from aimicromind_worker.core.catching_up.snapshot import RunningJob, SnapshotWriter
from aimicromind_worker.core.chats.return_address import ReturnAddress

MOST_WAITING: Final = 256
"""Requests of one chat that wait."""
MOST_OF_ONE: Final = 16
"""Requests of one asker that wait in a chat."""
WAITS_AT_MOST_S: Final = 10.0
"""A request waits so long for its first part, or the next one. Whoever asked asks again."""
REQUEST_BYTES: Final = 50_000
"""What a request uses of an allowance, besides its answer."""
_OF_CHAT_BYTES_S: Final = 8_000_000.0
_OF_ASKER_BYTES_S: Final = 2_000_000.0
_SAVED_S: Final = 8.0
_ASKERS_KNOWN: Final = 64
_CHATS_KNOWN: Final = 4_096


class AskedChat(Protocol):
    """A chat whose lock this worker holds, or held."""

    @property
    def is_lost(self) -> bool:
        """Whether another worker may hold it by now."""

    @property
    def running_job(self) -> RunningJob | None:
        """What runs there now; None: nothing."""


@dataclass(slots=True, eq=False)
class WaitingRequest:
    """A request that is not answered, or not to its end.

    Attributes:
        chat: The chat.
        to: Where the answer goes.
        request: What is asked.
        since_s: When it came, or its last part was sent.
        writer: Writes the parts of the answer.
    """

    chat: AskedChat
    to: ReturnAddress
    request: CatchUpRequest
    since_s: float
    writer: SnapshotWriter


class Allowance:
    """Bytes that may be sent: so many a second, and those of 8 s at once."""

    def __init__(self, bytes_s: float, now_s: float) -> None:
        self._bytes_s = bytes_s
        self._left_bytes = bytes_s * _SAVED_S
        self._at_s = now_s

    def is_left(self, now_s: float) -> bool:
        """Return whether anything may be sent."""
        more = (now_s - self._at_s) * self._bytes_s
        self._left_bytes = min(self._left_bytes + more, self._bytes_s * _SAVED_S)
        self._at_s = now_s
        return self._left_bytes > 0

    def use(self, size_bytes: int) -> None:
        """Use up so many bytes, also more than are left."""
        self._left_bytes -= size_bytes


@dataclass(slots=True)
class _Chat:
    allowance: Allowance
    askers: OrderedDict[str, Allowance] = field(default_factory=OrderedDict)
    waiting: deque[WaitingRequest] = field(default_factory=deque)

    def asker(self, queue: str, now_s: float) -> Allowance:
        known = self.askers.get(queue)
        if known is None:
            known = self.askers[queue] = Allowance(_OF_ASKER_BYTES_S, now_s)
            if len(self.askers) > _ASKERS_KNOWN:
                self.askers.popitem(last=False)
        self.askers.move_to_end(queue)
        return known


class CatchUpQueue:
    """The requests of all chats of a worker."""

    def __init__(self) -> None:
        self._chats: OrderedDict[str, _Chat] = OrderedDict()
        # The chats in which requests wait, in the order of their turns.
        self._turns: deque[str] = deque()

    @property
    def is_empty(self) -> bool:
        """Whether no request waits."""
        return not self._turns

    def admits(self, chat_id: str, queue: str, now_s: float) -> bool:
        """Use up what a request costs, and return whether it is read at all.

        Args:
            chat_id: The chat in whose mailbox it came.
            queue: Where its answer is to go.
            now_s: The time.
        """
        chat = self._chat(chat_id, now_s)
        asker = chat.asker(queue, now_s)
        # An asker that asks too often must not use up the allowance of the others.
        if not asker.is_left(now_s) or not chat.allowance.is_left(now_s):
            return False
        asker.use(REQUEST_BYTES)
        chat.allowance.use(REQUEST_BYTES)
        of_asker = sum(it.to.queue == queue for it in chat.waiting)
        return len(chat.waiting) < MOST_WAITING and of_asker < MOST_OF_ONE

    def add(
        self, chat: AskedChat, to: ReturnAddress, request: CatchUpRequest, now_s: float
    ) -> None:
        """Take in a request that was admitted; an equal one that waits stands for both."""
        waiting = self._chat(request.chat_id, now_s).waiting
        if any(it.to == to and it.request == request and it.chat is chat for it in waiting):
            return
        if not waiting:
            self._turns.append(request.chat_id)
        waiting.append(WaitingRequest(chat, to, request, now_s, SnapshotWriter(request)))

    def next(self, now_s: float) -> WaitingRequest | None:
        """Return the request whose next part is due, and take it out; None: none is due now."""
        for _ in range(len(self._turns)):
            chat_id = self._turns.popleft()
            chat = self._chats[chat_id]
            found = self._next_of(chat, now_s)
            if chat.waiting:
                self._turns.append(chat_id)
            if found is not None:
                return found
        return None

    def sent(self, waiting: WaitingRequest, size_bytes: int, now_s: float) -> None:
        """Take in that a part was sent; the rest of its answer comes when its chat has its turn."""
        chat_id = waiting.request.chat_id
        chat = self._chat(chat_id, now_s)
        chat.allowance.use(size_bytes)
        chat.asker(waiting.to.queue, now_s).use(size_bytes)
        if waiting.writer.is_whole:
            return
        waiting.since_s = now_s
        if not chat.waiting:
            self._turns.append(chat_id)
        chat.waiting.appendleft(waiting)

    def _next_of(self, chat: _Chat, now_s: float) -> WaitingRequest | None:
        if not chat.allowance.is_left(now_s):
            return None
        for _ in range(len(chat.waiting)):
            first = chat.waiting.popleft()
            if now_s - first.since_s > WAITS_AT_MOST_S:
                continue
            if chat.asker(first.to.queue, now_s).is_left(now_s):
                return first
            chat.waiting.append(first)
        return None

    def _chat(self, chat_id: str, now_s: float) -> _Chat:
        chat = self._chats.get(chat_id)
        if chat is None:
            chat = self._chats[chat_id] = _Chat(Allowance(_OF_CHAT_BYTES_S, now_s))
            self._forget_one()
        self._chats.move_to_end(chat_id)
        return chat

    def _forget_one(self) -> None:
        if len(self._chats) > _CHATS_KNOWN:
            oldest = next(iter(self._chats))
            if not self._chats[oldest].waiting:
                del self._chats[oldest]
