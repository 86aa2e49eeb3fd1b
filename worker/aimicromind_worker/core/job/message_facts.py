"""What a message of the jobs queue says beside its body: properties, headers, delivery count."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """What the message says beside its body.

    Attributes:
        message_id: AMQP property.
        correlation_id: AMQP property.
        content_encoding: AMQP property.
        reply_to: AMQP property.
        redelivered: Whether the broker delivered this message before.
        deliveries_before: How often, as far as the broker counts.
        failures_before: How many of these ended with the loss of the worker, or were requeued.
        submitted_at: When the producer sent it, by its own clock, which may be ahead of ours. By
            the header, else by the AMQP timestamp: then it is the beginning of a second.
        expires_at: End of the message's own expiration.
        carried_attempt: Highest attempt of workers that put the job on the queue again.
        carried_calls: Calls that those workers began.
        carried_given_up: How many of them a worker broke off as it drained.
        carried_side_effect: Whether a tool or action ran at one of them.
        carried_sent: Whether one of them reached the endpoint.
        carried_open: The attempt whose call a worker left open, 0 if none.
        carried_lost: Whether one of them was lost, and the job was not looked up since.
        carried_crashes: How many workers were lost that had the job.
        carried_waits: How often the job has waited on the broker for its chat.
        carried_deadline: The deadline that the first of them set.
        trace: W3C trace context, see `trace_context`.
        given_up_for: Why the broker last dead-lettered the job, in its words.
        problem: What of the message could not be read, and the remedy.
        whole_bytes: Size of the body, where only its beginning came; nothing of it, where there
            was no room.
        digest: SHA-256 of that whole body, in hexadecimal.
    """

    message_id: str | None = None
    correlation_id: str | None = None
    content_encoding: str | None = None
    reply_to: str | None = None
    redelivered: bool = False
    deliveries_before: int = 0
    failures_before: int = 0
    submitted_at: datetime | None = None
    expires_at: datetime | None = None
    carried_attempt: int = 0
    carried_calls: int = 0
    carried_given_up: int = 0
    carried_side_effect: bool = False
    carried_sent: bool = False
    carried_open: int = 0
    carried_lost: bool = False
    carried_crashes: int = 0
    carried_waits: int = 0
    carried_deadline: datetime | None = None
    trace: Mapping[str, str] = field(default_factory=dict)
    given_up_for: str | None = None
    problem: str | None = None
    whole_bytes: int | None = None
    digest: str = ""


def moment(text: str | None) -> datetime | None:
    """Read a time with its offset from a header; None for anything else."""
    try:
        read = datetime.fromisoformat(text or "")
    except ValueError:
        return None
    return read if read.tzinfo is not None else None
