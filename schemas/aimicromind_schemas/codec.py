"""Event to message and back. Knows AMQP's basic properties, and no AMQP library."""

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
    """The same for a repeat of the same event, so that repeats can be dropped."""

    type: str
    """Name of the event."""

    correlation_id: str
    """The job's own, else its id."""

    timestamp: datetime
    """The event's time. AMQP carries whole seconds; the body has the microseconds."""

    headers: Mapping[str, str | int]
    """`attempt`, `seq`, `chatflowId`, `x-stream-filter-value`, and `traceparent` where known."""

    content_type: str = "application/json"
    app_id: str = "aimicromind-worker"
    delivery_mode: int = _PERSISTENT


@dataclass(frozen=True, slots=True)
class Message:
    """An event ready to be published on the events exchange."""

    body: bytes = field(repr=False)
    properties: MessageProperties
    routing_key: str


def encode(
    event: Event, *, correlation_id: str | None = None, traceparent: str | None = None
) -> Message:
    """Make the message of an event.

    Args:
        event: What to publish.
        correlation_id: The job's, if it has one.
        traceparent: The job's W3C trace context, if it has one.

    Raises:
        ValueError: A name that fits no routing key (see `routing_key`), or data that JSON cannot
            hold: NaN, or nested too deeply.
        TypeError: Data of a type that JSON does not know.
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
    """Read the event in a message body; `encode` undone.

    Raises:
        NotAnEvent: No JSON object, or its envelope is incomplete. An unknown event, or one of
            another shape, is no error: it is a GenericEvent.
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
