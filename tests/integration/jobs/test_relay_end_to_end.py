"""What jobs come to between a real queue and a real endpoint."""

from typing import Final

from aimicromind_testing import (
    answer,
    whole_answer,
)
from tests.integration.stage import Stage
from tests.support.amqp import until_in_queue
from tests.support.builders import a_job
from tests.support.raw import put_raw

TRACE: Final = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ENDLESS: Final = answer(1_000_000, rate=50)


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


async def test_expiration_holds_for_a_nameless_job_that_is_published_again(stage: Stage) -> None:
    stage.endpoint.flow("flow", ENDLESS)
    async with stage.working() as chats:
        nameless = a_job(jobId=None)
        await put_raw(stage.broker.port, stage.names.jobs, nameless, expiration="400")
        end = await chats.end_of_only_job()
        await until_in_queue(stage.connection, stage.names.jobs_dead, 1)

    assert end["status"] == "expired"
    assert chats.inbox.bodies()[-2]["data"]["kind"] == "expired"
    await stage.endpoint.until(lambda: not stage.endpoint.live_calls)
