import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import timedelta

import pytest
import pytest_asyncio

from aimicromind_schemas import FailureKind
from aimicromind_worker.core.endpoint.errors import StreamStalled
from aimicromind_worker.runs.idle_timeout import IdleTimeout

LIMIT = timedelta(milliseconds=150)
TICK_S = 0.018


@pytest_asyncio.fixture
async def watch() -> AsyncIterator[IdleTimeout]:
    watch = IdleTimeout(LIMIT)
    running = asyncio.create_task(watch.run())
    yield watch
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def test_silent_stream_is_broken_off(watch: IdleTimeout) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()

    with pytest.raises(StreamStalled, match=r"0\.15 s") as stalled:
        async with watch.watch():
            await asyncio.Event().wait()

    assert stalled.value.kind == FailureKind.STREAM_STALLED
    assert loop.time() - began >= LIMIT.total_seconds()


async def test_stream_that_goes_on_is_left_alone(watch: IdleTimeout) -> None:
    async with watch.watch() as watched:
        for _ in range(10):
            await asyncio.sleep(TICK_S)
            watched.progressed()


async def test_silence_counts_from_the_last_progress(watch: IdleTimeout) -> None:
    async def stops_after_ten() -> None:
        async with watch.watch() as watched:
            for _ in range(10):
                await asyncio.sleep(TICK_S)
                watched.progressed()
            await asyncio.Event().wait()

    loop = asyncio.get_running_loop()
    began = loop.time()

    with pytest.raises(StreamStalled):
        await stops_after_ten()
    assert loop.time() - began >= 10 * TICK_S + LIMIT.total_seconds()


async def test_time_in_which_nobody_reads_does_not_count(watch: IdleTimeout) -> None:
    async with watch.watch() as watched:
        watched.paused()
        await asyncio.sleep(2 * LIMIT.total_seconds())
        watched.progressed()
        await asyncio.sleep(TICK_S)


async def test_each_stream_has_its_own_silence(watch: IdleTimeout) -> None:
    async def silent() -> str:
        try:
            async with watch.watch():
                await asyncio.Event().wait()
        except StreamStalled:
            return "stalled"
        return "fine"

    async def talking() -> str:
        async with watch.watch() as watched:
            for _ in range(10):
                await asyncio.sleep(TICK_S)
                watched.progressed()
        return "fine"

    ends = await asyncio.gather(silent(), talking(), silent())

    assert list(ends) == ["stalled", "fine", "stalled"]


async def test_error_of_the_body_stays_what_it_is(watch: IdleTimeout) -> None:
    with pytest.raises(TimeoutError, match="of its own"):
        async with watch.watch():
            raise TimeoutError("of its own")


async def test_deadline_around_it_stays_a_deadline(watch: IdleTimeout) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(TICK_S), watch.watch():
            await asyncio.Event().wait()


async def test_cancellation_passes_through(watch: IdleTimeout) -> None:
    async def silent() -> None:
        async with watch.watch():
            await asyncio.Event().wait()

    task = asyncio.create_task(silent())
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_stream_that_is_over_is_watched_no_more(watch: IdleTimeout) -> None:
    async with watch.watch():
        pass

    await asyncio.sleep(1.5 * LIMIT.total_seconds())
