"""What the journal says of a conversation's calls, whoever else reads it meanwhile."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any, cast

import pytest

from aimicromind_worker.amqp.jobs import journal as journal_module
from aimicromind_worker.amqp.jobs.journal import Journal, JournalMemory
from aimicromind_worker.core.job.open_run import OpenRun

_NOW = datetime.now(UTC)
_RUN = OpenRun("other", "chat", "flow", 1, "m0", _NOW + timedelta(minutes=10))


class _Stream:
    """A stream that shows its messages once it is let."""

    def __init__(self, *runs: OpenRun) -> None:
        self.bodies = [run.encode() for run in runs]
        self.readings: list[datetime] = []
        self.shows = asyncio.Event()

    async def read(self, *arguments: Any) -> int:  # noqa: ANN401 - as the reader has them
        self.readings.append(arguments[3])
        take = cast("Callable[[Any], None]", arguments[-1])
        await self.shows.wait()
        await asyncio.sleep(0.01)
        for body in self.bodies:
            take(SimpleNamespace(body=body))
        return len(self.bodies)

    async def nothing_removed(self, *_: object) -> None:
        return None


def _journal(monkeypatch: pytest.MonkeyPatch, stream: _Stream) -> Journal:
    monkeypatch.setattr(journal_module, "read_up_to_now", stream.read)
    monkeypatch.setattr(journal_module, "time_of_first", stream.nothing_removed)
    return Journal(cast("Any", None), cast("Any", None), "journal", JournalMemory())


async def test_call_that_may_run_on_is_known_although_somebody_reads_older_history(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = _Stream(_RUN)
    journal = _journal(monkeypatch, stream)
    asks = asyncio.create_task(journal.open_runs("job", "chat", _NOW))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    older = asyncio.create_task(journal.look_up("older", _NOW - timedelta(hours=1)))
    await asyncio.sleep(0)
    stream.shows.set()

    async with asyncio.timeout(5):
        assert (await asks).last == _RUN
        await older
    assert len(stream.readings) == 2


async def test_history_of_a_job_goes_back_as_far_as_was_asked_though_its_calls_are_asked_for_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stream = _Stream(_RUN)
    journal = _journal(monkeypatch, stream)
    stream.shows.set()
    long_ago = _NOW - timedelta(hours=1)

    async with asyncio.timeout(5):
        await asyncio.gather(
            journal.look_up("job", long_ago), journal.open_runs("job", "chat", _NOW)
        )

    assert stream.readings[0] < long_ago
