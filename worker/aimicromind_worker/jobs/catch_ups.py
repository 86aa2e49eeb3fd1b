"""Answer followers that come late with the events of the job that runs, beside all other work.

Invariants:

- A request changes nothing: it starts, delays and ends no job.
- A part is written and sent in one step of the event loop, thus in order with the events.
- Answers use at most a quarter of the event loop's time, and none while events wait.
- What cannot be answered is left out: whoever asked asks again, or reads the event log.
"""

import asyncio
from time import monotonic, thread_time
from typing import Final, Never

import structlog

from aimicromind_schemas import Names
from aimicromind_schemas.messages.catch_up import (
    LONGEST_REQUEST_BYTES,
    InvalidCatchUp,
    decode_catch_up,
)
from aimicromind_worker.core.catching_up.catch_up_queue import (
    AskedChat,
    CatchUpQueue,
    WaitingRequest,
)
from aimicromind_worker.core.chats.return_address import ReturnAddress, may_be_answered
from aimicromind_worker.jobs.intake import note_fault
from aimicromind_worker.jobs.ports import Snapshots

log = structlog.get_logger()

_BUSY_PAUSE_S: Final = 0.005
_NOT_DUE_PAUSE_S: Final = 0.05
_SHORTEST_PAUSE_S: Final = 0.001
_PAUSE_TIMES: Final = 3


class CatchUps:
    """The requests of one session. Use it in the event loop, and `run` it once."""

    def __init__(self, snapshots: Snapshots, names: Names) -> None:
        """Begin without requests.

        Args:
            snapshots: What sends the answers.
            names: The worker's own queues, which get none.
        """
        self._snapshots = snapshots
        self._names = names
        self._queue = CatchUpQueue()
        self._asked = asyncio.Event()

    def take(self, chat_id: str, chat: AskedChat, body: bytes, sender: ReturnAddress) -> None:
        """Take a request from the mailbox of a chat.

        Args:
            chat_id: The chat.
            chat: Its lock.
            body: The request, as a follower wrote it.
            sender: Where the answer goes.
        """
        now = monotonic()
        if len(body) > LONGEST_REQUEST_BYTES or not self._queue.admits(chat_id, sender.queue, now):
            log.debug("catch_up.not_taken", chat_id=chat_id, size_bytes=len(body))
            return
        if not may_be_answered(sender.queue, self._names) or self._snapshots.avoids(sender.queue):
            log.debug("catch_up.reply_to_refused", chat_id=chat_id)
            return
        try:
            request = decode_catch_up(body)
        except InvalidCatchUp as error:
            log.debug("catch_up.invalid", chat_id=chat_id, reason=str(error))
            return
        if request.chat_id == chat_id:
            self._queue.add(chat, sender, request, now)
            self._asked.set()

    async def run(self) -> Never:
        """Answer requests until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            while not self._queue.is_empty:
                pause_s = self._step_s()
                await asyncio.sleep(pause_s)

    def _step_s(self) -> float:
        """Send one part, if that may be done now, and return how long to pause after it."""
        if not self._snapshots.may_publish():
            return _BUSY_PAUSE_S
        # CPU time: other programs on the machine do not slow the answers down twice.
        began = thread_time()
        due = self._queue.next(monotonic())
        if due is None:
            return _NOT_DUE_PAUSE_S
        try:
            self._send_part(due)
        except Exception as error:  # noqa: BLE001 - one request must not cost the session
            note_fault(error)
        return max(_SHORTEST_PAUSE_S, (thread_time() - began) * _PAUSE_TIMES)

    def _send_part(self, due: WaitingRequest) -> None:
        # Another worker may run the chat's job by now; or an earlier part did harm.
        if due.chat.is_lost or self._snapshots.avoids(due.to.queue):
            return
        body = due.writer.next_part(due.chat.running_job, self._snapshots.part_bytes)
        self._snapshots.publish(due.to, due.request.chat_id, body)
        self._queue.sent(due, len(body), monotonic())
