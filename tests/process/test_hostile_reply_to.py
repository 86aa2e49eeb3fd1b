"""Jobs whose `reply_to` has the broker close the connection: only their own copies are lost."""

import pytest

from aimicromind_testing import answer
from tests.process.jobs import a_job
from tests.process.neighbours import long_neighbours
from tests.process.stage import Stage
from tests.support.consumer import Consumer
from tests.support.hostile import HOSTILE


@pytest.mark.timeout(180)
async def test_reply_to_that_closes_connections_costs_the_copies_of_its_own_job(
    stage: Stage,
) -> None:
    stage.endpoint.flow("flow", answer(5))
    stage.endpoint.flow("slow", answer(250, rate=25))
    await stage.ready_workers(2, CONCURRENCY=32)
    with stage.listen() as consumer, Consumer(stage.broker.url) as replies:
        honest = a_job("slow", {"reply_to": replies.queue})
        poisons = [a_job(properties={"reply_to": name}) for name in HOSTILE.values()]
        async with long_neighbours(stage, consumer, seconds=10):
            stage.submit(honest)
            await replies.saw(honest.job_id, "token")
            # Each alone, then all at once.
            for poison in poisons:
                stage.submit(poison)
                await consumer.ended(poison.job_id)
            again = [a_job(properties=poison.properties) for poison in poisons]
            stage.submit(*again)
            every = await stage.ended(consumer, *poisons, *again, within_s=40)
            (seen,) = await stage.ended(consumer, honest, within_s=40)
            await replies.ended(honest.job_id, within_s=40)
        closed = [it for w in stage.workers.running for it in w.log("publishing.lost", of="copies")]
        await stage.stop_workers()

    assert {(it.end["status"], it.end["attempts"], it.end["calls"]) for it in every} == {
        ("completed", 1, 1)
    }
    assert list(seen.attempts) == [1]
    assert closed, "no name was hostile to this broker"
    # The same, in the same order, some of them twice.
    copies = replies.job(honest.job_id)
    first = {copy.properties["message_id"]: copy.body for copy in copies}
    assert first == {it.properties["message_id"]: it.body for it in seen.attempts[1]}
    assert list(first) == [it.properties["message_id"] for it in seen.attempts[1]]
    assert (stage.jobs_left(), stage.dead_jobs()) == (0, 0)
