"""Two hundred chats at once on one worker: every consumer gets every event of every one."""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tests.process.jobs import a_job
from tests.process.stage import Stage
from tests.support.consumer import Message, read_log
from tests.support.processes import serving_endpoint

JOBS: Final = 200
TOKENS: Final = 60
TOKENS_A_SECOND: Final = 20


async def test_nothing_is_lost_when_two_hundred_chats_stream_at_once(
    stage: Stage, record_testsuite_property: Callable[[str, object], None]
) -> None:
    jobs = [a_job("load", question=f"n={TOKENS} rate={TOKENS_A_SECOND}") for _ in range(JOBS)]
    async with serving_endpoint() as url:
        await stage.ready_worker(BASE_URL=url, CONCURRENCY=JOBS)
        with stage.listen() as consumer:
            submitted = time.monotonic()
            stage.submit(*jobs)
            every = await stage.ended(consumer, *jobs, within_s=40)
            took_s = time.monotonic() - submitted
            await stage.stop_workers()
    logged = read_log(stage.broker.url, stage.names.events_log)

    whole = "".join(f"tok{number} " for number in range(TOKENS))
    for seen in every:
        assert seen.shown(1) == ["start", "token", "metadata", "end"]
        assert (seen.end["status"], seen.end["text"]) == ("completed", whole)
        assert (seen.end["attempts"], seen.end["calls"]) == (1, 1)
        assert seen.end["events"] == TOKENS + 3
    assert len({message.properties["message_id"] for message in consumer.messages}) == JOBS * (
        TOKENS + 3
    )
    assert _by_chat(logged) == _by_chat(consumer.messages)
    assert stage.jobs_left() == stage.dead_jobs() == 0
    longest_s = max(seen.end["durationSeconds"] for seen in every)
    record_testsuite_property("200 chats of 3 s, s", round(took_s, 3))
    record_testsuite_property("longest of 200 chats of 3 s, s", round(longest_s, 3))


def _by_chat(messages: Sequence[Message]) -> Mapping[str, list[bytes]]:
    chats = defaultdict[str, list[bytes]](list)
    for message in messages:
        chats[message.event["chatId"]].append(message.body)
    return chats
