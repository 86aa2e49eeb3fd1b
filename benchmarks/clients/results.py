"""How long a client waits for results, beside the endings of others."""

import json
from typing import Any, Final

from aimicromind_schemas.client import new_job_id
from benchmarks.clients.client import client
from benchmarks.clients.events import EventSource
from benchmarks.pools.pool import Site, pool, takes
from benchmarks.pools.rows import Row, spread
from benchmarks.pools.versions import Version

_OWN: Final = 20
_LAST, _BEFORE = "the-last", "before-all"
_WITHIN_S: Final = 180.0


async def results(site: Site, version: Version, endings: int) -> list[Row]:
    """Ask for results of own jobs, and of jobs of others: the last that ended, and the first ones.

    The first two differ in their ids: one says when it was made, as the client's do.
    """
    timed = new_job_id()
    async with pool(site, version, workers=1) as on:
        source = await EventSource.open(site.url, on.names.events)
        try:
            await source.ends((_BEFORE, timed, *(f"other-{it}" for it in range(endings)), _LAST))
        finally:
            source.close()
        arguments = (site.url, on.names.prefix, takes(50), str(_OWN), _LAST, timed, _BEFORE)
        async with client(site, version, "result", *arguments) as program:
            own = json.loads(await program.says('"own_s"', _WITHIN_S))["own_s"]
            last = json.loads(await program.says(f'"foreign": "{_LAST}"', _WITHIN_S))
            first = json.loads(await program.says(f'"foreign": "{timed}"', _WITHIN_S))
            before = json.loads(await program.says(f'"foreign": "{_BEFORE}"', _WITHIN_S))
    beside = f"beside {endings:,} endings of others"
    return [
        Row(f"first result of a job of its own that takes 50 ms, {beside}, ms", own[0] * 1000),
        *spread(f"the others of its own, {beside}", own[1:]),
        Row(f"result of another's job that ended last, {beside}, ms", last["took_s"] * 1000, "50"),
        Row(f"CPU of the client for it, {beside}, ms", last["cpu_s"] * 1000),
        *_before(f"one that ended before them, {beside}", first, "50"),
        *_before(f"the same with an id that says no time, {beside}", before),
    ]


def _before(what: str, taken: dict[str, Any], goal: str = "") -> tuple[Row, Row]:
    return (
        Row(f"result of {what}, ms", taken["took_s"] * 1000, goal),
        Row(f"CPU of the client for it, {what}, ms", taken["cpu_s"] * 1000),
    )
