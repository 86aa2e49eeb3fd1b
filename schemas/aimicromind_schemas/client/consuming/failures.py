"""Write the message that goes to a delay queue or to the dead letters in place of a failed event.

Body and ids are those of the event. Of its headers, only those that workers write are kept: others
could end the connection, or have the broker copy or drop the message.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import PurePath
from typing import Final

import aio_pika
from aiormq.abc import DeliveredMessage
from pamqp.common import FieldValue

ATTEMPTS: Final = "x-aimicromind-attempts"
_KEPT: Final = ("attempt", "seq", "chatflowId", "x-stream-filter-value", "traceparent")
_LONGEST_HEADER: Final = 1_000
_OF_64_BITS: Final = range(-(2**63), 2**63)


class ConsumerFailureKind(StrEnum):
    """Why an event became a dead letter of a consumer; its header `x-aimicromind-kind`."""

    HANDLER_FAILED = "handler_failed"
    UNPROCESSABLE = "unprocessable"
    UNREADABLE = "unreadable"
    DELIVERY_LIMIT = "delivery_limit"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an event was not handled.

    Attributes:
        kind: One of the closed list.
        message: The same as a sentence, which may quote the handler's error.
        where: Type and place of the handler's error, for the log; it quotes nothing.
    """

    kind: ConsumerFailureKind
    message: str
    where: str = ""

    @property
    def is_final(self) -> bool:
        """Whether no retry helps."""
        return self.kind is not ConsumerFailureKind.HANDLER_FAILED

    @property
    def is_of_handler(self) -> bool:
        """Whether the handler was called."""
        return self.kind in {
            ConsumerFailureKind.HANDLER_FAILED,
            ConsumerFailureKind.UNPROCESSABLE,
        }

    @classmethod
    def of(cls, error: BaseException, kind: ConsumerFailureKind) -> "Failure":
        """Return the failure of a handler that raised."""
        trace = error.__traceback__
        while trace is not None and trace.tb_next is not None:
            trace = trace.tb_next
        name = type(error).__name__
        place = f" at {PurePath(trace.tb_frame.f_code.co_filename).name}" if trace else ""
        line = f":{trace.tb_lineno}" if trace else ""
        return cls(kind, f"{name}: {error}" if str(error) else name, f"{name}{place}{line}")


def attempts_before(message: DeliveredMessage) -> int:
    """Return how often the handler has failed for an event, as its header says."""
    return _count(message, ATTEMPTS)


def returns_of(message: DeliveredMessage) -> int:
    """Return how often the event was requeued since it came to the queue."""
    return _count(message, "x-delivery-count")


def failed(
    message: DeliveredMessage, failure: Failure, attempts: int, queue: str
) -> aio_pika.Message:
    """Return the message for a delay queue or for the dead letters.

    Args:
        message: The event as it was delivered.
        failure: Why it was not handled.
        attempts: How often the handler was called.
        queue: The consumer's queue, to which a replay sends it.
    """
    properties = message.header.properties
    headers = {
        name: value
        for name in _KEPT
        if (value := _kept((properties.headers or {}).get(name))) is not None
    }
    return aio_pika.Message(
        message.body,
        headers={
            **headers,
            "x-aimicromind-kind": failure.kind.value,
            "x-aimicromind-message": _cut(failure.message),
            ATTEMPTS: attempts,
            "x-aimicromind-failed-at": datetime.now(UTC).isoformat(),
            "x-aimicromind-queue": queue,
        },
        content_type=properties.content_type,
        content_encoding=properties.content_encoding,
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        message_id=properties.message_id,
        correlation_id=properties.correlation_id,
        timestamp=properties.timestamp,
        type=properties.message_type,
        app_id=properties.app_id,
    )


def _count(message: DeliveredMessage, header: str) -> int:
    found = (message.header.properties.headers or {}).get(header)
    return found if isinstance(found, int) and found > 0 else 0


def _kept(value: FieldValue) -> str | int | None:
    if isinstance(value, str) and len(value) <= _LONGEST_HEADER:
        return value
    return value if isinstance(value, int) and value in _OF_64_BITS else None


def _cut(text: str) -> str:
    return text[:_LONGEST_HEADER].encode(errors="replace").decode()
