"""Probes as an orchestrator makes them: a new connection each time, a status, and a time limit."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

_PROBE_TIMEOUT_S = 1.0
_PAUSE_S = 0.05
_LONGEST_WAIT_S = 60.0

_FINE = {"status": "ok", "reasons": []}
OK = (200, _FINE)
_NO_REFUSALS = {"refused": 0, "sent_again": 0, "passed_over": 0, "ends_straight": 0}
READY = (200, {**_FINE, "events": _NO_REFUSALS})
"""What a worker says whose events no queue has refused."""


async def probe(url: str) -> tuple[int, Any]:
    """Ask once, and give status and body, read as JSON where it is that.

    Raises:
        TimeoutError: No answer came.
    """
    timeout = aiohttp.ClientTimeout(total=_PROBE_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url) as response:
        if response.content_type == "application/json":
            return response.status, await response.json()
        return response.status, await response.text()


async def turns(url: str, status: int, within_s: float) -> Any:  # noqa: ANN401 - JSON
    """Ask until the status is this one, and give the body of that answer."""
    last: object = None
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        try:
            last, body = await probe(url)
        except (TimeoutError, aiohttp.ClientError) as error:
            # A machine that is busy may be too late for one.
            last = type(error).__name__
        else:
            if last == status:
                return body
        await asyncio.sleep(_PAUSE_S)
    raise TimeoutError(f"{url} gave {last} and not {status} for {within_s:g} s")


@dataclass(frozen=True, slots=True)
class UnderFlood:
    """What probes of `/livez` met while a flood went on.

    Attributes:
        took_s: Times of those that were answered, from the connection on.
        unanswered: How many were not.
    """

    took_s: list[float]
    unanswered: int
    connections: int
    sent_mb: float


async def probe_under(flood: str, url: str, megabytes: float, seconds: float) -> UnderFlood:
    """Throw a flood of `floods.py` at a port and ask for `/livez` until it is over."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "tests.support.floods", flood, port, str(megabytes), str(seconds)),
        cwd=Path(__file__).parents[2],
        stdout=asyncio.subprocess.PIPE,
    )
    flooding = asyncio.create_task(process.communicate())
    took_s: list[float] = []
    unanswered = 0
    try:
        while not flooding.done():
            try:
                took_s.append(await _timed(host, int(port)))
            except (OSError, EOFError):
                unanswered += 1
            await asyncio.sleep(_PAUSE_S)
    finally:
        if process.returncode is None:
            process.kill()
        said, _ = await flooding
    return UnderFlood(took_s, unanswered, **json.loads(said))


async def _timed(host: str, port: int) -> float:
    began = time.monotonic()
    async with asyncio.timeout(_LONGEST_WAIT_S):
        reader, writer = await asyncio.open_connection(host, port)
        try:
            writer.write(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK\r\n")
        finally:
            writer.close()
    return time.monotonic() - began
