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
_octet = Struct(">B").pack


# What is the same for all events of one name: the publish frame, empty where it stands before the
# content; the header frame's properties before `seq`; what follows the timestamp in that frame; and
# the size of its payload without the message id. A named tuple takes longer to unpack.
_Form = tuple[bytes, bytes, bytes, int]


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
        self._chat_forms: dict[str, _Form] = {}
        self._queue_forms: dict[str, _Form] = {}

    def to_chat(self, event: NumberedEvent) -> bytes:
        """Write all frames that publish an event to the chat, and to its partition by `BCC`.

        An `end` that no queue takes is returned.
        """
        return self._written(event, self._chat_forms.get(event.name) or self._chat_form(event.name))

    def content(self, event: NumberedEvent) -> bytes:
        """Write the header and body frames, which follow a publish frame to a queue."""
        form = self._queue_forms.get(event.name) or self._queue_form(event.name)
        return self._written(event, form)

    def to_queue(self, queue: str, *, mandatory: bool = False) -> bytes:
        """Write the publish frame to one queue, through the default exchange."""
        return self._publish("", queue, mandatory=mandatory)

    def _written(self, event: NumberedEvent, form: _Form) -> bytes:
        publish, front, behind_time, fixed_bytes = form
        identity, body = event.message_id, event.body
        identity_bytes, size = len(identity), len(body)
        header = _header_front(
            FRAME_HEADER, self._channel, fixed_bytes + identity_bytes, _CLASS_BASIC, 0, size, _FLAGS
        )
        first_bytes = size
        if size > self._longest_body_frame:
            body, first_bytes = self._cut(body), self._longest_body_frame
        # In one go: each step would copy the body once more.
        return b"".join(
            (
                publish,
                header,
                front,
                _long_long(event.seq),
                self._middle,
                _octet(identity_bytes),
                identity,
                _long_long(event.second),
                behind_time,
                _frame_front(FRAME_BODY, self._channel, first_bytes),
                body,
                FRAME_END_CHAR,
            )
        )

    def _chat_form(self, name: str) -> _Form:
        key = routing_key(self._address.chat_id, name)
        publish = self._publish(self._exchange, key, mandatory=name == "end")
        return self._remembered(self._chat_forms, publish, self._chat_front, name)

    def _queue_form(self, name: str) -> _Form:
        return self._remembered(self._queue_forms, b"", self._front, name)

    def _remembered(
        self, forms: dict[str, _Form], publish: bytes, front: bytes, name: str
    ) -> _Form:
        behind = _short(name) + _short(APP_ID)
        header_bytes = len(front) + len(self._middle) + len(behind) + _FIXED_HEADER_BYTES
        form = (publish, front, behind + FRAME_END_CHAR, header_bytes)
        if len(forms) < _REMEMBERED_NAMES:
            forms[name] = form
        return form

    def _publish(self, exchange: str, key: str, *, mandatory: bool) -> bytes:
        payload = b"%b%b%b%c" % (_PUBLISH, _short(exchange), _short(key), mandatory)
        front = _frame_front(FRAME_METHOD, self._channel, len(payload))
        return b"%b%b%b" % (front, payload, FRAME_END_CHAR)

    def _cut(self, body: bytes) -> bytes:
        """Return a long body with the end of each frame but the last, and the front of the next."""
        longest = self._longest_body_frame
        parts = [body[:longest]]
        for start in range(longest, len(body), longest):
            part = body[start : start + longest]
            parts += [FRAME_END_CHAR, _frame_front(FRAME_BODY, self._channel, len(part)), part]
        return b"".join(parts)


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
