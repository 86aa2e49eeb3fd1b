"""Play a script as one run of the server, which does not depend on its client."""

import asyncio
import time
from collections.abc import Iterable
from typing import TypeAlias, assert_never

from aimicromind_testing.endpoint.answers import END
from aimicromind_testing.endpoint.client import ServedClient
from aimicromind_testing.endpoint.script import (
    Break,
    Crash,
    Cut,
    Ending,
    Finish,
    Head,
    Mute,
    Reset,
    Script,
    Send,
    Stall,
    Step,
    Unheard,
    Wait,
    send,
)

Channels: TypeAlias = dict[object, ServedClient]
"""The receiving client of each stream: of an event stream by its chatId, which runs may share."""

_ABORTED = (
    send(
        "error",
        "Error: predictionsServices.buildChatflow - Error in LLM node: This operation was aborted",
    ),
    END,
    Finish(),
)

# Sends without a wait, after which other tasks run.
_SENDS_PER_TURN = 16


class Player:
    """One run of a script; `play` is called once, in a task of its own."""

    def __init__(self, script: Script, client: ServedClient, channels: Channels) -> None:
        self.call = client.call
        self._script = script
        self._client = client
        self._channels = channels
        self._channel: object = self
        self._loop = asyncio.get_running_loop()
        self._task: asyncio.Task[None] | None = None
        self._due = self._loop.time()
        self._begun = False
        self._sends = 0

    async def play(self) -> None:
        """Do all steps of the run."""
        self._task = asyncio.current_task()
        try:
            if not self.call.aborted:
                await self._do_all(self._script.steps(self.call))
        except asyncio.CancelledError:
            if not self.call.aborted:
                raise
        finally:
            self.call.run_ended = time.monotonic()
        if self.call.aborted:
            await self._do_all(_ABORTED if self._begun else (Head(), *_ABORTED))

    def abort(self) -> None:
        """End the run, if its script is abortable and it has not ended."""
        if self._script.abortable and self.call.run_ended is None and not self.call.aborted:
            self.call.aborted = True
            if self._task is not None:
                self._task.cancel()

    async def _do_all(self, steps: Iterable[Step]) -> None:
        for step in steps:
            match step:
                case Head():
                    await self._begin(step)
                case Send(data):
                    await self._send(data)
                case Unheard(data):
                    self.call.said += data
                case Wait(seconds):
                    await self._wait(seconds)
                case Cut() | Reset() | Mute():
                    await self._break(step)
                case Finish() | Crash() | Stall():
                    await self._end(step)
                    return
                case _:
                    assert_never(step)
        await self._end(Finish())

    async def _begin(self, head: Head) -> None:
        self._begun = True
        if any("text/event-stream" in value for _, value in head.headers):
            self._channel = self.call.chat_id
        if not self._client.deaf:
            self._channels[self._channel] = self._client
        await self._client.begin(head)

    async def _send(self, data: bytes) -> None:
        if not data:  # an empty chunk would end the body
            return
        self.call.said += data
        client = self._channels.get(self._channel)
        if client is not None:
            await client.write(data)
        self._sends += 1
        if self._sends % _SENDS_PER_TURN == 0:
            await asyncio.sleep(0)

    async def _wait(self, seconds: float) -> None:
        self._due += seconds
        pause = self._due - self._loop.time()
        if pause > 0:
            self._sends = 0
            await asyncio.sleep(pause)

    async def _break(self, step: Break) -> None:
        match step:
            case Cut():
                self._client.cut()
            case Reset():
                await self._client.reset()
            case Mute():
                self._client.mute()
            case _:
                assert_never(step)

    async def _end(self, ending: Ending) -> None:
        match ending:
            case Finish():
                client = self._channels.pop(self._channel, None)
                if client is not None:
                    await client.finish()
            case Crash():
                self._client.cut()
            case Stall():
                await self._loop.create_future()
            case _:
                assert_never(ending)
