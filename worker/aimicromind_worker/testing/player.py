"""Plays a script to the client of one call."""

import asyncio
import math
from collections.abc import Iterable
from typing import assert_never

from aimicromind_worker.testing.answers import END
from aimicromind_worker.testing.call import Call
from aimicromind_worker.testing.connection import ClientGone, Connection
from aimicromind_worker.testing.script import (
    Cut,
    Ending,
    Finish,
    Head,
    Reset,
    Script,
    Send,
    Stall,
    Step,
    Wait,
    send,
)

_ABORTED = (
    send(
        "error",
        "Error: predictionsServices.buildChatflow - Error in LLM node: This operation was aborted",
    ),
    END,
    Finish(),
)

# So many sends may follow each other without a wait before other tasks have their turn.
_SENDS_PER_TURN = 16


class Aborted(Exception):
    """The client asked to stop this run."""


class Player:
    """One run of a script; `play` is called once."""

    def __init__(self, script: Script, call: Call, connection: Connection) -> None:
        self.call = call
        self._script = script
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._due = self._loop.time()
        self._begun = False
        self._chunked = False
        self._until_close = False
        self._sends = 0

    async def play(self) -> None:
        """Do the steps until an ending or until the client is gone."""
        try:
            await self._do_all(self._script.steps(self.call))
        except Aborted:
            self.call.aborted = True
            await self._say_aborted()
        except ClientGone:
            self.call.client_gone = True
        finally:
            self._connection.forget_interruption()

    def abort(self) -> None:
        """Stop the run, if it is one that an abort request stops."""
        if self._script.abortable:
            self._connection.interrupt(Aborted())

    async def _say_aborted(self) -> None:
        self._connection.forget_interruption()
        try:
            await self._do_all(_ABORTED if self._begun else (Head(), *_ABORTED))
        except ClientGone:
            self.call.client_gone = True

    async def _do_all(self, steps: Iterable[Step]) -> None:
        for step in steps:
            match step:
                case Head():
                    await self._begin(step)
                case Send(data):
                    await self._send(data)
                case Wait(seconds):
                    await self._wait(seconds)
                case Finish() | Cut() | Reset() | Stall():
                    await self._end(step)
                    return
                case _:
                    assert_never(step)
        await self._end(Finish())

    async def _begin(self, head: Head) -> None:
        headers = {name.lower(): value.lower() for name, value in head.headers}
        self._begun = True
        self._chunked = headers.get("transfer-encoding") == "chunked"
        self._until_close = headers.get("connection") == "close" or not (
            self._chunked or "content-length" in headers
        )
        await self._connection.write_head(head.status, head.headers)

    async def _send(self, data: bytes) -> None:
        if not data:  # an empty chunk would end the body
            return
        chunk = b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data
        await self._connection.write(chunk)
        self.call.bytes_sent += len(data)
        self._sends += 1
        if self._sends % _SENDS_PER_TURN == 0:
            await asyncio.sleep(0)

    async def _wait(self, seconds: float) -> None:
        self._due += seconds
        if self._due > self._loop.time():
            self._sends = 0
            await self._connection.wait_until(self._due)

    async def _end(self, ending: Ending) -> None:
        match ending:
            case Finish():
                if self._chunked:
                    await self._connection.write(b"0\r\n\r\n")
                if self._until_close:
                    self._connection.close()
            case Cut():
                self._connection.close()
            case Reset():
                await self._connection.reset()
            case Stall():
                await self._connection.wait_until(math.inf)
            case _:
                assert_never(ending)
