"""Send answers on the channel of the events: snapshots to late followers, and reports of status.

They come in order with the events. An answer is worth less than an event. Invariants:

1. A snapshot is sent once: not again after a nack, nor after a lost connection. Its asker asks
   again, or reads the event log.
2. It counts neither in the window of the events nor in an attempt's confirms.
3. Few bytes of snapshots are unconfirmed at a time, and none is sent while the window of the events
   is full, the broker has an alarm, or an address is searched that closes connections.
4. A queue whose snapshot was nacked, was not confirmed in time, or was in flight when the broker
   closed the connection for a message, gets none for a minute. In the last case no queue gets any
   for 10 s: a session ends after a few such connections in a row.
"""

from collections.abc import Callable
from datetime import timedelta
from time import monotonic
from typing import Final

from pamqp import commands
from pamqp.body import ContentBody
from pamqp.common import FieldValue
from pamqp.frame import marshal
from pamqp.header import ContentHeader
from typing_extensions import override

from aimicromind_schemas.messages.catch_up import SNAPSHOT
from aimicromind_schemas.messages.worker_report import WORKER_REPORT
from aimicromind_worker.amqp.events.backpressure import AttemptMessages
from aimicromind_worker.amqp.events.confirm_channel import CHANNEL_NUMBER
from aimicromind_worker.amqp.events.frames import APP_ID, EventFrames
from aimicromind_worker.amqp.events.message_publisher import MessagePublisher
from aimicromind_worker.amqp.events.nack_period import NackPeriod
from aimicromind_worker.amqp.events.resend_buffer import PendingMessage, ResendBuffer
from aimicromind_worker.amqp.events.steps import NOTHING, Steps
from aimicromind_worker.core.chats.return_address import ReturnAddress
from aimicromind_worker.core.endpoint.exchange import Address
from aimicromind_worker.core.job.numbering import NumberedEvent

_PART_BYTES: Final = 1_000_000
_MOST_BYTES: Final = 1_000_000
_MOST_MESSAGES: Final = 256
_CONFIRMED_WITHIN_S: Final = 5.0
_AVOIDED_S: Final = 60.0
_CALM_S: Final = 10.0
_MOST_AVOIDED: Final = 1_000
_TRANSIENT: Final = 1
_FRAME_OVERHEAD_BYTES: Final = 8
_EVENT: Final = NumberedEvent(SNAPSHOT, 0, b"", 0, b"")


class SnapshotMessage(PendingMessage, eq=False, kw_only=True):
    """One part of an answer, sent and not confirmed.

    Attributes:
        queue: Where it went.
        size_bytes: The size of its frames, which are not kept.
        sent_s: When it was sent.
    """

    queue: str
    size_bytes: int
    sent_s: float


_Take = Callable[[PendingMessage], None]


class _NotSentAgain(ResendBuffer):
    """Stands where an address keeps its order: of a snapshot, nothing is kept."""

    sends_again = False

    def __init__(self, on_ack: _Take, on_nack: _Take, on_loss: _Take) -> None:
        super().__init__(NackPeriod("snapshots", timedelta()))
        self._on_ack = on_ack
        self._on_nack = on_nack
        self._on_loss = on_loss

    @override
    def on_ack(self, message: PendingMessage) -> Steps:
        self._on_ack(message)
        return NOTHING

    @override
    def on_nack(self, message: PendingMessage, *, may_resend: bool) -> Steps:
        self._on_nack(message)
        return NOTHING

    @override
    def on_connection_lost(self, message: PendingMessage) -> Steps:
        self._on_loss(message)
        return NOTHING


class SnapshotPublisher:
    """Sends snapshots beside the events of a publisher. Use it from the event loop only."""

    def __init__(self, publisher: MessagePublisher) -> None:
        self._publisher = publisher
        self._buffer = _NotSentAgain(self._forget, self._refused, self._lost)
        nobody = Address("", "", 0, "", None, None)
        self._attempt = AttemptMessages(EventFrames(nobody, "", CHANNEL_NUMBER, 0))
        # In the order of sending.
        self._unconfirmed: dict[SnapshotMessage, None] = {}
        self._unconfirmed_bytes = 0
        self._avoided_until_s: dict[str, float] = {}
        self._paused_until_s = 0.0

    @property
    def part_bytes(self) -> int:
        """About the most bytes of one part: the broker closes the channel for larger messages."""
        return min(_PART_BYTES, self._publisher.most_bytes // 2)

    def may_publish(self) -> bool:
        """Return whether another part may be sent now, without a delay of the events."""
        self._drop_overdue()
        publisher, sender = self._publisher, self._publisher.sender
        is_calm = not (publisher.backpressure.is_full or sender.blocked or sender.isolation.is_on)
        has_room = self._unconfirmed_bytes < _MOST_BYTES and len(self._unconfirmed) < _MOST_MESSAGES
        is_paused = monotonic() < self._paused_until_s
        return is_calm and has_room and not is_paused and sender.is_open and publisher.may_write()

    def avoids(self, queue: str) -> bool:
        """Return whether nothing is sent to a queue for now: earlier answers did harm."""
        until_s = self._avoided_until_s.get(queue)
        if until_s is None:
            return False
        if until_s < monotonic():
            del self._avoided_until_s[queue]
            return False
        return True

    def publish(self, to: ReturnAddress, chat_id: str, body: bytes) -> None:
        """Send one part of an answer, once.

        Args:
            to: The queue, which may be gone, and what goes back with the answer.
            chat_id: The chat that it is of.
            body: The part.
        """
        self._send(to, body, SNAPSHOT, {"x-stream-filter-value": chat_id})

    def publish_report(self, to: ReturnAddress, body: bytes) -> None:
        """Send the status of this worker, once.

        Args:
            to: The queue, which may be gone, and what goes back with the answer.
            body: The report.
        """
        self._send(to, body, WORKER_REPORT, None)

    def _send(
        self, to: ReturnAddress, body: bytes, kind: str, headers: dict[str, FieldValue] | None
    ) -> None:
        if len(body) > self._publisher.most_bytes:
            return
        frames = _frames(to, body, kind, headers, self._publisher.sender.frame_max)
        message = SnapshotMessage(
            *(self._attempt, self._buffer, _EVENT, frames),
            queue=to.queue,
            size_bytes=len(frames),
            sent_s=monotonic(),
        )
        self._unconfirmed[message] = None
        self._unconfirmed_bytes += message.size_bytes
        self._publisher.sender.send(message)
        # The channel has them until they are written, and they are never sent again.
        message.frames = b""

    def _forget(self, message: PendingMessage) -> None:
        if isinstance(message, SnapshotMessage) and message in self._unconfirmed:
            del self._unconfirmed[message]
            self._unconfirmed_bytes -= message.size_bytes

    def _refused(self, message: PendingMessage) -> None:
        self._forget(message)
        if isinstance(message, SnapshotMessage):
            self._avoid(message.queue)

    def _lost(self, message: PendingMessage) -> None:
        # No snapshot is sent while an address is searched. If one is by now, the broker closed the
        # connection for a message that was in flight, perhaps for this one.
        if self._publisher.sender.isolation.is_on:
            self._refused(message)
            self._paused_until_s = monotonic() + _CALM_S
        else:
            self._forget(message)

    def _drop_overdue(self) -> None:
        now_s = monotonic()
        while self._unconfirmed:
            oldest = next(iter(self._unconfirmed))
            if now_s - oldest.sent_s < _CONFIRMED_WITHIN_S:
                return
            self._refused(oldest)

    def _avoid(self, queue: str) -> None:
        self._avoided_until_s.pop(queue, None)
        self._avoided_until_s[queue] = monotonic() + _AVOIDED_S
        if len(self._avoided_until_s) > _MOST_AVOIDED:
            del self._avoided_until_s[next(iter(self._avoided_until_s))]


def _frames(
    to: ReturnAddress,
    body: bytes,
    kind: str,
    headers: dict[str, FieldValue] | None,
    frame_max: int,
) -> bytes:
    properties = commands.Basic.Properties(
        content_type="application/json",
        headers=headers,
        delivery_mode=_TRANSIENT,
        correlation_id=to.correlation_id or None,
        message_type=kind,
        app_id=APP_ID,
    )
    step = frame_max - _FRAME_OVERHEAD_BYTES
    frames = [
        marshal(commands.Basic.Publish(exchange="", routing_key=to.queue), CHANNEL_NUMBER),
        marshal(ContentHeader(0, len(body), properties), CHANNEL_NUMBER),
    ]
    parts = (body[at : at + step] for at in range(0, len(body), step))
    frames.extend(marshal(ContentBody(part), CHANNEL_NUMBER) for part in parts)
    return b"".join(frames)
