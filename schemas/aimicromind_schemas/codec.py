"""Encode an event as a message with AMQP's basic properties, and decode a message's body."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from aimicromind_schemas.messages.endpoint_events import ThinkingEvent
from aimicromind_schemas.messages.events import Event, NotAnEvent, event_from
from aimicromind_schemas.routing import routing_key
from aimicromind_schemas.vocabulary import TERMINAL
from aimicromind_schemas.wire import json_of, load_json

_PERSISTENT: Final = 2


@dataclass(frozen=True, slots=True)
class MessageProperties:
    """AMQP basic properties under their AMQP names."""

    message_id: str
    """`JOB:ATTEMPT:SEQ`, or `JOB:end` of an `end`. A repeat of an event has the same."""

    type: str
    """Name of the event."""

    correlation_id: str
    """The job's `correlation_id`, else its id."""

    timestamp: datetime
    """Time of the event. AMQP has whole seconds; the body has microseconds."""

    headers: Mapping[str, str | int]
    """`attempt`, `seq`, `chatflowId`, `x-stream-filter-value`, and `traceparent` where known."""

    content_type: str = "application/json"
    app_id: str = "aimicromind-worker"
    delivery_mode: int = _PERSISTENT


@dataclass(frozen=True, slots=True)
class Message:
    """An event as it is published on the exchange `events`."""

    body: bytes = field(repr=False)
    properties: MessageProperties
    routing_key: str


def encode(
    event: Event, *, correlation_id: str | None = None, traceparent: str | None = None
) -> Message:
    """Return the message of an event.

    Args:
        event: The event.
        correlation_id: The job's `correlation_id`; None if it has none.
        traceparent: The job's W3C trace context; None if it has none.

    Raises:
        ValueError: A name fits no routing key (see `routing_key`), or the data has no JSON form:
            NaN, or nested deeper than `odd_json.MAX_DEPTH`.
        TypeError: The data has a type that JSON does not have.
    """
    headers: dict[str, str | int] = {
        "attempt": event.attempt,
        "seq": event.seq,
        "chatflowId": event.chatflow_id,
        "x-stream-filter-value": event.chat_id,
    }
    if traceparent is not None:
        headers["traceparent"] = traceparent
    properties = MessageProperties(
        message_id=_message_id(event),
        type=event.event,
        correlation_id=event.job_id if correlation_id is None else correlation_id,
        timestamp=event.time,
        headers=headers,
    )
    return Message(_body(event), properties, routing_key(event.chat_id, event.event))


def decode(body: bytes) -> Event:
    """Return the event in a message body, as JSON in UTF-8; the inverse of `encode`.

    An event with an unknown name, or with data of another shape, is a GenericEvent.

    Raises:
        NotAnEvent: The body is no JSON object, or a member of the envelope is missing or ill-typed.
    """
    try:
        fields = load_json(body)
    except ValueError:
        raise NotAnEvent from None
    if not isinstance(fields, dict):
        raise NotAnEvent
    return event_from(fields)


def _body(event: Event) -> bytes:
    fields = event.wire()
    if isinstance(event, ThinkingEvent) and event.duration is not None:
        fields["duration"] = event.duration
    return json_of(fields)


def _message_id(event: Event) -> str:
    if event.event in TERMINAL:
        return f"{event.job_id}:end"
    return f"{event.job_id}:{event.attempt}:{event.seq}"
