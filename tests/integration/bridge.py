"""The bridge of examples, run as its page says, and readers of what it sends."""

import asyncio
import os
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

import httpx

from tests.integration.stage import Stage
from tests.support.amqp import WITHIN_S

_EXAMPLES = Path(__file__).parents[2] / "examples"
_ADDRESS = re.compile(rb"running on (http://\S+)")
_FRAME_END = b"\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Bridge:
    """A bridge that serves.

    Attributes:
        url: Where, without a slash at the end.
        http: A browser's way to it.
    """

    url: str
    http: httpx.AsyncClient
    process: asyncio.subprocess.Process

    async def ask(self, question: str) -> str:
        """Ask, and give where the answer is."""
        reply = await self.http.post("/questions", json={"text": question})
        assert reply.status_code == 202, reply.text
        where: str = reply.json()["answer"]
        return where

    async def stops(self) -> None:
        """Tell it to stop, and wait until it has."""
        self.process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(self.process.wait(), WITHIN_S)


@asynccontextmanager
async def bridging(stage: Stage, amqp_url: str | None = None) -> AsyncIterator[Bridge]:
    """Run a bridge to the flow `flow` until the body ends."""
    settings = {
        "AIMICROMIND_AMQP_URL": amqp_url or stage.broker.url,
        "AIMICROMIND_PREFIX": stage.names.prefix,
        "FLOW_ID": "flow",
    }
    with TemporaryFile() as log:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "uvicorn", "bridge:app", "--port", "0"),
            cwd=_EXAMPLES,
            env={**os.environ, **settings, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        try:
            url = await _address(process, log)
            async with httpx.AsyncClient(base_url=url, timeout=25, verify=False) as http:
                yield Bridge(url, http, process)
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            # A test that failed shows it.
            print(_read(log).decode())  # noqa: T201


async def _address(process: asyncio.subprocess.Process, log: BinaryIO) -> str:
    async with asyncio.timeout(WITHIN_S):
        while (found := _ADDRESS.search(_read(log))) is None:
            assert process.returncode is None, "it ended"
            await asyncio.sleep(0.05)
    return found[1].decode()


def _read(log: BinaryIO) -> bytes:
    return os.pread(log.fileno(), 10_000_000, 0)


@dataclass(slots=True)
class SseReader:
    """Reads an answer, over any number of requests.

    Attributes:
        events: Id and data of each event so far; a gap has no id.
        last_id: What it asks to go on after.
        comments: How many came.
    """

    bridge: Bridge
    where: str
    events: list[tuple[str, str]] = field(default_factory=list)
    last_id: str = ""
    comments: int = 0

    async def read(self, up_to_bytes: int | None = None) -> None:
        """Read to the end of the answer, or break the connection after so many bytes."""
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        unread = b""
        received = 0
        async with self.bridge.http.stream("GET", self.where, headers=headers) as response:
            assert response.status_code == 200
            async for chunk in response.aiter_raw():
                left = None if up_to_bytes is None else up_to_bytes - received
                unread += chunk[:left]
                received += len(chunk)
                *frames, unread = unread.split(_FRAME_END)
                for frame in frames:
                    self._take(frame.decode())
                if left is not None and len(chunk) >= left:
                    return

    def _take(self, frame: str) -> None:
        # Only these two ends of line occur; U+2028 and the like are text.
        fields = dict(line.split(": ", 1) for line in frame.split("\r\n") if line[0] != ":")
        self.comments += not fields
        if fields:
            self.last_id = fields.get("id", self.last_id)
            self.events.append((fields.get("id", ""), fields["data"]))

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[asyncio.Task[None]]:
        """Read to the end of the answer, or to the body's."""
        task = asyncio.create_task(self.read())
        try:
            yield task
        finally:
            task.cancel()
            await asyncio.wait([task])

    @property
    def ended(self) -> bool:
        return self.last_id.endswith(":end")
