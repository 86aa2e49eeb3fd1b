"""How long a client waits for what a job has published before, beside the events of others."""

import asyncio
import json
import statistics
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aimicromind_testing import answer
from benchmarks.clients.client import client
from benchmarks.clients.events import EventSource
from benchmarks.pools.pool import Site, pool
from benchmarks.pools.rows import Row, spread
from benchmarks.pools.versions import Version

_TALKS: Final = "talks"
_TOKENS, _A_SECOND = 6_000, 20
_JOBS: Final = 50
_SAYS_FIRST_S: Final = 10.0
_WITHIN_S: Final = 180.0


async def late(
    site: Site, version: Version, foreign: int, rate: int, joins: int, together: int
) -> list[Row]:
    """Join running jobs late: one after the other, then many followers at once."""
    site.endpoint.flow(_TALKS, answer(_TOKENS, rate=_A_SECOND))
    async with pool(site, version, workers=1, CONCURRENCY=str(_JOBS)) as on:
        source = await EventSource.open(site.url, on.names.events)
        try:
            await source.tokens(foreign)
            names = [f"talks-{number}" for number in range(_JOBS)]
            for name in names:
                on.jobs.put(on.job(name, name, _TALKS))
            await on.jobs.confirmed()
            await asyncio.sleep(_SAYS_FIRST_S)
            chats = [f"{on.names.prefix}-{name}" for name in names]
            arguments = (site.url, on.names.prefix, str(joins), str(together), *chats)
            async with _going_on(source, rate), client(site, version, "late", *arguments) as it:
                one_by_one = json.loads(await it.says('"joined_s"', _WITHIN_S))
                at_once = json.loads(await it.says('"together_s"', _WITHIN_S))
        finally:
            source.close()
    return _rows(foreign, rate, together, one_by_one, at_once)


@asynccontextmanager
async def _going_on(source: EventSource, rate: int) -> AsyncIterator[None]:
    """Publish events of others during the body."""
    going_on = asyncio.create_task(source.tokens(rate=rate))
    try:
        yield
    finally:
        going_on.cancel()
        await asyncio.wait((going_on,))


def _rows(
    foreign: int,
    rate: int,
    together: int,
    one_by_one: dict[str, Any],
    at_once: dict[str, Any],
) -> list[Row]:
    beside = f"beside {foreign:,} events of others, {rate:,}/s going on"
    joined_s, together_s = one_by_one["joined_s"], at_once["together_s"]
    what = f"late join of one of {_JOBS} running jobs, {beside}"
    return [
        *spread(what, joined_s),
        Row(f"{what}: CPU of the client, ms", one_by_one["cpu_s"] / len(joined_s) * 1000, "5"),
        Row(f"{what}: events that one reads", one_by_one["events"]),
        Row(f"{together:,} come back together: caught up", len(together_s), f"{together:,}"),
        Row(f"{together:,} come back together: events missed", at_once["missing"], "0"),
        Row(f"{together:,} come back together: all caught up, s", max(together_s), "20"),
        Row(f"{together:,} come back together: median, s", statistics.median(together_s)),
    ]
