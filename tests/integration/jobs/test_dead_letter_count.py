"""Each job that this worker dead-letters counts once, however it came to the queue."""

import asyncio
import json
from collections.abc import Mapping

import pika

from aimicromind_worker.app.worker import Worker
from tests.integration.jobs.test_relay_poison import _LARGE_BYTES, messages_up_to
from tests.integration.stage import Stage
from tests.integration.workers import working
from tests.support.amqp import until_in_queue
from tests.support.builders import a_job
from tests.support.metrics import samples_of
from tests.support.raw import Raw, publish
from tests.support.waiting import until


def counted(worker: Worker) -> Mapping[str, float]:
    """Return the kinds of dead letters that were counted."""
    found = samples_of(worker.metrics.text().decode())
    kinds = {labels[0][1]: it for (name, labels), it in found.items() if "dead_lettered_t" in name}
    return {kind: count for kind, count in kinds.items() if count}


async def test_job_of_which_only_the_beginning_came_counts_once(stage: Stage) -> None:
    body = json.dumps({"chatId": "chat", "jobId": "large", "question": "x" * _LARGE_BYTES}).encode()
    message = Raw(body, pika.BasicProperties(delivery_mode=2), stage.names.jobs)
    async with (
        messages_up_to(stage, 2 * len(body)),
        working(stage.settings()) as running,
    ):
        await asyncio.to_thread(publish, stage.broker.port, [message])
        await until_in_queue(stage.connection, stage.names.jobs_dead, 1)

        await until(lambda: counted(running.worker))

        assert counted(running.worker) == {"too_large": 1}


async def test_job_that_expired_in_the_queue_counts_once(stage: Stage) -> None:
    async with stage.listening() as chats:
        await stage.put(a_job(), expiration=0.05)
        await until_in_queue(stage.connection, stage.names.jobs_reaped, 1)
        async with working(stage.settings()) as running:
            await chats.end_of("job")
            await until_in_queue(stage.connection, stage.names.jobs_dead, 1)

            await until(lambda: counted(running.worker))

            assert counted(running.worker) == {"expired": 1}
