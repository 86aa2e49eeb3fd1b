"""What followers of one client process cost, and what stuck ones cost the others."""

import json
from typing import Any, Final

from benchmarks.clients.client import client
from benchmarks.clients.events import EventSource
from benchmarks.pools.pool import Site, pool
from benchmarks.pools.rows import Row
from benchmarks.pools.versions import Version

_WITHIN_S: Final = 120.0
_OF_STUCK: Final = 1200


async def many(
    site: Site, version: Version, followers: int, stuck: int, tokens: int, rate: int
) -> list[Row]:
    """Follow jobs, each in its chat, and publish their events one job after the other."""
    async with pool(site, version) as on:
        source = await EventSource.open(site.url, on.names.events)
        arguments = (site.url, on.names.prefix, str(followers), str(stuck))
        try:
            async with client(site, version, "follow", *arguments) as program:
                opened = json.loads(await program.says('"opened"', _WITHIN_S))
                # More than what waits for one who takes nothing.
                more = dict.fromkeys(range(stuck), _OF_STUCK)
                await source.rounds(followers, tokens, rate, more)
                others = json.loads(await program.says('"others_ended"', _WITHIN_S))
                ended = json.loads(await program.says('"all_ended"', _WITHIN_S))
        finally:
            source.close()
    return _rows(followers, stuck, opened, others, ended)


def _rows(
    followers: int,
    stuck: int,
    opened: dict[str, Any],
    others: dict[str, Any],
    ended: dict[str, Any],
) -> list[Row]:
    what = f"{followers:,} followers" + (f", {stuck} of them stuck" if stuck else "")
    count, events = opened["opened"], others["events"]
    return [
        Row(f"{what}: opened", opened["opened"], f"{followers:,}"),
        Row(f"{what}: time to open all, s", opened["took_s"]),
        Row(f"{what}: memory of an open one, KB", _each(opened["kb"], count)),
        Row(f"{what}: memory of one behind its events, KB", _each(others["kb"], count)),
        Row(f"{what}: ends of those that are not stuck", others["others_ended"]),
        Row(f"{what}: ends in all", ended["all_ended"], f"{followers:,}"),
        Row(f"{what}: events missed", ended["missing"], "0"),
        Row(f"{what}: CPU of the client for an event, µs", _each(1e6 * others["cpu_s"], events)),
        Row(f"{what}: event until its follower has it: median, ms", _ms(others["lag_s"])),
        Row(f"{what}: event until its follower has it: worst, ms", _ms(others["lag_worst_s"])),
    ]


def _each(whole: float, count: int) -> float | None:
    return whole / count if count else None


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1000
