"""Answer requests for the status of this worker, beside all other work.

Invariants:

- A request changes nothing, and delays no event: an answer is sent while no events wait.
- Answers are few: at most 20 a second, and one for all requests of an asker that wait.
- What cannot be answered is left out: whoever asked asks again.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Never

import structlog

from aimicromind_schemas import (
    InvalidStatusRequest,
    Names,
    StatusRequest,
    WorkerReport,
    decode_status_request,
)
from aimicromind_worker.core.chats.return_address import ReturnAddress, may_be_answered
from aimicromind_worker.jobs.intake import note_fault
from aimicromind_worker.jobs.ports import Reports

log = structlog.get_logger()

_MOST_WAITING: Final = 32
_BUSY_PAUSE_S: Final = 0.005
_PAUSE_S: Final = 0.05


class StatusAnswers:
    """The messages to the pool in one session. Use it in the event loop, and `run` it once."""

    def __init__(
        self,
        reports: Reports,
        names: Names,
        report: Callable[[StatusRequest], WorkerReport],
        take_other: Callable[[bytes], None],
    ) -> None:
        """Begin without requests.

        Args:
            reports: What sends the answers.
            names: The worker's own queues, which get none.
            report: Returns the present status, in answer to a request.
            take_other: A callback for messages that ask for no answer.
        """
        self._reports = reports
        self._names = names
        self._report = report
        self._take_other = take_other
        # By queue, in the order of their first requests: the last one of each.
        self._waiting: dict[str, tuple[ReturnAddress, StatusRequest]] = {}
        self._asked = asyncio.Event()

    def take(self, body: bytes, sender: ReturnAddress | None) -> None:
        """Take a message to this worker, or to all.

        Args:
            body: The message, as anybody wrote it.
            sender: Where the answer goes; None: none is wanted.
        """
        if sender is None:
            self._take_other(body)
            return
        if not may_be_answered(sender.queue, self._names) or self._reports.avoids(sender.queue):
            log.debug("status.reply_to_refused")
            return
        try:
            request = decode_status_request(body)
        except InvalidStatusRequest as error:
            log.debug("status.invalid", reason=str(error))
            return
        if sender.queue in self._waiting or len(self._waiting) < _MOST_WAITING:
            self._waiting[sender.queue] = sender, request
            self._asked.set()

    async def run(self) -> Never:
        """Answer requests until cancelled."""
        while True:
            await self._asked.wait()
            self._asked.clear()
            while self._waiting:
                pause_s = self._step_s()
                await asyncio.sleep(pause_s)

    def _step_s(self) -> float:
        """Send one answer, if that may be done now, and return how long to pause after it."""
        if not self._reports.may_publish():
            return _BUSY_PAUSE_S
        to, request = self._waiting.pop(next(iter(self._waiting)))
        try:
            self._reports.publish_report(to, self._report(request).encode())
        except Exception as error:  # noqa: BLE001 - one request must not cost the session
            note_fault(error)
        return _PAUSE_S
