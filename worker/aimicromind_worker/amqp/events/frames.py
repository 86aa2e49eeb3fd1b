"""Write events as AMQP 0-9-1 frames: what is the same for a whole attempt is written once.

The layouts are those of the AMQP 0-9-1 specification, 1.8.3.7, 2.3.5 and 4.2.6.
"""

from struct import Struct

from pamqp.constants import FRAME_BODY, FRAME_END_CHAR, FRAME_HEADER, FRAME_METHOD

from aimicromind_schemas.routing import routing_key
from aimicromind_worker.core.endpoint.exchange import Address
from aimicromind_worker.core.job.numbering import NumberedEvent

APP_ID = "aimicromind-worker"
_CLASS_BASIC = 60
_PUBLISH = b"\x00\x3c\x00\x28\x00\x00"  # class, method, reserved (once an access ticket)
_FRAME_OVERHEAD = 8
# content-type, headers, delivery-mode, correlation-id, message-id, timestamp, type, app-id
_FLAGS = 1 << 15 | 1 << 13 | 1 << 12 | 1 << 10 | 1 << 7 | 1 << 6 | 1 << 5 | 1 << 3
_PERSISTENT = b"\x02"
# Class, weight, size and flags; `seq`, the length of the message id, and the time.
_FIXED_HEADER_BYTES = 14 + 8 + 1 + 8
_REMEMBERED_NAMES = 256

_header_front = Struct(">BHIHHQH").pack
_frame_front = Struct(">BHI").pack
_long_long = Struct(">q").pack
_long = Struct(">I").pack


class EventFrames:
    """Writes the frames of one attempt's events for one channel.

    Attributes:
        frame_max: Most bytes of one frame.
    """

    def __init__(
        self,
        address: Address,
        exchange: str,
        channel: int,
        frame_max: int,
        partition: int | None = None,
    ) -> None:
        """Write what is the same for all events.

        Args:
            address: Routing and common headers.
            exchange: The exchange of events.
            channel: Number of the channel.
            frame_max: Most bytes of one frame.
            partition: The partition of the event log to name; None where there is only one.
        """
        self._address = address
        self._exchange = exchange
        self._channel = channel
        self.frame_max = frame_max
        self._longest_body_frame = frame_max - _FRAME_OVERHEAD
        # `seq` is last in the table: all before it is the same for each event.
        fields = b"".join(
            (
                _field(b"attempt", b"l", _long_long(address.attempt)),
                _text_field(b"chatflowId", address.chatflow_id),
                _text_field(b"x-stream-filter-value", address.chat_id),
                _text_field(b"traceparent", address.traceparent) if address.traceparent else b"",
                _field(b"seq", b"l", b""),
            )
        )
        self._front = _front(fields)
        # By BCC the exchange routes as by the routing key, and the broker strips it. The default
        # exchange would route by it, too: a message to a queue has none.
        self._chat_front = self._front if partition is None else _front(_bcc(partition) + fields)
        self._middle = _PERSISTENT + _short(address.correlation_id)
        self._names: dict[str, tuple[bytes, bytes]] = {}

    def to_chat(self, event: NumberedEvent) -> bytes:
        """Write all frames that publish an event to the chat, and to its partition by `BCC`.

        An `end` that no queue takes is returned.
        """
        publish, name = self._name(event.name)
        return self._written(publish, self._chat_front, event, name)

    def content(self, event: NumberedEvent) -> bytes:
        """Write the header and body frames, which follow a publish frame to a queue."""
        return self._written(b"", self._front, event, self._name(event.name)[1])

    def to_queue(self, queue: str, *, mandatory: bool = False) -> bytes:
        """Write the publish frame to one queue, through the default exchange."""
        return self._publish("", queue, mandatory=mandatory)

    def _written(self, publish: bytes, front: bytes, event: NumberedEvent, name: bytes) -> bytes:
        identity, body, size = event.message_id, event.body, len(event.body)
        variable_bytes = len(front) + len(self._middle) + len(identity) + len(name)
        header_bytes = variable_bytes + _FIXED_HEADER_BYTES
        header = _header_front(
            FRAME_HEADER, self._channel, header_bytes, _CLASS_BASIC, 0, size, _FLAGS
        )
        is_short = size <= self._longest_body_frame
        # In one go: each step would copy the body once more.
        return b"%b%b%b%b%b%c%b%b%b\xce%b%b%b" % (
            publish,
            header,
            front,
            _long_long(event.seq),
            self._middle,
            len(identity),
            identity,
            _long_long(event.second),
            name,
            _frame_front(FRAME_BODY, self._channel, size) if is_short else b"",
            body if is_short else b"".join(self._body_frames(body)),
            FRAME_END_CHAR if is_short else b"",
        )

    def _name(self, name: str) -> tuple[bytes, bytes]:
        known = self._names.get(name)
        if known is None:
            key = routing_key(self._address.chat_id, name)
            publish = self._publish(self._exchange, key, mandatory=name == "end")
            known = (publish, _short(name) + _short(APP_ID))
            if len(self._names) < _REMEMBERED_NAMES:
                self._names[name] = known
        return known

    def _publish(self, exchange: str, key: str, *, mandatory: bool) -> bytes:
        payload = b"%b%b%b%c" % (_PUBLISH, _short(exchange), _short(key), mandatory)
        front = _frame_front(FRAME_METHOD, self._channel, len(payload))
        return b"%b%b%b" % (front, payload, FRAME_END_CHAR)

    def _body_frames(self, body: bytes) -> list[bytes]:
        frames = []
        for start in range(0, len(body), self._longest_body_frame):
            part = body[start : start + self._longest_body_frame]
            frames += [_frame_front(FRAME_BODY, self._channel, len(part)), part, FRAME_END_CHAR]
        return frames


def _front(fields: bytes) -> bytes:
    """Write the properties up to `seq`, whose value is the end of the table of headers."""
    return _short("application/json") + _long(len(fields) + 8) + fields


def _bcc(partition: int) -> bytes:
    # RabbitMQ closes the channel where the value is no list.
    key = str(partition).encode()
    entry = b"S" + _long(len(key)) + key
    return _field(b"BCC", b"A", _long(len(entry)) + entry)


def _short(text: str) -> bytes:
    data = text.encode()
    return bytes((len(data),)) + data


def _field(name: bytes, kind: bytes, value: bytes) -> bytes:
    return bytes((len(name),)) + name + kind + value


def _text_field(name: bytes, text: str) -> bytes:
    data = text.encode()
    return _field(name, b"S", _long(len(data)) + data)
