"""Write the answer of one call to its client's connection, and record when it ended."""

import asyncio
import time

from aimicromind_testing.endpoint.call import Call
from aimicromind_testing.endpoint.connection import ServerConnection
from aimicromind_testing.endpoint.script import Head


class ServedClient:
    """The client of a call. Writes after the answer's end are dropped.

    Several runs may write to it, because runs with equal chatIds share a stream.
    """

    def __init__(self, call: Call, connection: ServerConnection) -> None:
        self.call = call
        self.served: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """Done when the answer has ended."""
        self.deaf = False
        """Whether writes are dropped."""
        self._connection = connection
        self._chunked = False
        self._until_close = False
        connection.when_lost = self._left
        if connection.lost:
            self._left()

    async def begin(self, head: Head) -> None:
        """Send the status line and headers, which decide how the body is framed."""
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
        """Send a part of the body, and wait while the client reads too slowly."""
        if self.deaf:
            return
        self._connection.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)
        if self._connection.held:
            await self._connection.drained()
        self.call.bytes_sent += len(data)

    async def finish(self) -> None:
        """Send the end of the body, and close the connection if the headers say so."""
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
        """Close the connection by FIN."""
        if not self.served.done():
            self._end()
            self._connection.close()

    async def reset(self) -> None:
        """Close the connection by RST, once the client's system has all bytes."""
        await self._connection.acknowledged()
        if not self.served.done():
            self._end()
            self._connection.reset()

    def mute(self) -> None:
        """Keep the connection open, and drop further writes."""
        self.deaf = True

    def _left(self) -> None:
        if not self.served.done():
            self.call.client_gone = True
            self._end()

    def _end(self) -> None:
        self.deaf = True
        self.call.ended = time.monotonic()
        self.served.set_result(None)
