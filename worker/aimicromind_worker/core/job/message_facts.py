"""What a message of the jobs queue says beside its body: properties, headers, delivery count."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from aimicromind_worker.core.job.state import JobState


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
        carried: What earlier workers put into its headers.
        trace: W3C trace context, see `trace_context`.
        dead_letter_reason: Why the broker last dead-lettered the job, in its words.
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
    carried: JobState = field(default_factory=JobState)
    trace: Mapping[str, str] = field(default_factory=dict)
    dead_letter_reason: str | None = None
    problem: str | None = None
    whole_bytes: int | None = None
    digest: str = ""
