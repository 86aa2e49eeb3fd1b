from typing import Final

import pytest
from aio_pika import Message

from aimicromind_testing import (
    Cut,
    Recording,
    Script,
    Stall,
    answer,
    error_answer,
    play,
    send,
    too_many_requests,
    whole_answer,
)
from tests.integration.stage import Stage
from tests.support.amqp import Inbox, in_queue, reading, until_in_queue
from tests.support.builders import a_job
from tests.support.raw import put_raw

TRACE: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ENDLESS: Final = answer(1_000_000, rate=50)
TOOLS: Final = send("usedTools", [{"tool": "mail", "toolInput": {}, "toolOutput": "sent"}])


@pytest.mark.parametrize(
    "name",
    [
        "a-conversation",
        "a-unicode",
        "a-big",
        "b-toolagent",
        "c-retrieval",
        "d-agentflow-agent",
        "d-hitl-1-ask",
    ],
)
async def test_recorded_answer_is_published_as_it_was(
    stage: Stage,
    name: str,
) -> None:
    recorded = Recording.load(name).frames()
    metadata = next(frame["data"] for frame in recorded if frame["event"] == "metadata")
    stage.endpoint.flow("flow", play(name, pace=0))
    async with stage.working() as chats:
        await stage.put(a_job(question=metadata.get("question") or "Why?"))
        end = await chats.end_of("job")

    said = [(event["event"], event["data"]) for event in chats.of("job")]
    assert said[0][0] == "start"
    named = {"chatId": "chat", "endpointChatId": stage.endpoint.calls[0].chat_id}
    expected = [
        (it["event"], it["data"] | named if it["event"] == "metadata" else it["data"])
        for it in recorded
        if it["event"] not in {"start", "end"}
    ]
    assert said[1:-1] == expected
    assert (end["status"], end["attempts"], end["calls"]) == ("completed", 1, 1)


async def test_completed_job_leaves_nothing_in_any_queue(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer())
    async with stage.working() as chats:
        await stage.put(a_job())
        await chats.end_of("job")

    await until_in_queue(stage.connection, stage.names.jobs, 0)
    assert await in_queue(stage.connection, stage.names.jobs_dead) == 0


async def test_event_log_replays_the_chat_to_those_who_come_late(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(3))
    async with stage.working() as chats:
        await stage.put(a_job())
        await chats.end_of("job")

        async with reading(stage.connection, stage.names.events_log_stream()) as log:
            await log.received(len(chats.inbox.messages))

    assert log.bodies() == chats.inbox.bodies()


async def test_answer_of_a_flow_that_cannot_stream_looks_streamed(stage: Stage) -> None:
    stage.endpoint.flow(
        "flow", whole_answer("all", {"usedTools": [{"tool": "sum"}]}), streaming=False
    )
    async with stage.working() as chats:
        await stage.put(a_job())
        end = await chats.end_of("job")

    shown = [name for _, name in chats.shown("job")]
    assert shown == ["start", "token", "usedTools", "metadata", "end"]
    assert (end["status"], end["text"]) == ("completed", "all")


async def test_jobs_of_one_chat_have_endpoint_chats_of_their_own_and_one_session(
    stage: Stage,
) -> None:
    stage.endpoint.flow("flow", answer(3))
    async with stage.working() as chats:
        for number in range(4):
            await stage.put(a_job(jobId=f"job-{number}", chatId="our chat"))
        for number in range(4):
            assert (await chats.end_of(f"job-{number}"))["status"] == "completed"

    assert len({call.chat_id for call in stage.endpoint.calls}) == 4
    assert "our chat" not in {call.chat_id for call in stage.endpoint.calls}
    assert {call.session_id for call in stage.endpoint.calls} == {"our chat"}
    assert {message.routing_key for message in chats.inbox.messages} == {
        f"chat.our%20chat.{name}" for name in ("start", "token", "metadata", "end")
    }


async def test_many_jobs_at_once_are_each_whole(stage: Stage) -> None:
    count = 60
    stage.endpoint.flow("flow", answer(30, after=[TOOLS]))
    async with stage.working() as chats:
        for number in range(count):
            job = a_job(jobId=f"job-{number}", chatId=f"chat-{number}")
            await stage.put(job)
        ends = [await chats.end_of(f"job-{number}") for number in range(count)]

    assert {end["status"] for end in ends} == {"completed"}
    assert {end["events"] for end in ends} == {34}
    assert len(stage.endpoint.calls) == count


async def test_what_the_message_says_is_passed_on(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(1))
    async with stage.working(api_key="s3cr3t") as chats:
        body = a_job(jobId=None, chatId=None, tags={"tenant": "a"}, unknown={"kept": True})
        headers = {"traceparent": TRACE, "tracestate": "v=1"}
        await stage.put(body, message_id="named", correlation_id="asked", headers=headers)
        end = await chats.end_of("named")

    assert end["tags"] == {"tenant": "a"}
    assert {event["chatId"] for event in chats.of("named")} == {"named"}
    assert {message.correlation_id for message in chats.inbox.messages} == {"asked"}
    assert {message.headers["traceparent"] for message in chats.inbox.messages} == {TRACE}
    [call] = stage.endpoint.calls
    assert (call.headers["traceparent"], call.headers["tracestate"]) == (TRACE, "v=1")
    assert call.headers["authorization"] == "Bearer s3cr3t"
    assert call.json["unknown"] == {"kept": True}


async def test_client_with_direct_reply_to_gets_a_copy_of_each_event(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(2))
    async with (
        stage.working() as chats,
        stage.connection.channel() as channel,
    ):
        replies, copies = await channel.get_queue("amq.rabbitmq.reply-to", ensure=False), Inbox()
        await replies.consume(copies.take, no_ack=True)
        job = Message(a_job(), reply_to="amq.rabbitmq.reply-to")
        await channel.default_exchange.publish(job, stage.names.jobs)
        await chats.end_of("job")
        await copies.received(5)

    assert copies.bodies() == chats.inbox.bodies()


@pytest.mark.parametrize(
    ("script", "status", "kind"),
    [
        (
            error_answer("Error: predictionsServices.buildChatflow - Unauthorized"),
            "failed",
            "unauthorized",
        ),
        (error_answer("400 bad request", tokens=2), "failed", "bad_request"),
        (answer(2, after=[TOOLS]).cut(after_sends=4), "failed", "repeat_unsafe"),
    ],
)
async def test_failed_job_ends_with_its_error_and_is_parked(
    stage: Stage,
    script: Script,
    status: str,
    kind: str,
) -> None:
    stage.endpoint.flow("flow", script)
    async with stage.working() as chats:
        await stage.put(a_job())
        end = await chats.end_of("job")
        await until_in_queue(stage.connection, stage.names.jobs_dead, 1)

    assert (end["status"], end["calls"]) == (status, 1)
    assert [error["kind"] for error in chats.data("job", "error")] == [kind]
    assert len(stage.endpoint.calls) == 1


async def test_unknown_flow_fails_without_a_call(stage: Stage) -> None:
    async with stage.working() as chats:
        await stage.put(a_job(chatflowId="missing"))
        end = await chats.end_of("job")

    assert (end["status"], end["calls"]) == ("failed", 0)
    assert chats.data("job", "error")[0]["kind"] == "chatflow_not_found"
    assert stage.endpoint.calls == []


async def test_call_that_fails_before_output_is_repeated_unseen(stage: Stage) -> None:
    stage.endpoint.flow("flow", too_many_requests("0"), answer(2))
    async with stage.working() as chats:
        await stage.put(a_job())
        end = await chats.end_of("job")

    assert (end["status"], end["attempts"], end["calls"]) == ("completed", 1, 2)
    assert chats.data("job", "retry") == []
    assert len({call.chat_id for call in stage.endpoint.calls}) == 2


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (answer(3).cut(after_sends=3), "stream_cut"),
        (answer(3).cut(Stall(), after_sends=3), "stream_stalled"),
        (answer(3).cut(Cut(), after_sends=5), "stream_cut"),
    ],
)
async def test_attempt_that_broke_off_is_announced_and_followed_by_another(
    stage: Stage,
    script: Script,
    kind: str,
) -> None:
    stage.endpoint.flow("flow", script, answer(2))
    async with stage.working(idle_timeout_seconds=0.4) as chats:
        await stage.put(a_job())
        end = await chats.end_of("job")

    assert (end["status"], end["attempts"], end["calls"]) == ("completed", 2, 2)
    assert end["text"] == "tok0 tok1 "
    [retry] = chats.data("job", "retry")
    assert (retry["kind"], retry["nextAttempt"]) == (kind, 2)
    assert not stage.endpoint.live_calls


@pytest.mark.parametrize("fields", [{}, {"timeoutSeconds": 1.5}])
async def test_attempt_that_takes_too_long_is_broken_off(
    stage: Stage,
    fields: dict[str, object],
) -> None:
    stage.endpoint.flow("flow", ENDLESS, answer(2))
    limit = 20.0 if fields else 1.5
    async with stage.working(attempt_timeout_seconds=limit) as chats:
        await stage.put(a_job(**fields))
        end = await chats.end_of("job")

    assert (end["status"], end["attempts"]) == ("completed", 2)
    assert chats.data("job", "retry")[0]["kind"] == "timeout"


@pytest.mark.parametrize("limit", ["lifetime", "expiration", "expiration of a nameless job"])
async def test_job_whose_time_runs_out_expires(
    stage: Stage,
    limit: str,
) -> None:
    stage.endpoint.flow("flow", ENDLESS)
    lifetime = 0.4 if limit == "lifetime" else 60.0
    async with stage.working(job_lifetime_seconds=lifetime) as chats:
        match limit:
            case "lifetime":
                await stage.put(a_job())
            case "expiration":
                await stage.put(a_job(), expiration=0.4)
            case _:
                await put_raw(
                    stage.broker.port, stage.names.jobs, a_job(jobId=None), expiration="400"
                )
        end = await chats.end_of_only_job()
        await until_in_queue(stage.connection, stage.names.jobs_dead, 1)

    assert end["status"] == "expired"
    assert chats.inbox.bodies()[-2]["data"]["kind"] == "expired"
    await stage.endpoint.until(lambda: not stage.endpoint.live_calls)
