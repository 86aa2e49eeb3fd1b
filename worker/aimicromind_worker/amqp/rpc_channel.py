"""Send requests on a channel that the broker answers in order, without the tasks of aiormq.

Messages to its consumers are passed on with their content header, which is never read here: whoever
published the message wrote it.
"""

import asyncio
import struct
from collections import deque
from collections.abc import Callable
from typing import Final, NamedTuple

import structlog
from aiormq.channel import exception_by_code
from aiormq.exceptions import AMQPError, ChannelInvalidStateError
from pamqp import commands
from pamqp.base import Frame
from pamqp.constants import (
    FRAME_BODY,
    FRAME_END_CHAR,
    FRAME_HEADER,
    FRAME_HEADER_SIZE,
    FRAME_METHOD,
)
from pamqp.frame import FrameTypes, marshal, unmarshal

from aimicromind_schemas.client.transport.demultiplexer import method_of
from aimicromind_schemas.client.transport.message_guard import method_number
from aimicromind_schemas.client.transport.socket_transport import SocketTransport

log = structlog.get_logger()

_CLOSE = method_number(commands.Channel.Close)
_CANCEL = method_number(commands.Basic.Cancel)
_DELIVER = method_number(commands.Basic.Deliver)
_ANSWERS = {
    method_number(commands.Channel.OpenOk),
    method_number(commands.Queue.DeclareOk),
    method_number(commands.Queue.DeleteOk),
    method_number(commands.Basic.ConsumeOk),
}
_TAG_AT = FRAME_HEADER_SIZE + 4  # behind class and method
_body_size = struct.Struct(">Q").unpack_from
_SIZE_AT = FRAME_HEADER_SIZE + 4  # behind class and weight
_LONGEST_BODY_BYTES = 64 * 1024

ANSWER_WITHIN_S: Final = 30.0
"""A broker that takes longer counts as lost."""


class _Request(NamedTuple):
    """A request that was sent: its answer to come, and until when, a time of the event loop."""

    answer: asyncio.Future[None]
    until: float


class RpcChannel:
    """A channel for any number of requests at a time. Use it from the event loop only.

    The broker carries out requests in order. An answer thus belongs to the request that has waited
    longest. A request without an answer fails after 30 s. One timer watches all of a channel, since
    one for each would cost more than the request.

    Attributes:
        is_open: Whether requests can be sent; an error of the broker closes the channel.
        on_cancel: A callback with the tag of a consumer that the broker cancels.
        on_message: A callback with the tag of a consumer, the body of a message and the payload of
            its content header. A body of more than 64 KiB is dropped.
    """

    def __init__(self, wire: SocketTransport, number: int) -> None:
        """Prepare a channel and register it with the demultiplexer.

        Args:
            wire: The socket of the connection.
            number: The number of the channel, which nobody else may use.
        """
        self.is_open = False
        self.on_cancel: Callable[[str], None] = lambda _: None
        self.on_message: Callable[[str, bytes, bytes], None] = lambda _tag, _body, _header: None
        self._wire = wire
        self._number = number
        self._waiting: deque[_Request] = deque()
        self._is_watched = False
        self._gone: AMQPError | None = None
        self._tag = ""
        self._header = b""
        self._body: list[bytes] = []
        self._missing = 0
        wire.demultiplexer.handlers[number] = self

    async def open(self) -> None:
        """Open the channel, for the first time or after the broker closed it.

        Raises:
            AMQPError: The broker closed the channel or the connection.
        """
        self.is_open = self._gone is None
        await self.ask(commands.Channel.Open())

    async def ask(self, *requests: Frame) -> None:
        """Send requests and wait for the answer to the last one, which alone has an answer.

        A request that nobody awaits any more still takes its answer.

        Raises:
            TimeoutError: The broker did not answer within 30 s.
            AMQPError: The broker closed the channel or the connection.
            ChannelInvalidStateError: The channel is not open.
        """
        if self._gone is not None:
            raise self._gone
        if not self.is_open:
            raise ChannelInvalidStateError("the channel is closed")
        frames = b"".join(marshal(request, self._number) for request in requests)
        loop = asyncio.get_running_loop()
        request = _Request(loop.create_future(), loop.time() + ANSWER_WITHIN_S)
        self._waiting.append(request)
        if not self._is_watched:
            self._is_watched = True
            loop.call_at(request.until, self._watch)
        self._wire.write(frames)
        await request.answer

    def lost(self, error: AMQPError) -> None:
        """Record that the connection has closed; all requests fail with the error."""
        self._gone = error
        self._close(error)

    def take(self, frame: bytes) -> bool:
        """Take a frame from the demultiplexer.

        Returns:
            True: the frame is never passed to aiormq.
        """
        if frame[0] == FRAME_METHOD:
            self._take_method(frame)
        elif frame[0] == FRAME_HEADER:
            self._missing = _body_size(frame, _SIZE_AT)[0]
            self._header = frame[FRAME_HEADER_SIZE : -len(FRAME_END_CHAR)]
            if self._missing > _LONGEST_BODY_BYTES:
                self._tag = ""
        elif frame[0] == FRAME_BODY and self._missing:
            self._take_body(frame[FRAME_HEADER_SIZE : -len(FRAME_END_CHAR)])
        return True

    def _take_method(self, frame: bytes) -> None:
        method = method_of(frame)
        if method in _ANSWERS:
            self._answered()
        elif method in {_CLOSE, _CANCEL}:
            self._take_news(unmarshal(frame)[2])
        elif method == _DELIVER:
            tag = frame[_TAG_AT + 1 : _TAG_AT + 1 + frame[_TAG_AT]]
            self._tag, self._missing = tag.decode(errors="replace"), 0
            self._body.clear()

    def _take_body(self, part: bytes) -> None:
        self._missing -= len(part)
        if not self._tag:
            return
        self._body.append(part)
        if self._missing <= 0:
            tag, body = self._tag, b"".join(self._body)
            self._tag, self._missing = "", 0
            self._body.clear()
            self.on_message(tag, body, self._header)

    def _answered(self) -> None:
        if not self._waiting:
            log.error("broker.unexpected_answer", channel=self._number)
            return
        answer = self._waiting.popleft().answer
        if not answer.done():
            answer.set_result(None)

    def _watch(self) -> None:
        """Fail the requests whose time is over, and look again when the next one's is."""
        loop = asyncio.get_running_loop()
        now, self._is_watched = loop.time(), False
        for answer, until in self._waiting:
            if until > now:
                self._is_watched = True
                loop.call_at(until, self._watch)
                return
            if not answer.done():
                answer.set_exception(TimeoutError(f"no answer within {ANSWER_WITHIN_S:.0f} s"))

    def _take_news(self, news: FrameTypes) -> None:
        if isinstance(news, commands.Channel.Close):
            self._wire.write(marshal(commands.Channel.CloseOk(), self._number))
            self._close(exception_by_code(news))
        elif isinstance(news, commands.Basic.Cancel):
            self.on_cancel(news.consumer_tag or "")

    def _close(self, error: AMQPError) -> None:
        self.is_open = False
        while self._waiting:
            answer = self._waiting.popleft().answer
            if not answer.done():
                answer.set_exception(error)
