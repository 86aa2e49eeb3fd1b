"""Speak AMQP 0-9-1 at the least cost, for the consumer and the lower bound."""

import asyncio
from collections.abc import Callable
from struct import Struct
from typing import Final, cast
from urllib.parse import unquote, urlsplit

from pamqp import commands
from pamqp.base import Frame
from pamqp.frame import marshal, unmarshal
from pamqp.header import ProtocolHeader
from typing_extensions import override

CHANNEL: Final = 1
_PORT: Final = 5672
_METHOD, _HEADER, _BODY, _HEARTBEAT = 1, 2, 3, 8
_HEARTBEAT_FRAME = b"\x08\x00\x00\x00\x00\x00\x00\xce"
_DELIVER = b"\x00\x3c\x00\x3c"
_ACK = b"\x00\x3c\x00\x50"
_front = Struct(">BHI")
_long_long = Struct(">Q")


class AmqpProtocol(asyncio.Protocol):
    """One connection with one channel.

    Attributes:
        on_body: Called with the body and the delivery tag of each message.
        on_ack: Called with the tag of each confirm, and whether it confirms all before it.
    """

    def __init__(self) -> None:
        self.on_body: Callable[[bytes, int], None] = lambda body, tag: None
        self.on_ack: Callable[[int, bool], None] = lambda tag, multiple: None
        self.transport: asyncio.Transport
        self._came = b""
        self._delivery_tag = 0
        self._body_size = 0
        self._parts: list[bytes] = []
        self._answers: asyncio.Queue[Frame] = asyncio.Queue()

    @classmethod
    async def open(cls, url: str) -> "AmqpProtocol":
        """Connect, and open the channel."""
        address = urlsplit(url)
        loop = asyncio.get_running_loop()
        place = address.hostname or "", address.port or _PORT
        _, protocol = await loop.create_connection(cls, *place)
        user, password = unquote(address.username or ""), unquote(address.password or "")
        response = f"\0{user}\0{password}"
        await protocol.asks(None)
        tune = await protocol.asks(
            commands.Connection.StartOk(client_properties={}, response=response), 0
        )
        assert isinstance(tune, commands.Connection.Tune)
        protocol.send(commands.Connection.TuneOk(tune.channel_max, tune.frame_max, 0), 0)
        virtual_host = unquote(address.path.removeprefix("/")) or "/"
        await protocol.asks(commands.Connection.Open(virtual_host), 0)
        await protocol.asks(commands.Channel.Open())
        return protocol

    def send(self, method: Frame, channel: int = CHANNEL) -> None:
        """Write a method frame."""
        self.transport.write(marshal(method, channel))

    async def asks(self, method: Frame | None, channel: int = CHANNEL) -> Frame:
        """Write a method, if one is given, and return the broker's next method.

        Raises:
            ConnectionError: The broker closes the channel or the connection instead.
        """
        if method is not None:
            self.send(method, channel)
        answer = await asyncio.wait_for(self._answers.get(), 10)
        if isinstance(answer, commands.Connection.Close | commands.Channel.Close):
            raise ConnectionError(answer.reply_text)
        return answer

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(ProtocolHeader().marshal())

    @override
    def data_received(self, data: bytes) -> None:
        came = self._came + data if self._came else data
        at, end = 0, len(came)
        while end - at >= 7:
            kind, _, size = _front.unpack_from(came, at)
            following = at + size + 8
            if following > end:
                break
            if kind == _BODY:
                self._body(came[at + 7 : following - 1])
            elif kind == _HEADER:
                self._body_size = _long_long.unpack_from(came, at + 11)[0]
            elif kind == _METHOD:
                self._method(came[at:following])
            elif kind == _HEARTBEAT:
                self.transport.write(_HEARTBEAT_FRAME)
            at = following
        self._came = came[at:]

    def _body(self, part: bytes) -> None:
        if len(part) < self._body_size:
            self._parts.append(part)
            if sum(map(len, self._parts)) < self._body_size:
                return
            part = b"".join(self._parts)
            self._parts.clear()
        self.on_body(part, self._delivery_tag)

    def _method(self, frame: bytes) -> None:
        name = frame[7:11]
        if name == _DELIVER:
            self._delivery_tag = _long_long.unpack_from(frame, 12 + frame[11])[0]
        elif name == _ACK:
            self.on_ack(_long_long.unpack_from(frame, 11)[0], frame[19] == 1)
        else:
            self._answers.put_nowait(cast("Frame", unmarshal(frame)[2]))
