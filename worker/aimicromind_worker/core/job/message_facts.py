"""The facts of a job's message besides its body: properties, headers and delivery count."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from aimicromind_worker.core.job.state import JobState


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """The facts of a message besides its body.

    Attributes:
        message_id: The AMQP property.
        correlation_id: The AMQP property.
        content_encoding: The AMQP property.
        reply_to: The AMQP property.
        redelivered: Whether the broker delivered this message before.
        deliveries_before: The number of earlier deliveries, as far as the broker counts them.
        failures_before: The number of those that were requeued or ended with a lost worker.
        submitted_at: The time of submission by the producer's clock, aware; from our header, else
            from the AMQP timestamp, which is the beginning of a second.
        is_submission_exact: Whether that time is from our header.
        expires_at: The end of the message's own expiration, aware.
        carried: The state that earlier workers wrote into the headers.
        trace: The valid headers of the W3C trace context.
        dead_letter_reason: The latest `reason` of the header `x-death`.
        problem: The part of the message that could not be read, and the remedy.
        whole_bytes: The size of the whole body if only its beginning was kept, or nothing of it.
        digest: The SHA-256 of the whole body in hexadecimal, if `whole_bytes` is set.
    """

    message_id: str | None = None
    correlation_id: str | None = None
    content_encoding: str | None = None
    reply_to: str | None = None
    redelivered: bool = False
    deliveries_before: int = 0
    failures_before: int = 0
    submitted_at: datetime | None = None
    is_submission_exact: bool = False
    expires_at: datetime | None = None
    carried: JobState = field(default_factory=JobState)
    trace: Mapping[str, str] = field(default_factory=dict)
    dead_letter_reason: str | None = None
    problem: str | None = None
    whole_bytes: int | None = None
    digest: str = ""
