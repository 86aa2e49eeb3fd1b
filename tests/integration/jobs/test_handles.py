"""The handle that a worker tells leads to the job's events in the event log."""

import pytest
from yarl import URL

from aimicromind_schemas import Names
from aimicromind_schemas.client.past.log_place import place_in_log
from aimicromind_schemas.client.past.log_reading import LogReading
from aimicromind_schemas.client.transport.socket_transport import GuardedConnection
from aimicromind_schemas.client.wanted import Wanted
from aimicromind_testing import answer
from tests.integration.stage import Stage
from tests.integration.workers import chats_of, working
from tests.support.builders import a_job


async def _read(url: str, names: Names, handle: str, job_id: str) -> list[str]:
    reads = GuardedConnection(URL(url), "reads", None)
    await reads.connect()
    async with reads:
        place = await place_in_log(reads, names, None, handle=handle)
        reading = await LogReading.open(reads, place, Wanted.of(None, job_id))
        return [event.event async for event in reading.events()]


@pytest.mark.parametrize("partitions", [1, 4])
async def test_handle_leads_to_all_events_of_the_job(stage: Stage, partitions: int) -> None:
    stage.endpoint.flow("flow", answer(3))
    settings = stage.settings(events_log_partitions=partitions)
    async with working(settings), chats_of(stage.connection, stage.names) as chats:
        for number in range(2):
            await stage.put(a_job(jobId=f"before-{number}", chatId="chat"))
            await chats.end_of(f"before-{number}")
        await stage.put(a_job(chatId="chat"))
        end = await chats.end_of("job")
    start, *_ = chats.of("job")

    assert start["data"]["handle"] == end["handle"]
    assert await _read(stage.broker.url, stage.names, end["handle"], "job") == [
        name for _, name in chats.shown("job")
    ]
