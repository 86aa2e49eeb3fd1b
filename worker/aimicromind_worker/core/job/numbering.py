"""Number the events of one attempt 0, 1, 2 … without a gap, and write their message bodies."""

from datetime import UTC, datetime

import msgspec

from aimicromind_worker.core.endpoint.frames import EndpointEvent

# The endpoint chooses the names of events. A flow that never repeats one must not fill memory.
_REMEMBERED_NAMES = 256
_BODY = b'%b%d%b%06dZ","event":%b,"data":%b%b}'
_BEHIND_HEAD_BYTES = len('1234,"time":"2026-11-22T13:20:00.123456Z","event":"token","data":}')


class NumberedEvent(msgspec.Struct, frozen=True, gc=False):
    """One event, ready to be published.

    Attributes:
        name: The event's name, the last word of its routing key.
        seq: The event's position within the attempt, from 0.
        message_id: The AMQP property: `<jobId>:<attempt>:<seq>`, or `<jobId>:end`.
        second: The time of numbering, in whole seconds since 1970.
        body: The message body, JSON.
    """

    name: str
    seq: int
    message_id: bytes
    second: int
    body: bytes


class Numbering:
    """The sequence numbers of one attempt. Call it from one task, in publishing order.

    Attributes:
        next_seq: The number of the next event.
        envelope_bytes: About how many bytes a body has besides its data.
    """

    def __init__(self, job_id: str, chat_id: str, chatflow_id: str, attempt: int) -> None:
        self.next_seq = 0
        self._message_id = b"%b:%d:%%d" % (job_id.encode(), attempt)
        self._end_id = job_id.encode() + b":end"
        encode = msgspec.json.encode
        self._head = b'{"jobId":%b,"chatId":%b,"chatflowId":%b,"attempt":%d,"seq":' % (
            encode(job_id),
            encode(chat_id),
            encode(chatflow_id),
            attempt,
        )
        self.envelope_bytes = len(self._head) + _BEHIND_HEAD_BYTES
        self._second = -1
        self._second_text = b""
        self._names: dict[str, bytes] = {}

    def stamp(self, event: EndpointEvent, at: float) -> NumberedEvent:
        """Return an event under the next number, with its body.

        Args:
            event: The next event of the attempt, the worker's own included.
            at: The time now, in seconds since 1970.
        """
        seq = self.next_seq
        self.next_seq = seq + 1
        name = event.name
        json_name = self._names.get(name) or self.json_name(name)
        beside_data = beside(event) if event.duration or event.truncated_bytes else b""
        second = int(at)
        if second != self._second:
            self._begin_second(second)
        micros = int((at - second) * 1_000_000)
        # As in `body`, without a call for each event.
        text, data = self._second_text, event.data
        body = _BODY % (self._head, seq, text, micros, json_name, data, beside_data)
        message_id = self._end_id if name == "end" else self._message_id % seq
        return NumberedEvent(name, seq, message_id, self._second, body)

    def body(self, seq: int, at: float, json_name: bytes, data: bytes, beside_data: bytes) -> bytes:
        """Write the message body of an event; equal arguments give equal bytes.

        Args:
            seq: Its number.
            at: The time of its numbering, in seconds since 1970.
            json_name: Its name as JSON.
            data: Its data as JSON.
            beside_data: Members that follow the data, each after a comma.
        """
        second = int(at)
        if second != self._second:
            self._begin_second(second)
        micros = int((at - second) * 1_000_000)
        return _BODY % (self._head, seq, self._second_text, micros, json_name, data, beside_data)

    def _begin_second(self, second: int) -> None:
        self._second = second
        moment = datetime.fromtimestamp(second, UTC)
        self._second_text = moment.strftime(',"time":"%Y-%m-%dT%H:%M:%S.').encode()

    def record(self, event: EndpointEvent, at: float) -> NumberedEvent:
        """Return what the journal gets of the next event, under the same number.

        Args:
            event: The record of the attempt's next event, see `milestones.py`.
            at: The time now, in seconds since 1970.
        """
        record = self.stamp(event, at)
        self.next_seq = record.seq
        return record

    def json_name(self, name: str) -> bytes:
        """Return the name of an event as JSON."""
        text = self._names.get(name)
        if text is None:
            text = msgspec.json.encode(name)
            if len(self._names) < _REMEMBERED_NAMES:
                self._names[name] = text
        return text


def beside(event: EndpointEvent) -> bytes:
    """Return the members that stand beside the data of an event, each after a comma."""
    if event.truncated_bytes:
        return b',"truncated":{"bytes":%d}' % event.truncated_bytes
    return b',"duration":' + event.duration if event.duration else b""
