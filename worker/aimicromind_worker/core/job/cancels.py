"""Which jobs a cancel request covers, and the requests that are kept for jobs still to come."""

from collections import OrderedDict
from datetime import datetime, timedelta
from typing import Final

from aimicromind_schemas import CancelRequest, ChatCancel, JobCancel
from aimicromind_worker.core.job.admission import Ticket

MOST_KEPT: Final = 50_000
"""Requests in memory; the oldest go first. They take 25 MB with ids of 36 characters."""

KEPT_FOR: Final = timedelta(days=7)
"""As long as the broker's log keeps them."""


def covers(request: CancelRequest, ticket: Ticket, *, taken_before: bool) -> bool:
    """Return whether a request stops a job.

    By job it stops that job, whenever it came. By chat it stops what was submitted at the
    request's time or before; both times are those of the clocks of who submits and cancels.
    An AMQP timestamp is the beginning of a second: a job of the request's own second counts as
    submitted before it. Where nobody knows when a job was submitted, it is stopped if it was
    taken from the queue before the request came, and not if it was taken later.

    Args:
        request: What somebody wants stopped.
        ticket: The job.
        taken_before: Whether the job was taken from the queue before the request came.
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
    """The requests of late, in the order in which they came; bounded in number and age."""

    def __init__(self, most: int = MOST_KEPT, kept_for: timedelta = KEPT_FOR) -> None:
        self._most = most
        self._kept_for = kept_for
        self._requests = OrderedDict[tuple[type, str], tuple[CancelRequest, datetime]]()

    def __len__(self) -> int:
        return len(self._requests)

    def keep(self, request: CancelRequest, now: datetime) -> None:
        """Keep a request, of each chat the one that reaches furthest.

        Args:
            request: It may have come before.
            now: Aware.
        """
        key = _key_of(request)
        known, _ = self._requests.get(key, (request, now))
        self._requests[key] = (_furthest(known, request), now)
        self._requests.move_to_end(key)
        self._forget(now)

    def cover(self, ticket: Ticket) -> bool:
        """Return whether a job that is taken now was cancelled before."""
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
