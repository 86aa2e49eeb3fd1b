"""Admit a message as a job: read its ids, its deadline and what earlier workers did for it.

Invariants:

- A second copy of a message gets the same job id, also if the job is rejected.
- A delivery whose worker was lost counts as an attempt that may have sent a call.
- Error sentences contain no value of the job.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from hashlib import sha256
from uuid import UUID, uuid5

from aimicromind_schemas import (
    FailureKind,
    InvalidJob,
    Names,
    RawJob,
    chat_fits,
    is_job_id,
    readable_ids,
)
from aimicromind_schemas.journal.history import History
from aimicromind_worker.core.chats.return_address import is_own_queue
from aimicromind_worker.core.endpoint.call_failed import quoted
from aimicromind_worker.core.job.content_encoding import Unpacked, unknown_encoding, unpacked
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.state import JobState

_NAMELESS_JOBS = UUID("8d0b6d5c-2f0e-5c53-b1d4-6f2f5a4b7f10")
_LONGEST_TEXT_BYTES = 16 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Ticket:
    """An admitted job.

    Attributes:
        job: The job's fields; those that the worker does not need are left undecoded.
        job_id: The job's own id, else the `message_id`.
        chat_id: The job's own chat, else the `job_id`.
        deadline: The time at which the job expires, aware.
        facts: The message's properties, headers and delivery count.
        before: The known state that earlier workers left.
        open_shown: Whether the attempt whose call may still run has published anything.
        calls_lost: The number of earlier calls that were lost with their worker.
    """

    job: RawJob
    job_id: str
    chat_id: str
    deadline: datetime
    facts: MessageFacts
    before: JobState
    open_shown: bool = False
    calls_lost: int = 0

    @property
    def came_before(self) -> bool:
        """Whether a worker may have had the job before, in which case it must be looked up."""
        return self.before.attempt > 0 or self.facts.carried.deadline is not None

    @property
    def blind(self) -> bool:
        """Whether a call shows nothing before it is over, not even that a tool ran."""
        return self.job.answer == "json"

    def max_calls(self, limit: int) -> int:
        """Return the most calls of the job; a job can only lower the worker's limit."""
        own = self.job.max_calls
        return limit if own is None else min(own, limit)

    def forgiven_calls(self, limit: int) -> int:
        """Return how many of the earlier calls do not count against the job.

        The uncounted ones and one that was lost with a first worker. A second loss leaves one call,
        made in quarantine: another job may have ended both workers. From a third on, all count.
        """
        held = max(0, self.before.calls - self.before.uncounted)
        match min(self.calls_lost, self.before.crashes):
            case 0 | 1:
                too_many = held
            case 2:
                too_many = max(0, held - self.max_calls(limit) + 1)
            case _:
                too_many = 0
        return self.before.uncounted + min(self.calls_lost, too_many)

    def knowing(self, history: History) -> "Ticket":
        """Return the ticket with the job's history taken in.

        A lost worker may have begun the attempt that its last `retry` announced. A worker that
        requeued the job left that attempt to the next one.
        """
        before = self.before
        begun = history.announced if before.was_lost else 0
        attempt = max(before.attempt, history.last_attempt, begun)
        opened = attempt if before.was_lost else before.open_attempt
        # Only the journal knows what a lost worker did.
        may_have_acted = before.was_lost and not history.is_whole
        known = replace(
            before,
            attempt=attempt,
            calls=max(before.calls, history.calls),
            side_effect=before.side_effect or history.side_effect or may_have_acted,
            sent=before.sent or history.calls > 0,
            open_attempt=opened,
            was_lost=False,
        )
        return replace(
            self,
            before=known,
            open_shown=0 < opened <= history.last_attempt,
            # This worker holds the chat lock: the worker of an open call is lost.
            calls_lost=history.calls_lost + history.is_open,
        )


@dataclass(frozen=True, slots=True)
class Unnamed:
    """A job with neither `jobId` nor `message_id`, of which copies could not be recognised."""


@dataclass(frozen=True, slots=True)
class Rejected:
    """A job that no worker can run.

    Attributes:
        kind: The public kind of the failure.
        message: The fault and its remedy, without any value of the job.
        chat_id: The chat of its `error` and `end`: as read, else the job id; None if too long.
        job_id: The id as read, else one made from the body.
        reply_to: The queue for copies of its events, unless that is the fault.
    """

    kind: FailureKind
    message: str
    chat_id: str | None
    job_id: str
    reply_to: str | None


Admission = Ticket | Unnamed | Rejected


def admit(
    body: bytes,
    facts: MessageFacts,
    names: Names,
    now: datetime,
    lifetime: timedelta,
    max_job_bytes: int,
) -> Admission:
    """Return what a message is: an admitted job, a rejected one, or one without an id.

    Args:
        body: The message body, perhaps compressed.
        facts: The message's properties, headers and delivery count.
        names: The worker's own queues, which `reply_to` must not name.
        now: The time now, aware.
        lifetime: The longest life of a job, from its first delivery to a worker.
        max_job_bytes: The largest body, compressed or not.
    """
    replies_to_us = is_own_queue(facts.reply_to or "", names)
    if replies_to_us:
        facts = replace(facts, reply_to=None)
    if facts.whole_bytes is None and facts.problem is not None:
        return _rejected(FailureKind.INVALID_JOB, facts.problem, body, facts)
    # A body that is too long is still searched for its chat, which gets the `error` and `end`.
    most_bytes = max(max_job_bytes, _LONGEST_TEXT_BYTES)
    content = unpacked(body, facts.content_encoding, most_bytes)
    length = max(facts.whole_bytes or 0, len(body), len(content.text))
    job = _read(content, facts, max_job_bytes, is_too_long=length > max_job_bytes)
    if isinstance(job, Rejected):
        return job
    job_id = job.job_id or facts.message_id
    if not job_id:
        return Unnamed()
    chat_id = job.chat_id or job_id
    problem = _problem_of_names(job_id, chat_id, replies_to_us=replies_to_us)
    if problem is not None:
        return _rejected(FailureKind.INVALID_JOB, problem, content.text, facts)
    deadline = _deadline(job, facts, now + lifetime)
    return Ticket(job, job_id, chat_id, deadline, facts, _before(facts, deadline))


def _problem_of_names(job_id: str, chat_id: str, *, replies_to_us: bool) -> str | None:
    if not is_job_id(job_id):
        return "message_id is no jobId: use letters, digits, '_', '.' and '-', at most 128"
    if not chat_fits(chat_id):
        return "message_id stands in for chatId and is too long for routing keys: set chatId"
    if replies_to_us:
        return "reply_to names a queue of the worker itself: use a queue of your own"
    return None


def _before(facts: MessageFacts, deadline: datetime) -> JobState:
    """Return the carried state, with the losses that the broker's delivery count shows."""
    carried = facts.carried
    # The count starts anew with each copy that is published.
    deliveries = max(facts.deliveries_before, int(facts.redelivered))
    attempt = carried.attempt + deliveries
    return replace(
        carried,
        attempt=attempt,
        # A worker that requeued the job wrote down what it did; a lost one did not.
        sent=carried.sent or deliveries > 0,
        open_attempt=attempt if deliveries else carried.open_attempt,
        was_lost=deliveries > 0 or carried.was_lost,
        crashes=carried.crashes + facts.failures_before,
        deadline=deadline,
    )


def faulty(body: bytes, facts: MessageFacts) -> Rejected:
    """Return the rejection of a job that a fault of the worker kept from being admitted."""
    message = "a fault in the worker: see its log"
    body = unpacked(body, facts.content_encoding, _LONGEST_TEXT_BYTES).text
    return _rejected(FailureKind.INTERNAL, message, body, replace(facts, reply_to=None))


def _read(
    content: Unpacked, facts: MessageFacts, max_job_bytes: int, *, is_too_long: bool
) -> RawJob | Rejected:
    if is_too_long:
        message = f"the job is longer than {max_job_bytes} bytes"
        return _rejected(FailureKind.TOO_LARGE, message, content.text, facts)
    if content.fault is not None:
        return _rejected(FailureKind.INVALID_JOB, content.fault, content.text, facts)
    try:
        return RawJob.read(content.text)
    except InvalidJob as error:
        advice = unknown_encoding(facts.content_encoding) if error.is_unreadable else None
        return _rejected(FailureKind.INVALID_JOB, advice or str(error), content.text, facts)


def _deadline(job: RawJob, facts: MessageFacts, latest: datetime) -> datetime:
    ends = (latest, job.expires_at, facts.expires_at, facts.carried.deadline)
    return min(end for end in ends if end is not None)


def _rejected(kind: FailureKind, message: str, body: bytes, facts: MessageFacts) -> Rejected:
    chat_id, job_id = readable_ids(body)
    named = facts.message_id if is_job_id(facts.message_id or "") else None
    digest = facts.digest or sha256(body).hexdigest()
    job_id = job_id or named or str(uuid5(_NAMELESS_JOBS, digest))
    if chat_id is None and chat_fits(job_id):
        chat_id = job_id
    return Rejected(kind, quoted(message), chat_id, job_id, facts.reply_to)
