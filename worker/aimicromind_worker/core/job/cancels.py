"""Decide which jobs a cancel request covers, and keep requests for jobs that come later."""

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final

from aimicromind_schemas import CancelRequest, ChatCancel, JobCancel
from aimicromind_worker.core.job.admission import Ticket

MOST_KEPT: Final = 50_000
"""The most requests in memory; the oldest are dropped. With ids of 36 characters: 25 MB."""

KEPT_FOR: Final = timedelta(days=7)
"""The age at which requests are dropped, the same as in the stream `control.log`."""


def covers(request: CancelRequest, ticket: Ticket, *, taken_before: bool) -> bool:
    """Return whether a request cancels a job.

    - By `jobId` it cancels that job, whenever it was submitted.
    - By `chatId` it cancels the chat's jobs that were submitted at `submittedAt` or before. The
      two times come from the clocks of the client that submits and the one that cancels.
    - An AMQP timestamp is the beginning of a second. A job of the same second thus counts as
      submitted before the request.
    - A job without a known time is cancelled only if it was delivered before the request came.

    Args:
        request: The cancel request.
        ticket: The job.
        taken_before: Whether the job was delivered before the request came.
    """
    match request:
        case JobCancel(job_id):
            return ticket.job_id == job_id
        case ChatCancel(chat_id, submitted_at):
            if ticket.chat_id != chat_id:
                return False
            since = ticket.facts.submitted_at
            return taken_before if since is None else since <= submitted_at


class Cancels:
    """The latest requests in the order in which they came, bounded in number and age."""

    def __init__(self, most: int = MOST_KEPT, kept_for: timedelta = KEPT_FOR) -> None:
        self._most = most
        self._kept_for = kept_for
        self._requests = OrderedDict[tuple[type, str], tuple[CancelRequest, datetime]]()

    def __len__(self) -> int:
        return len(self._requests)

    def keep(self, request: CancelRequest, now: datetime) -> None:
        """Keep a request; of several for one chat, keep the latest `submittedAt`.

        Args:
            request: The request, which may be a repeat.
            now: The time now, aware.
        """
        key = _key_of(request)
        known, _ = self._requests.get(key, (request, now))
        self._requests[key] = (_furthest(known, request), now)
        self._requests.move_to_end(key)
        self._forget(now)

    def cover(self, ticket: Ticket) -> bool:
        """Return whether a kept request cancels a job that is delivered now."""
        keys = ((JobCancel, ticket.job_id), (ChatCancel, ticket.chat_id))
        kept = (self._requests[key] for key in keys if key in self._requests)
        return any(covers(request, ticket, taken_before=False) for request, _ in kept)

    def _forget(self, now: datetime) -> None:
        while len(self) > self._most:
            self._requests.popitem(last=False)
        while self._requests and self._oldest() < now - self._kept_for:
            self._requests.popitem(last=False)

    def _oldest(self) -> datetime:
        _, came_at = next(iter(self._requests.values()))
        return came_at


def _key_of(request: CancelRequest) -> tuple[type, str]:
    match request:
        case JobCancel(job_id):
            return JobCancel, job_id
        case ChatCancel(chat_id):
            return ChatCancel, chat_id


def _furthest(known: CancelRequest, request: CancelRequest) -> CancelRequest:
    if isinstance(known, ChatCancel) and isinstance(request, ChatCancel):
        return max(known, request, key=lambda it: it.submitted_at)
    return request
