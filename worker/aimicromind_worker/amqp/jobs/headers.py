"""Read the properties and headers of a job's message; an ill-typed value counts as absent."""

from datetime import UTC, datetime, timedelta

from aio_pika.abc import AbstractIncomingMessage

from aimicromind_schemas import SUBMITTED_HEADER
from aimicromind_schemas.client.transport.message_header import noted
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.state import JobState, moment
from aimicromind_worker.core.job.trace_context import trace_context

# Higher than any count of a worker. A producer's number must still fit where it is written again.
_MOST = 1_000_000
_FIRST_YEAR = 1970


def facts_of(message: AbstractIncomingMessage) -> MessageFacts:
    """Return the facts of a message besides its body."""

    def text(name: str) -> str | None:
        value = message.headers.get(name)
        return value if isinstance(value, str) else None

    def number(name: str) -> int:
        value = message.headers.get(name)
        return min(max(value, 0), _MOST) if isinstance(value, int) else 0

    note, stamp = noted(message.headers), _exact_time(text(SUBMITTED_HEADER))
    return MessageFacts(
        message_id=message.message_id,
        correlation_id=message.correlation_id,
        content_encoding=message.content_encoding,
        reply_to=message.reply_to,
        redelivered=bool(message.redelivered),
        # Up to RabbitMQ 4.2, x-delivery-count counts every delivery that was not settled. In 4.3 it
        # counts the failures, and x-acquired-count all deliveries (docs/compatibility.md).
        deliveries_before=max(number("x-delivery-count"), number("x-acquired-count")),
        failures_before=number("x-delivery-count"),
        submitted_at=stamp or _timestamp(message),
        is_submission_exact=stamp is not None,
        expires_at=_expires_at(message),
        carried=JobState.from_headers(message.headers),
        trace=trace_context(text("traceparent"), text("tracestate")),
        dead_letter_reason=_dead_letter_reason(message),
        problem=note.problem,
        whole_bytes=note.body_bytes,
        digest=note.digest,
    )


def _dead_letter_reason(message: AbstractIncomingMessage) -> str | None:
    """Return the latest reason in `x-death`, which the broker writes first."""
    match message.headers.get("x-death"):
        case [{"reason": str() as reason}, *_]:
            return reason
        case _:
            return None


def _expires_at(message: AbstractIncomingMessage) -> datetime | None:
    """Return the end of the message's expiration, counted from now; None if it has none.

    Only the broker's clock knows how long the message waited, and the broker delivers no expired
    message. An expiration of 0 sets no deadline, because the message was delivered.
    """
    expiration = message.expiration
    if not isinstance(expiration, int | float) or not expiration:
        return None
    return datetime.now(UTC) + timedelta(seconds=expiration)


def _exact_time(text: str | None) -> datetime | None:
    """Parse the time of submission; return None before 1970, where AMQP timestamps begin."""
    read = moment(text)
    return read if read is not None and read.year >= _FIRST_YEAR else None


def _timestamp(message: AbstractIncomingMessage) -> datetime | None:
    sent = message.timestamp
    return sent if sent is None or sent.tzinfo else sent.replace(tzinfo=UTC)
