"""Every recorded answer goes through a worker; a plain consumer gets what the server said."""

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import Final

import pytest
import pytest_asyncio
from jsonschema import Draft202012Validator
from msgspec.structs import replace

from aimicromind_schemas import SIDE_EFFECT_EVENTS, Names
from aimicromind_schemas.journal.history import History, read_milestone
from aimicromind_testing import Call, PrivateBroker, Recording, play, recording_names
from tests.process.jobs import Job
from tests.process.recorded import FAILURES, NOT_STREAMED, recorded_job, recorded_request, said
from tests.process.stage import judge, set_up
from tests.support.checker import Seen
from tests.support.consumer import Consumer, Message, publish, read_log, read_stream
from tools.contract.places import JSON, read_folder
from tools.contract.schema_files import schema_name

pytestmark = pytest.mark.asyncio(loop_scope="module")

NAMES: Final = Names("test-recordings")
RECORDINGS: Final = recording_names()
VALIDATORS: Final = {name: Draft202012Validator(it) for name, it in read_folder(JSON).items()}
MILESTONES: Final = {"start", "retry", "error", "end", *SIDE_EFFECT_EVENTS}


@dataclass(frozen=True, slots=True)
class Run:
    """What one worker made of all recordings, each played as a flow of its own."""

    jobs: dict[str, Job]
    calls: dict[str, list[Call]]
    came: list[Message]
    copies: list[Message]
    endings: list[Message]
    log: list[Message]
    journal: list[Message]
    dead: int

    def seen(self, name: str) -> Seen:
        job = self.jobs[name]
        return judge(job, of_job(self.came, job), NAMES.events)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def run(
    broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Run]:
    async with set_up(broker, NAMES, tmp_path_factory.mktemp("recordings")) as stage:
        worker = await stage.ready_worker(IDLE_TIMEOUT_SECONDS=1, MAX_CALLS=2)
        for name in RECORDINGS:
            stage.endpoint.flow(name, play(name, pace=0), streaming=name not in NOT_STREAMED)
        with (
            stage.listen() as everything,
            Consumer(broker.url, NAMES.events, "chat.*.end") as endings,
            Consumer(broker.url) as copies,
        ):
            jobs = {
                name: recorded_job(name, number, copies.queue)
                for number, name in enumerate(RECORDINGS)
            }
            messages = [job.message for job in jobs.values()]
            publish(broker.url, NAMES.jobs, "any.key", *messages)
            for consumer in (everything, endings, copies):
                await consumer.ended(*(job.job_id for job in jobs.values()))
            # A job is parked after its end.
            await worker.logged("job.dead_lettered", count=len(FAILURES))
        calls = stage.endpoint.calls
        yield Run(
            jobs,
            {name: [call for call in calls if call.flow == name] for name in jobs},
            everything.messages,
            copies.messages,
            endings.messages,
            read_log(broker.url, NAMES.events_log),
            read_stream(broker.url, NAMES.journal),
            stage.dead_jobs(),
        )


def of_job(messages: Sequence[Message], job: Job) -> list[Message]:
    return [message for message in messages if message.event["jobId"] == job.job_id]


def named(
    events: list[tuple[str, object]], chat_id: str, calls: Sequence[Call]
) -> list[tuple[str, object]]:
    """Give metadata the chatId of the conversation, and beside it that of the call."""
    named = {"chatId": chat_id, "endpointChatId": calls[-1].chat_id}
    return [
        (name, named | data | named if name == "metadata" and isinstance(data, dict) else data)
        for name, data in events
    ]


@pytest.mark.parametrize("name", RECORDINGS)
async def test_consumer_gets_what_the_server_said(run: Run, name: str) -> None:
    recording = Recording.load(name)

    (came,) = run.seen(name).attempts.values()

    expected = named(said(recording), run.jobs[name].chat_id, run.calls[name])
    endings = 2 if name in FAILURES else 1
    relayed = [(message.name, message.data) for message in came[:-endings]]
    if expected:
        first, begun = relayed[0]
        assert first == "start"
        # It has a handle only if the worker knew the end of the partition by then.
        assert {key: begun[key] for key in begun if key != "handle"} == {
            "tags": {"recording": name},
            "redelivered": False,
            "upstream": expected[0][1],
        }
    # As text, since the order of members is compared, too.
    assert [json.dumps(event) for event in relayed[1:]] == [
        json.dumps(event) for event in expected[1:]
    ]
    assert len(relayed) == len(expected)


@pytest.mark.parametrize("name", RECORDINGS)
async def test_answer_ends_as_it_ended_at_the_server(run: Run, name: str) -> None:
    failure = FAILURES.get(name)
    spoken = [data for event, data in said(Recording.load(name)) if event == "token"]

    seen = run.seen(name)

    assert seen.end["status"] == ("failed" if failure else "completed")
    assert seen.end["text"] == "".join(str(token) for token in spoken)
    assert seen.end["attempts"] == 1
    assert seen.end["calls"] == len(run.calls[name]) == (failure.calls if failure else 1)
    assert seen.end["recovered"] is False
    assert ("error" in seen.shown(1)) == bool(failure)
    if failure is not None:
        error = seen.only("error")
        status = {} if failure.http_status is None else {"httpStatus": failure.http_status}
        assert error == {"kind": failure.kind, "message": error["message"], **status}
        assert error["message"]


@pytest.mark.parametrize("name", RECORDINGS)
async def test_endpoint_is_asked_what_the_job_asks(run: Run, name: str) -> None:
    job, recorded = run.jobs[name], recorded_request(name)

    for call in run.calls[name]:
        own_session = recorded.get("overrideConfig", {}).get("sessionId")
        override = {
            **recorded.get("overrideConfig", {}),
            "sessionId": own_session or job.chat_id,
        }
        assert call.json == {
            **recorded,
            "streaming": True,
            "chatId": call.chat_id,
            "overrideConfig": override,
        }
        trace = job.properties.get("headers", {}).get("traceparent")
        assert call.headers.get("traceparent") == trace


async def test_no_two_calls_share_a_chat_at_the_endpoint(run: Run) -> None:
    calls = [call for calls in run.calls.values() for call in calls]
    chats = {call.chat_id for call in calls}

    assert len(chats) == len(calls)
    assert chats.isdisjoint(job.chat_id for job in run.jobs.values())


async def test_event_log_holds_every_event(run: Run) -> None:
    assert run.came
    # Each partition has an order of its own.
    for chat in {message.routing_key.rpartition(".")[0] for message in run.came}:
        assert of_chat(run.log, chat) == of_chat(run.came, chat)
    assert len(run.log) == len(run.came)


@pytest.mark.parametrize("name", RECORDINGS)
async def test_journal_holds_what_a_pool_must_remember_and_no_text(run: Run, name: str) -> None:
    records = of_job(run.journal, run.jobs[name])
    told = of_job([message for message in run.came if message.name in MILESTONES], run.jobs[name])

    of_events = replace(history_of(told), message="")
    known = history_of(records)

    # The record of an `end` is older than the `end`.
    assert known.ended_at is not None
    assert known == replace(of_events, ended_at=known.ended_at)
    assert {(it.name, it.properties["message_id"]) for it in records} <= {
        (it.name, it.properties["message_id"]) for it in of_job(run.came, run.jobs[name])
    }
    assert all(len(json.dumps(it.data)) < 64 for it in records)


def history_of(messages: Sequence[Message]) -> History:
    milestones = [read_milestone(json.dumps(message.event).encode()) for message in messages]
    return reduce(History.after, filter(None, milestones), History())


async def test_one_binding_gets_every_ending(run: Run) -> None:
    assert len(run.endings) == len(RECORDINGS)
    assert published(run.endings) == published([m for m in run.came if m.name == "end"])


async def test_reply_to_gets_an_equal_copy_of_each_event(run: Run) -> None:
    for job in run.jobs.values():
        copies = of_job(run.copies, job)

        assert [(copy.body, copy.properties) for copy in copies] == [
            (message.body, message.properties) for message in of_job(run.came, job)
        ]
    assert {copy.routing_key for copy in run.copies} == {
        job.properties["reply_to"] for job in run.jobs.values()
    }


async def test_each_event_is_of_its_schema(run: Run) -> None:
    for message in run.came:
        for name in (schema_name(message.name), "event"):
            assert VALIDATORS[name].is_valid(message.event), (name, message.body)


async def test_failed_jobs_are_kept_among_the_dead(run: Run) -> None:
    assert run.dead == len(FAILURES)


def of_chat(messages: Sequence[Message], chat: str) -> list[tuple[str, str, object, bytes]]:
    return published([m for m in messages if m.routing_key.rpartition(".")[0] == chat])


def published(messages: Sequence[Message]) -> list[tuple[str, str, object, bytes]]:
    return [(m.exchange, m.routing_key, m.properties, m.body) for m in messages]
