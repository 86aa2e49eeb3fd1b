"""Compute what follows each failure, from the retry policy and the settlement of jobs."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

from structlog.testing import capture_logs

from aimicromind_schemas import EndEvent, EndStatus, ErrorEvent, FailureKind, RetryEvent
from aimicromind_worker.app.settings import Settings
from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.errors import AttemptOverdue
from aimicromind_worker.core.job.admission import Rejected, admit, faulty
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.retry import Decision, GiveUp, Requeue, RetryPolicy, Situation
from aimicromind_worker.jobs.settlement import reject, settle
from aimicromind_worker.runs.outcome import Cancelled, Failed, Outcome, Unfinished
from aimicromind_worker.runs.progress import Progress
from tests.support.builders import LIFETIME, MAX_JOB_BYTES, NAMES, a_job, a_ticket, limits, untraced
from tests.support.fakes import FakeDelivery, RecordingPublisher

POLICY: Final = RetryPolicy()
MAX_CALLS: Final[int] = Settings.model_fields["max_calls"].default

_DEFAULTS: Final = Settings.model_construct()

_ENDLESS: Final = 50
"""After this many decisions, only the end of the job's time is left."""

BEFORE_OUTPUT: Final = Situation(
    calls=0,
    max_calls=MAX_CALLS,
    unreached=0,
    doubtful=0,
    output=False,
    side_effect=False,
    blind=False,
    idempotent=None,
    left=timedelta(seconds=_DEFAULTS.job_lifetime_seconds),
    attempt_time=timedelta(seconds=_DEFAULTS.attempt_timeout_seconds),
    hold_left=_DEFAULTS.hold,
)
AFTER_OUTPUT: Final = replace(BEFORE_OUTPUT, output=True)
AFTER_TOOL: Final = replace(BEFORE_OUTPUT, output=True, side_effect=True)


@dataclass(frozen=True, slots=True)
class Course:
    """What follows where each call of a job fails in the same way.

    Attributes:
        decisions: What the retry policy decides, with the longest waits; at most `_ENDLESS`.
        calls: Calls that count at the end.
    """

    decisions: Sequence[Decision]
    calls: int

    @property
    def is_endless(self) -> bool:
        """Whether only the end of the job's time ends it."""
        return not isinstance(self.decisions[-1], GiveUp)


@dataclass(frozen=True, slots=True)
class Settled:
    """What the worker publishes and does with the delivery for an outcome.

    Attributes:
        events: Names of the events that are published.
        kind: Kind in `error` or `retry`; None without such an event.
        status: Status in the `end`; None where the job is delivered again.
        delivery: The last operation on the delivery.
    """

    events: Sequence[str]
    kind: FailureKind | None
    status: EndStatus | None
    delivery: str


def course(failure: CallFailed, begin: Situation) -> Course:
    """Return what the retry policy decides, with the counts that `runs/run.py` keeps."""
    now, decisions = begin, list[Decision]()
    # Every other failure is assumed to happen at once.
    took = begin.attempt_time if isinstance(failure, AttemptOverdue) else timedelta()
    while len(decisions) < _ENDLESS:
        now = replace(
            now,
            calls=now.calls + failure.request_sent,
            unreached=now.unreached + (not failure.request_sent),
            doubtful=now.doubtful + (failure.kind == FailureKind.ENDPOINT_ERROR),
            left=now.left - took,
            hold_left=now.hold_left - took,
        )
        decisions.append(POLICY.decide(failure, now, jitter=1.0))
        match decisions[-1]:
            case GiveUp():
                break
            case Requeue():
                # The retry delay resets the count of unreached calls. A refused key costs no call.
                calls = now.calls - now.key_refused
                hold_left = begin.hold_left
                now = replace(now, calls=calls, unreached=0, doubtful=0, hold_left=hold_left)
            case _:
                pass
    return Course(decisions, now.calls)


def settled(kind: FailureKind) -> Settled:
    """Settle a job that ends, or is published again, for this reason."""
    match kind:
        case FailureKind.INVALID_JOB:
            return _settled(_rejected(b"[]"))
        case FailureKind.TOO_LARGE:
            return _settled(_rejected(a_job(question="x" * MAX_JOB_BYTES)))
        case FailureKind.CANCELLED:
            return _settled(Cancelled())
        case FailureKind.SHUTDOWN:
            return _settled(Unfinished())
        case _:
            return failed(kind)


def statuses(kind: FailureKind) -> list[EndStatus]:
    """Return the statuses that such a job may end with; empty where it is delivered again."""
    seen = [settled(kind)]
    if kind is FailureKind.INTERNAL:
        seen.append(_settled(faulty(a_job(), MessageFacts())))
    return [it.status for it in seen if it.status is not None]


def failed(kind: FailureKind) -> Settled:
    """Settle a job that was run and failed for good."""
    return _settled(Failed(kind, "x"))


def _rejected(body: bytes) -> Rejected:
    now = datetime.now(UTC)
    admission = admit(body, MessageFacts(message_id="job"), NAMES, now, LIFETIME, MAX_JOB_BYTES)
    assert isinstance(admission, Rejected)
    return admission


def _settled(outcome: Outcome | Rejected) -> Settled:
    sink, delivery, span = RecordingPublisher(), FakeDelivery(a_job()), untraced()
    with capture_logs():
        if isinstance(outcome, Rejected):
            asyncio.run(reject(outcome, delivery, sink, span))
        else:
            progress = Progress(a_ticket(), sink, limits(), span)
            progress.run()
            asyncio.run(settle(progress, outcome, delivery))
    events = sink.events()
    kinds = [it.data.kind for it in events if isinstance(it, ErrorEvent | RetryEvent)]
    statuses = [it.data.status for it in events if isinstance(it, EndEvent)]
    return Settled(
        [it.event for it in events],
        kinds[0] if kinds else None,
        statuses[0] if statuses else None,
        delivery.history[-1],
    )
