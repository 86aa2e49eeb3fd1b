"""A journal that was cut, that shows nothing for a while, or whose clock is not ours."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from structlog.testing import capture_logs

from aimicromind_schemas.client.streams import journal_follower, journal_search
from aimicromind_schemas.client.streams import reader as stream_reader
from aimicromind_schemas.client.streams.markers import time_of_first
from aimicromind_schemas.journal.history import StoredEnd
from aimicromind_testing import answer
from aimicromind_worker.amqp.declaring import declare
from aimicromind_worker.amqp.jobs.cancel_listener import CancelListener
from aimicromind_worker.app.broker import needed_topology
from tests.integration.journals import a_journal, live_journal
from tests.integration.outgoing import publishing_at
from tests.integration.stage import Stage
from tests.integration.workers import working
from tests.support.builders import a_job
from tests.support.consumer import cut, give_back_unsettled, publish
from tests.support.silent_stream import SilentStream
from tests.support.waiting import until

HOUR = timedelta(hours=1)
SMALL = 1_000_000


@pytest_asyncio.fixture
async def small(stage: Stage) -> str:
    """A journal that keeps little."""
    await declare(stage.connection, needed_topology(stage.settings(journal_max_bytes=SMALL)))
    return stage.names.journal


@pytest.mark.parametrize(
    ("age", "is_whole"),
    [
        (timedelta(), True),
        (1.5 * HOUR, True),
        (2 * HOUR, False),
        (30 * HOUR, False),
        (None, False),
    ],
)
async def test_journal_that_was_cut_says_for_which_jobs_it_reaches_back(
    age: timedelta | None,
    is_whole: bool,  # noqa: FBT001 - given by pytest
    stage: Stage,
    small: str,
) -> None:
    now = datetime.now(UTC)
    await asyncio.to_thread(cut, stage.broker.url, small, now - 2 * HOUR)
    async with publishing_at(stage.broker.url, stage.names) as way:
        journal = a_journal(stage.connection, way, stage.names)

        known = await journal.look_up("job", None if age is None else now - age)

    assert known.is_whole is is_whole


async def test_journal_from_which_nothing_was_removed_reaches_back_for_ever(stage: Stage) -> None:
    async with stage.listening(), publishing_at(stage.broker.url, stage.names) as way:
        journal = a_journal(stage.connection, way, stage.names)

        asked = [
            await journal.look_up("job", since)
            for since in (None, datetime(2000, 1, 1, tzinfo=UTC))
        ]
        first = await time_of_first(stage.connection, stage.names.journal)

    assert [each.is_whole for each in asked] == [True, True]
    assert first is None


async def test_what_was_read_before_it_was_removed_is_still_known(stage: Stage, small: str) -> None:
    now = datetime.now(UTC)
    async with (
        publishing_at(stage.broker.url, stage.names) as way,
        live_journal(stage.connection, way, stage.names) as journal,
    ):
        before = await journal.look_up("job", now - HOUR / 2)
        await asyncio.to_thread(cut, stage.broker.url, small, now)
        after = await journal.look_up("job", now - HOUR / 2)

    assert (before.is_whole, after.is_whole) == (True, True)


async def test_journal_that_is_silent_costs_the_jobs_that_need_it_a_wait_and_nobody_else(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (stream_reader, journal_follower):
        monkeypatch.setattr(module, "_SILENCE_S", 1.0)
    monkeypatch.setattr(stream_reader, "_FIRST_WITHIN_S", 0.5)
    stage.endpoint.flow("flow", answer(3))
    async with stage.listening() as chats:
        await stage.put(a_job(jobId="again", chatId="again"))
        give_back_unsettled(stage.broker.url, stage.names.jobs)
        async with SilentStream(stage.broker.port, stage.names.journal) as silencer:
            with capture_logs() as logs:
                async with working(stage.settings(amqp_url=silencer.url)) as running:
                    await stage.put(a_job(jobId="new", chatId="new"))
                    new = await chats.end_of("new")
                    await until(lambda: "job.history_unknown" in [it["event"] for it in logs])
                    silencer.is_silent = False
                    again = await chats.end_of("again")

    assert (new["status"], new["attempts"]) == ("completed", 1)
    assert (again["status"], again["attempts"], again["calls"]) == ("completed", 2, 1)
    assert running.times_ready == 1


async def test_time_beyond_the_end_of_a_stream_reads_all_of_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if the clock were ahead of the broker's by so much.
    monkeypatch.setattr(journal_search, "CLOCK_SLACK", -timedelta(minutes=5))
    stage.endpoint.flow("flow", answer(2))
    async with stage.working() as chats, publishing_at(stage.broker.url, stage.names) as way:
        await stage.put(a_job())
        await chats.end_of("job")
        journal = a_journal(stage.connection, way, stage.names)

        known = await journal.look_up("job", datetime.now(UTC))

    assert known.status == "completed"


@pytest.mark.parametrize("ahead", [timedelta(minutes=10), timedelta(minutes=40)])
async def test_end_is_found_though_its_time_is_of_a_clock_that_is_ahead(
    ahead: timedelta, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_reader, "_FIRST_WITHIN_S", 0.5)
    stage.endpoint.flow("flow", answer(2))
    async with stage.working() as chats, publishing_at(stage.broker.url, stage.names) as way:
        await stage.put(a_job())
        await chats.end_of("job")
        journal = a_journal(stage.connection, way, stage.names)

        stored = await journal.end_of("job", datetime.now(UTC) + ahead)

    assert stored == StoredEnd(chats.inbox.messages[-1].body)


@pytest.mark.parametrize(
    ("age", "is_removed"),
    [(HOUR, False), (3 * HOUR, True), (timedelta(days=700_000), True), (None, True)],
)
async def test_endings_that_were_cut_say_whether_an_end_may_have_been_removed(
    age: timedelta | None,
    is_removed: bool,  # noqa: FBT001 - given by pytest
    stage: Stage,
    small: str,
) -> None:
    now = datetime.now(UTC)
    await asyncio.to_thread(cut, stage.broker.url, stage.names.endings, now - 2 * HOUR)
    async with publishing_at(stage.broker.url, stage.names) as way:
        journal = a_journal(stage.connection, way, stage.names)

        stored = await journal.end_of("job", None if age is None else now - age)

    assert stored == StoredEnd(None, is_removed=is_removed)


async def test_cancel_requests_are_known_to_a_worker_whose_clock_is_ahead(stage: Stage) -> None:
    ahead = timedelta(minutes=20)
    got: list[object] = []
    async with stage.listening(), publishing_at(stage.broker.url, stage.names) as way:
        cancel = b'{"cancel":{"jobId":"job"}}'
        await asyncio.to_thread(publish, stage.broker.url, stage.names.control, "", (cancel, {}))
        since = datetime.now(UTC) + ahead
        async with CancelListener.open(
            stage.connection, way.publishing, stage.names, got.append, since
        ):
            pass

    assert len(got) == 1
