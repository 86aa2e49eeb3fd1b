"""Values that tests start from: valid by default, each test changes what it is about."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from hypothesis import settings

from aimicromind_schemas import Event, Names, RawJob, ThinkingEvent
from aimicromind_schemas.wire import dump_json
from aimicromind_testing import frame
from aimicromind_worker.core.endpoint.answer import Answer
from aimicromind_worker.core.endpoint.frames import EndpointEvent
from aimicromind_worker.core.job.admission import Ticket, admit
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.numbering import NumberedEvent, Numbering
from aimicromind_worker.core.job.open_run import OpenRun, RunsKnown
from aimicromind_worker.core.job.retry import RetryPolicy
from aimicromind_worker.jobs.intake import Intake
from aimicromind_worker.jobs.ports import JobHistory
from aimicromind_worker.runs.circuit_breaker import CircuitBreaker
from aimicromind_worker.runs.conversations import Conversations
from aimicromind_worker.runs.dependencies import Dependencies, Predictions
from aimicromind_worker.runs.flows import Flows
from aimicromind_worker.runs.idle_timeout import IdleTimeout
from aimicromind_worker.runs.limits import Limits
from aimicromind_worker.runs.ports import Publisher
from aimicromind_worker.runs.recovery import Recovery
from aimicromind_worker.telemetry.event_counts import EventCounts
from aimicromind_worker.telemetry.metrics import Metrics
from aimicromind_worker.telemetry.tracing import Span, Tracer

# Of the profile: few in most runs, many in `make fuzz`.
_EXAMPLES = settings().max_examples
MODERATE: Final = settings(max_examples=2 * _EXAMPLES)
"""For properties: as many examples as a fast suite bears."""

BRIEF: Final = settings(max_examples=_EXAMPLES * 4 // 5)
"""For properties whose examples are slow to make or to try."""

SECRET: Final = "s3cr3t-marker"
QUESTION: Final = "Why?"
NAMES: Final = Names("aimicromind")
LIFETIME: Final = timedelta(hours=1)
MAX_JOB_BYTES: Final = 64 * 1024
SLOTS: Final = 8

IMPATIENT: Final = RetryPolicy(timedelta(), timedelta())
"""Retries at once, unless the endpoint asks for a wait."""

END: Final = frame("end", "[DONE]")
METADATA: Final = frame("metadata", {"chatId": "c", "question": QUESTION})
ENDED_WELL: Final = METADATA + END
USED_TOOLS: Final = frame("usedTools", [{"tool": "mail", "toolInput": {}, "toolOutput": "sent"}])


def tokens(*texts: str) -> bytes:
    return b"".join(frame("token", text) for text in texts)


def a_job(**fields: Any) -> bytes:  # noqa: ANN401 - a job on the wire holds anything
    """Write the body of a job; a field that is None is left out."""
    named = {"chatflowId": "flow", "question": QUESTION, "chatId": "chat", "jobId": "job"} | fields
    return json.dumps({name: value for name, value in named.items() if value is not None}).encode()


def job_of(**fields: Any) -> RawJob:  # noqa: ANN401 - see a_job
    return RawJob.read(a_job(**fields))


def a_ticket(facts: MessageFacts | None = None, **fields: Any) -> Ticket:  # noqa: ANN401 - see a_job
    """Admit a job as it comes from the queue now."""
    now = datetime.now(UTC)
    ticket = admit(a_job(**fields), facts or MessageFacts(), NAMES, now, LIFETIME, MAX_JOB_BYTES)
    assert isinstance(ticket, Ticket)
    return ticket


def limits(**changed: Any) -> Limits:  # noqa: ANN401 - named in Limits
    usual: dict[str, Any] = {
        "max_calls": 3,
        "attempt_timeout": timedelta(seconds=10),
        "hold": timedelta(hours=1),
        "max_frame_bytes": 64 * 1024,
        "max_answer_bytes": 64 * 1024,
    }
    return Limits(**(usual | changed))


def dependencies(
    predictions: Predictions,
    publisher: Publisher,
    policy: RetryPolicy = IMPATIENT,
    recovery: Recovery | None = None,
    **changed: Any,  # noqa: ANN401 - named in Limits
) -> Dependencies:
    """Give a run what it needs; silence is never too long, and nothing is saved."""
    recovery = recovery or Recovery(Forgetful(), timedelta(seconds=5))
    watch = IdleTimeout(timedelta(hours=1))
    meter = Metrics(EventCounts())
    return Dependencies(
        predictions,
        publisher,
        watch,
        limits(**changed),
        policy,
        recovery,
        Conversations(Unwritten(), recovery, timedelta(minutes=10)),
        CircuitBreaker(),
        Flows(SLOTS),
        meter,
        Tracer(),
    )


def untraced(headers: Mapping[str, str] | None = None) -> Span:
    """Begin the span of a job in a worker without tracing."""
    return Tracer().job("jobs", "job", "chat", "flow", headers or {})


def an_intake(
    dependencies: Dependencies, journal: JobHistory, *, after_loss: bool = False
) -> Intake:
    return Intake(dependencies, journal, NAMES, LIFETIME, MAX_JOB_BYTES, after_loss=after_loss)


class Unwritten:
    """A journal in which no call is."""

    async def open_runs(self, job_id: str, chat_id: str) -> RunsKnown:
        return RunsKnown()

    async def note(self, run: OpenRun) -> None:
        raise AssertionError(run)


class Forgetful:
    """A memory that may not be read."""

    async def messages(self, chatflow_id: str, endpoint_chat_id: str) -> bytes | None:
        return None


def an_answer(**changed: Any) -> Answer:  # noqa: ANN401 - named in Answer
    usual: dict[str, Any] = {
        "chat_id": "chat",
        "question": QUESTION,
        "tags": {},
        "redelivered": False,
        "max_answer_bytes": 64 * 1024,
    }
    named = usual | changed
    question = named.pop("question")
    return Answer(question=question and memoryview(dump_json(question)), **named)


def an_event(name: str, data: object) -> EndpointEvent:
    return EndpointEvent(name, json.dumps(data, ensure_ascii=False).encode())


def as_stamped(event: Event) -> NumberedEvent:
    """Write an event the way an attempt does, at the event's own place and time."""
    numbering = Numbering(event.job_id, event.chat_id, event.chatflow_id, event.attempt)
    numbering.next_seq = event.seq
    duration = event.duration if isinstance(event, ThinkingEvent) else None
    written = EndpointEvent(
        event.event,
        dump_json(event.wire()["data"]),
        b"" if duration is None else dump_json(duration),
    )
    since_1970 = event.time - datetime(1970, 1, 1, tzinfo=UTC)
    return numbering.stamp(written, since_1970 / timedelta(seconds=1))
