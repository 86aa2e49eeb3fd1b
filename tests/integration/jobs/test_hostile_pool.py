"""Whatever is published to the exchange of the pool costs no worker and no job anything."""

import json
from typing import Any

import aio_pika

from aimicromind_schemas import StatusRequest
from aimicromind_testing import answer
from tests.integration.stage import Stage
from tests.integration.workers import chats_of, working
from tests.support.amqp import Inbox
from tests.support.builders import a_job
from tests.support.hostile import HOSTILE

_TOKENS = 100
_REQUEST = StatusRequest().encode()
_ODD = (
    *(b"", b"{}", b"[]", b"\xff", b"[" * 4_000, b"x" * 200_000, b'{"status":7}'),
    json.dumps({"status": {"jobId": [1]}}).encode(),
    json.dumps({"status": {"jobId": "x" * 900}}).encode(),
    json.dumps({"turn": "next", "chatId": "chat", "jobs": []}).encode(),
    json.dumps({"cancel": {"jobId": "job"}}).encode(),
)


async def test_messages_to_the_pool_harm_nobody_and_good_requests_are_answered(
    stage: Stage,
) -> None:
    stage.endpoint.flow("flow", answer(_TOKENS, rate=20))
    full: dict[str, Any] = {"x-max-length": 0, "x-overflow": "reject-publish"}
    async with (
        stage.listening(),
        chats_of(stage.connection, stage.names) as chats,
        working(stage.settings()) as worker,
        stage.connection.channel(publisher_confirms=False) as channel,
    ):
        await stage.put(a_job())
        await chats.shows("token")
        pool = await channel.get_exchange(stage.names.pool, ensure=False)
        refusing = await channel.declare_queue(exclusive=True, arguments=full)
        unread = await channel.declare_queue(exclusive=True)
        queue = await channel.declare_queue(exclusive=True)
        inbox = Inbox()
        await queue.consume(inbox.take, no_ack=True)
        for name in (*HOSTILE.values(), "amq.gen-", stage.names.jobs):
            await pool.publish(aio_pika.Message(_REQUEST, reply_to=name), "")
        for name in ("nobody", refusing.name, unread.name):
            for _ in range(200):
                await pool.publish(aio_pika.Message(_REQUEST, reply_to=name), "")
        for body in _ODD:
            for reply_to in (None, unread.name):
                await pool.publish(aio_pika.Message(body, reply_to=reply_to), "")
        good = aio_pika.Message(
            StatusRequest("job").encode(), reply_to=queue.name, correlation_id="7"
        )
        await pool.publish(good, "")
        (report,) = await inbox.received(1)
        end = await chats.end_of("job")
        counts = worker.worker.event_counts
        harm = (counts.reconnected, counts.refused, counts.sent_again, worker.times_ready)

    assert (end["status"], end["attempts"], end["events"]) == ("completed", 1, _TOKENS + 3)
    assert harm == (0, 0, 0, 1)
    assert (report.type, report.correlation_id) == ("workerReport", "7")
    assert json.loads(report.body)["job"] == "running"
    assert len(chats.inbox.messages) == len(chats.inbox.ids)
