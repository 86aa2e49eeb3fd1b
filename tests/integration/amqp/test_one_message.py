"""Whatever is raised while one message is read: it costs that message alone."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from aio_pika import Message

from aimicromind_schemas import CancelRequest, JobCancel
from aimicromind_schemas.client.streams.markers import read_up_to_now
from aimicromind_schemas.client.transport.stream_frames import StreamMessage
from aimicromind_testing import answer
from aimicromind_worker.amqp.jobs import delivery, headers
from aimicromind_worker.amqp.jobs.cancel_listener import CancelListener
from aimicromind_worker.core.job.message_facts import MessageFacts
from tests.integration.stage import Stage
from tests.integration.wire import Wire
from tests.support.amqp import WITHIN_S, until_in_queue
from tests.support.builders import a_job


class Fault(Exception):
    """A fault of our own."""


async def test_job_whose_properties_fail_to_be_read_is_rejected_alone(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.endpoint.flow("flow", answer(3))
    facts_of = headers.facts_of

    def failing(message: object) -> MessageFacts:
        facts = facts_of(message)  # type: ignore[arg-type]
        if facts.correlation_id == "odd":
            raise Fault
        return facts

    monkeypatch.setattr(delivery, "facts_of", failing)
    async with stage.working() as chats:
        await stage.put(a_job(jobId="odd"), correlation_id="odd")
        await stage.put(a_job(jobId="next"))
        odd, following = await chats.end_of("odd"), await chats.end_of("next")
        await until_in_queue(stage.connection, stage.names.jobs_dead, 1)

    assert odd["status"] == "rejected"
    assert [it["kind"] for it in chats.data("odd", "error")] == ["invalid_job"]
    assert (following["status"], following["attempts"]) == ("completed", 1)


async def test_request_that_fails_to_be_taken_costs_no_other(wire: Wire) -> None:
    taken: asyncio.Queue[CancelRequest] = asyncio.Queue()

    def take(request: CancelRequest) -> None:
        if request == JobCancel("odd"):
            raise Fault
        taken.put_nowait(request)

    since = datetime.now(UTC) - timedelta(minutes=1)
    async with wire.publishing() as way:
        await way.publishing.publish(Message(JobCancel("odd").encode()), wire.names.control, "")
        async with CancelListener.open(wire.connection, way.publishing, wire.names, take, since):
            for job_id in ("odd", "next"):
                request = Message(JobCancel(job_id).encode())
                await way.publishing.publish(request, wire.names.control, "")
            came = await asyncio.wait_for(taken.get(), WITHIN_S)

    assert came == JobCancel("next")


async def test_message_of_a_stream_that_fails_to_be_taken_costs_no_other(wire: Wire) -> None:
    taken: list[bytes] = []

    def take(message: StreamMessage) -> None:
        if message.body == b"odd":
            raise Fault
        taken.append(message.body)

    async with wire.publishing() as way:
        for body in (b"first", b"odd", b"last"):
            await way.publishing.publish(Message(body), "", wire.names.control_log)
        await read_up_to_now(
            wire.connection, way.publishing.publish, wire.names.control_log, None, take
        )

    assert taken == [b"first", b"last"]
