"""A middleman to a broker that shows nothing of one stream for as long as it is told to."""

import asyncio
from types import TracebackType
from typing import Self

from pamqp import commands
from pamqp.frame import unmarshal

_METHOD, _HEADER, _BODY = 1, 2, 3
_HEADER_BYTES = 7


class SilentStream:
    """Forwards to a broker of this machine, frame by frame.

    Attributes:
        is_silent: Whether what the stream delivers is dropped from now on.
        asked: How often the stream was asked for.
    """

    def __init__(self, port: int, stream: str) -> None:
        self.is_silent = True
        self.asked = 0
        self._to_port = port
        self._stream = stream
        self._ways: set[asyncio.Task[None]] = set()

    @property
    def url(self) -> str:
        port = self._server.sockets[0].getsockname()[1]
        return f"amqp://guest:guest@127.0.0.1:{port}/"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._server.close()
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._ways, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to_port)
        back.write(await reader.readexactly(8))
        reading: set[int] = set()
        for way in (
            asyncio.create_task(self._pass_on(reader, back, reading, to_broker=True)),
            asyncio.create_task(self._pass_on(there, writer, reading, to_broker=False)),
        ):
            self._ways.add(way)

    async def _pass_on(
        self,
        source: asyncio.StreamReader,
        target: asyncio.StreamWriter,
        reading: set[int],
        *,
        to_broker: bool,
    ) -> None:
        try:
            while True:
                head = await source.readexactly(_HEADER_BYTES)
                rest = await source.readexactly(int.from_bytes(head[3:]) + 1)
                channel = int.from_bytes(head[1:3])
                if to_broker:
                    self._note(head + rest, channel, reading)
                elif self.is_silent and channel in reading and _is_delivery(head + rest):
                    continue
                target.write(head + rest)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            target.close()

    def _note(self, frame: bytes, channel: int, reading: set[int]) -> None:
        if frame[0] != _METHOD:
            return
        match unmarshal(frame)[2]:
            case commands.Basic.Consume(queue=self._stream):
                self.asked += 1
                reading.add(channel)
            case commands.Channel.Close():
                reading.discard(channel)
            case _:
                pass


def _is_delivery(frame: bytes) -> bool:
    if frame[0] in {_HEADER, _BODY}:
        return True
    return frame[0] == _METHOD and isinstance(unmarshal(frame)[2], commands.Basic.Deliver)
