"""The client of one call: what it is sent, and when the answer is over for it."""

import asyncio
import time

from aimicromind_testing.endpoint.call import Call
from aimicromind_testing.endpoint.connection import ServerConnection
from aimicromind_testing.endpoint.script import Head


class ServedClient:
    """Where an answer goes; what is sent to one that is served no more is dropped.

    Several runs may write to it, as those of equal chatIds do.
    """

    def __init__(self, call: Call, connection: ServerConnection) -> None:
        self.call = call
        self.served: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the answer is over."""
        self.deaf = False
        """Whether what is sent to it is dropped."""
        self._connection = connection
        self._chunked = False
        self._until_close = False
        connection.when_lost = self._left
        if connection.lost:
            self._left()

    async def begin(self, head: Head) -> None:
        """Send the status line and headers, which say how the body is framed."""
        if self.deaf:
            return
        headers = {name.lower(): value.lower() for name, value in head.headers}
        self._chunked = headers.get("transfer-encoding") == "chunked"
        self._until_close = headers.get("connection") == "close" or not (
            self._chunked or "content-length" in headers
        )
        self._connection.write_head(head.status, head.headers)
        await self._connection.drained()

    async def write(self, data: bytes) -> None:
        """Send a piece of the body; wait while the client reads too slowly."""
        if self.deaf:
            return
        self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        if self._connection.held:
            await self._connection.drained()
        self.call.bytes_sent += len(data)

    async def finish(self) -> None:
        """End the body in good order."""
        if self.deaf:
            return
        if self._chunked:
            self._connection.write(b"0\r\n\r\n")
            await self._connection.drained()
        if not self.served.done():
            self._end()
        if self._until_close:
            self._connection.close()

    def cut(self) -> None:
        """Close the connection: FIN."""
        if not self.served.done():
            self._end()
            self._connection.close()

    async def reset(self) -> None:
        """Break the connection when all bytes have arrived: RST."""
        await self._connection.acknowledged()
        if not self.served.done():
            self._end()
            self._connection.reset()

    def mute(self) -> None:
        """Keep the connection open, and send nothing more."""
        self.deaf = True

    def _left(self) -> None:
        if not self.served.done():
            self.call.client_gone = True
            self._end()

    def _end(self) -> None:
        self.deaf = True
        self.call.ended = time.monotonic()
        self.served.set_result(None)
