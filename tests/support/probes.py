"""Probes as an orchestrator makes them: a new connection each time, a status, and a time limit."""

import asyncio
import time
from typing import Any

import aiohttp

_PROBE_TIMEOUT_S = 1.0
_PAUSE_S = 0.05

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
