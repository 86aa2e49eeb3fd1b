"""Read the facts of an event that a consumer's queue dead-lettered."""

from collections.abc import Mapping
from datetime import datetime
from hashlib import sha256
from typing import Any

from typing_extensions import override

from aimicromind_schemas.messages.raw_object import values_in
from aimicromind_worker.core.dead_letters.dead_letter import (
    ATTEMPTS,
    FAILED_AT,
    KIND,
    MESSAGE,
    DeadLetter,
    NotReplayable,
    named_in,
    time_of,
)

_QUEUE = "x-aimicromind-queue"
_READ = frozenset({"jobId", "chatId", "chatflowId", "event"})


class OriginUnknown(NotReplayable):
    """No header says which queue an event came from."""

    def __init__(self) -> None:
        super().__init__("no header names the queue that it came from: name one by --to")


class DeadEvent(DeadLetter, frozen=True, rename="camel"):
    """The facts of an event in a consumer's dead-letter queue.

    The kind is what the consumer wrote, else the broker's reason, such as `rejected`, `expired`,
    `maxlen` or `delivery_limit`. The time is that of the failure, as one of both has it.

    Attributes:
        id: The AMQP `message_id`; empty without one.
        event: The name of the event; empty if the body has none.
        queue: The queue that it came from; empty if no header has it.
    """

    id: str
    event: str
    queue: str

    @property
    @override
    def ids(self) -> tuple[str, ...]:
        return self.job_id, self.id


def read_dead_event(
    body: bytes, headers: Mapping[str, object], message_id: str | None
) -> DeadEvent:
    """Read the facts of a dead-lettered event, also if its body is none.

    Args:
        body: The body of the message.
        headers: The headers of the message.
        message_id: The AMQP property of the message.
    """
    values = values_in(body, _READ)
    death = _latest_death(headers)
    reason, queue = str(death.get("reason", "")), str(headers.get(_QUEUE) or death.get("queue", ""))
    message, attempts = headers.get(MESSAGE), headers.get(ATTEMPTS, death.get("count"))
    told = f"the queue {queue} dead-lettered it: {reason}" if reason else ""
    return DeadEvent(
        job_id=named_in(values, "jobId"),
        chat_id=named_in(values, "chatId"),
        chatflow_id=named_in(values, "chatflowId"),
        kind=str(headers.get(KIND) or reason or "unknown"),
        message=message if isinstance(message, str) else told,
        attempts=attempts if isinstance(attempts, int) else 0,
        failed_at=time_of(headers.get(FAILED_AT)) or _broker_time(death),
        size_bytes=len(body),
        id=message_id or "",
        event=named_in(values, "event"),
        queue=queue,
    )


def event_identity(body: bytes, dead: DeadEvent) -> str:
    """Return a text that copies of one event from one queue share, and no other event has.

    A replay that is broken off leaves such copies. An event without an id has none.
    """
    return f"{dead.queue} {dead.id} {sha256(body).hexdigest()}"


def _latest_death(headers: Mapping[str, object]) -> Mapping[str, Any]:
    """Return the newest entry of `x-death`, which comes first."""
    match headers.get("x-death"):
        case [dict(latest), *_]:
            return latest
        case _:
            return {}


def _broker_time(death: Mapping[str, Any]) -> datetime | None:
    return time_of(death.get("time"))
