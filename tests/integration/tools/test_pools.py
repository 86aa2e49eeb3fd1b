"""The benchmarks of pools measure the installed worker: each in small, with this version alone."""

from collections.abc import AsyncIterator, Sequence

import pytest_asyncio

from aimicromind_testing import PrivateBroker
from benchmarks.pools.expired import expired
from benchmarks.pools.hot_chat import hot_chat
from benchmarks.pools.journal import journal
from benchmarks.pools.order import WAYS, order
from benchmarks.pools.pool import Site, site
from benchmarks.pools.rows import Row
from benchmarks.pools.versions import NOW
from benchmarks.pools.waiting import waiting


@pytest_asyncio.fixture
async def on(broker: PrivateBroker) -> AsyncIterator[Site]:
    async with site(broker.url) as on:
        yield on


def values(rows: Sequence[Row]) -> list[float]:
    return [it.value for it in rows if it.value is not None]


async def test_short_jobs_are_timed_beside_waiting_jobs(on: Site) -> None:
    *times, late = values(await waiting(on, NOW, count=4, chats=2, shorts=2))

    assert len(times) == 4
    assert min(times) > 0
    assert late == 0


async def test_all_jobs_of_one_chat_are_timed(on: Site) -> None:
    ended, ratio = values(await hot_chat(on, NOW, workers=2, jobs=4, within_s=30))

    assert ended == 4
    assert ratio > 1


async def test_the_order_of_jobs_is_judged_by_the_calls_at_the_endpoint(on: Site) -> None:
    rows = await order(on, NOW, WAYS[1], workers=2, jobs=6, within_s=30)

    ended, early, early_delivered, median, slow = values(rows)
    assert ended == 6
    assert early_delivered <= early <= 5
    assert 0 <= median <= slow


async def test_expired_jobs_are_counted_once_they_are_dead(on: Site) -> None:
    ended, per_s = values(await expired(on, NOW, jobs=5, within_s=30))

    assert ended == 5
    assert per_s > 0


async def test_redelivered_jobs_are_timed_beside_milestones_of_others(on: Site) -> None:
    rows = await journal(on, NOW, milestones=20, repeats=2, within_s=30)

    assert len(values(rows)) == len(rows)
    assert [it.value for it in rows if it.what.endswith(": jobs")] == [2, 2]
