"""What the pool remembers of a job: by the fake of the port, and by a real journal."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest
import pytest_asyncio

from aimicromind_schemas import EndStatus, Names
from aimicromind_schemas.client.streams import journal_follower
from aimicromind_schemas.client.streams import reader as stream_reader
from aimicromind_schemas.journal.history import History, HistoryUnknown, StoredEnd
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.connection import connect
from aimicromind_worker.jobs.ports import JobHistory
from tests.integration.journals import a_journal
from tests.integration.outgoing import publishing_at
from tests.integration.speaker import Speaker
from tests.support.amqp import BEAT
from tests.support.fakes import FakeJournal
from tests.support.silent_stream import SilentStream

ENDED = {"status": "completed", "attempts": 1, "calls": 1, "text": "Once"}


@dataclass
class Memory:
    """The history of jobs.

    Attributes:
        ends: Has a job run and end, and returns the body of its end.
        silence: Has the history show nothing.
    """

    history: JobHistory
    ends: Callable[[str], Awaitable[bytes]]
    silence: Callable[[], None]


@asynccontextmanager
async def fake_memory() -> AsyncIterator[Memory]:
    remembers: dict[str, History] = {}
    ends: dict[str, bytes] = {}
    journal = FakeJournal(remembers, ends, reaches_back=True)

    async def end(job_id: str) -> bytes:
        remembers[job_id] = History(last_attempt=1, calls=1, status=EndStatus.COMPLETED)
        ends[job_id] = job_id.encode()
        return ends[job_id]

    def silence() -> None:
        journal.is_silent = True

    yield Memory(journal, end, silence)


@asynccontextmanager
async def real_memory(broker: PrivateBroker, names: Names) -> AsyncIterator[Memory]:
    async with (
        SilentStream(broker.port, names.journal) as between,
        connect([between.url], "test", BEAT) as reading,
        publishing_at(broker.url, names) as way,
    ):
        between.is_silent = False

        async def end(job_id: str) -> bytes:
            speaker = Speaker(way.publisher, job_id)
            speaker.record("start")
            speaker.say("start", {"tags": {}, "redelivered": False, "upstream": None})
            speaker.record("end", {"status": "completed"})
            ended = speaker.say("end", ENDED)
            await speaker.attempt_publisher.confirmed()
            return ended.body

        def silence() -> None:
            between.is_silent = True

        yield Memory(a_journal(reading, way, names), end, silence)


@pytest_asyncio.fixture(params=["fake", "real"])
async def memory(
    request: pytest.FixtureRequest, broker: PrivateBroker, declared: Names
) -> AsyncIterator[Memory]:
    made = fake_memory() if request.param == "fake" else real_memory(broker, declared)
    async with made as ready:
        yield ready


async def test_nothing_is_known_of_an_unknown_job(memory: Memory) -> None:
    await memory.ends("other")

    assert await memory.history.look_up("job", None) == History()
    assert await memory.history.end_of("job", None) == StoredEnd(None)


async def test_end_is_found_byte_for_byte(memory: Memory) -> None:
    body = await memory.ends("job")

    known = await memory.history.look_up("job", None)

    assert (known.last_attempt, known.calls, known.status) == (1, 1, EndStatus.COMPLETED)
    assert await memory.history.end_of("job", known.ended_at) == StoredEnd(body)


async def test_silent_history_is_no_empty_one(
    memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (stream_reader, journal_follower):
        monkeypatch.setattr(module, "_SILENCE_S", 0.3)
    monkeypatch.setattr(stream_reader, "_FIRST_WITHIN_S", 0.3)
    memory.silence()

    with pytest.raises(HistoryUnknown):
        await memory.history.look_up("job", None)
