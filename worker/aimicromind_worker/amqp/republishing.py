"""Build the message that is published again in place of a producer's message.

It carries the producer's headers, with three exceptions: the broker's own headers, those that pamqp
cannot write, and those that do not fit into one frame. A broker closes the connection for a frame
above the negotiated size (AMQP 0-9-1, 4.2.6).
"""

import re
import struct
from collections.abc import Mapping
from typing import Any, Protocol

import aio_pika
import structlog
from aio_pika import Message
from aio_pika.abc import AbstractMessage
from pamqp.common import FieldTable, FieldValue
from pamqp.encode import field_table
from pamqp.frame import marshal
from pamqp.header import ContentHeader

from aimicromind_schemas import SUBMITTED_HEADER
from aimicromind_schemas.client.transport.message_header import GUARD_HEADER

log = structlog.get_logger()

Header = str | int | bool

LEFT_OUT_HEADER = "x-aimicromind-headers-left-out"
# The broker writes these, copies a message by them, or drops it as a cycle (CONTRIBUTING.md).
_BROKERS_OWN = re.compile(
    r"(B?CC|x-death|x-(first|last)-death-.+|x-delivery-count|x-acquired-count|x-(opt|stream)-.+)"
)
# The worker reads these headers of a producer: they are left out last.
_READ_BY_US = {"traceparent", "tracestate", SUBMITTED_HEADER}
# A broker closes the channel of a publisher that names this and consumes no replies.
_DIRECT_REPLY = "amq.rabbitmq.reply-to"
_TABLE_LENGTH_BYTES = 4
_LONGEST_NAME_BYTES = 128


class Outgoing(Protocol):
    """Publishes messages one by one."""

    @property
    def frame_max(self) -> int:
        """Most bytes of one frame that the broker takes."""

    async def publish(self, message: Message, exchange: str, key: str) -> None:
        """Publish a message and have that confirmed; wait while that cannot be done.

        Raises:
            DeliveryError: No queue took it, or one refused it.
            ConnectionError: There is no way.
        """


def republished(
    source: AbstractMessage,
    own: Mapping[str, Header],
    frame_max: int,
    body: bytes | None = None,
    without: str | None = None,
    **changed: Any,  # noqa: ANN401 - properties, as aio_pika takes them
) -> aio_pika.Message:
    """Return a message to publish in place of one that was delivered.

    The producer's headers are left out, the largest first, until the rest fits. Their number is
    logged, and written to the header `x-aimicromind-headers-left-out`.

    Args:
        source: The delivered message.
        own: The worker's headers, which replace the producer's and are never left out.
        frame_max: The largest frame that the broker takes, in bytes, at least 4,096.
        body: The new body; None: the same as before.
        without: A prefix of further header names that are not carried over.
        **changed: The properties that differ from the delivered message.
    """
    producers = _carried(source.headers, own, without)
    again = aio_pika.Message(
        source.body if body is None else body,
        # Counted in from the start: the frame must have space for this header, too.
        headers={LEFT_OUT_HEADER: len(producers), **own},
        delivery_mode=aio_pika.DeliveryMode.PERSISTENT,
        **(_properties(source) | changed),
    )
    kept = fitting(producers, frame_max - _header_frame_bytes(again))
    left_out = len(producers) - len(kept)
    if left_out:
        log.warning("headers.left_out", count=left_out, of=len(producers))
        again.headers = {**kept, LEFT_OUT_HEADER: left_out, **own}
    else:
        again.headers = {**kept, **own}
    return again


def _carried(
    headers: Mapping[str, FieldValue], own: Mapping[str, Header], without: str | None
) -> dict[str, FieldValue]:
    return {
        name: value
        for name, value in headers.items()
        if name not in {*own, GUARD_HEADER}
        and not _BROKERS_OWN.fullmatch(name)
        and not (without and name.startswith(without))
    }


def _properties(source: AbstractMessage) -> dict[str, Any]:
    return {
        "content_type": source.content_type,
        "content_encoding": source.content_encoding,
        "priority": source.priority,
        "correlation_id": source.correlation_id,
        "reply_to": None if source.reply_to == _DIRECT_REPLY else source.reply_to,
        "message_id": source.message_id,
        "timestamp": source.timestamp,
        "type": source.type,
        "app_id": source.app_id,
    }


def fitting(headers: Mapping[str, FieldValue], room_bytes: int) -> FieldTable:
    """Return the headers that can be written within a size, leaving out the largest first."""
    sizes = {name: _written_bytes(name, value) for name, value in headers.items()}
    kept = {name: size for name, size in sizes.items() if size is not None}
    total = sum(kept.values())
    for name in sorted(kept, key=lambda name: (name in _READ_BY_US, -kept[name])):
        if total <= room_bytes:
            break
        total -= kept.pop(name)
    return {name: headers[name] for name in kept}


def _written_bytes(name: str, value: FieldValue) -> int | None:
    """Return a header's size in bytes; None if pamqp, which reads more, cannot write it."""
    if len(name.encode()) > _LONGEST_NAME_BYTES:
        return None
    try:
        return len(field_table({name: value})) - _TABLE_LENGTH_BYTES
    except (TypeError, ValueError, OverflowError, RecursionError, struct.error):
        return None


def _header_frame_bytes(message: aio_pika.Message) -> int:
    header = ContentHeader(body_size=message.body_size, properties=message.properties)
    return len(marshal(header, 1))
