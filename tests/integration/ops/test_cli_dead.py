"""The `dead` commands on jobs that a real worker parked."""

import json
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import pytest
from aio_pika import Message

from aimicromind_schemas import FailureKind, PredictionJob
from aimicromind_testing import answer, error_answer
from aimicromind_worker.amqp.declaring import declare
from aimicromind_worker.app.broker import needed_topology
from tests.integration.job_bodies import jobs_at
from tests.integration.ops.test_cli import Ran, run, run_with, settings_for
from tests.integration.stage import Stage
from tests.integration.workers import working
from tests.support.amqp import first_in, in_queue, until_in_queue
from tests.support.consumer import publish
from tests.support.proxy import Proxy


@pytest.fixture
def settings(stage: Stage) -> Mapping[str, str]:
    return settings_for(stage.broker, stage.names)


def lines(ran: Ran) -> list[dict[str, Any]]:
    """Read what a command wrote for programs."""
    assert ran.exit_code == 0, ran.err
    return [json.loads(line) for line in ran.out.splitlines()]


async def parked(stage: Stage, *jobs: PredictionJob) -> None:
    """Have a worker fail these jobs, one after the other."""
    stage.endpoint.flow("refused", error_answer("Unauthorized"))
    async with working(stage.settings(concurrency=1)):
        for count, job in enumerate(jobs, start=1):
            await stage.put(job.encode())
            await until_in_queue(stage.connection, stage.names.jobs_dead, count)


def a_refused_job(job_id: str, chat_id: str | None = None) -> PredictionJob:
    return PredictionJob(chatflow_id="refused", question="Why?", job_id=job_id, chat_id=chat_id)


async def test_parked_jobs_are_listed_and_stay(stage: Stage, settings: Mapping[str, str]) -> None:
    await parked(stage, a_refused_job("first"), a_refused_job("second", "chat"))

    twice = [lines(await run("dead", "list", "--json", **settings)) for _ in range(2)]
    plain = await run("dead", "list", **settings)

    assert twice[0] == twice[1]
    assert [it["jobId"] for it in twice[0]] == ["first", "second"]
    assert [it["chatId"] for it in twice[0]] == ["first", "chat"]
    assert {it["kind"] for it in twice[0]} == {"unauthorized"}
    assert "unauthorized: 2" in plain.err


async def test_list_shows_short_ids_that_all_commands_take(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    job_ids = [str(uuid4()) for _ in range(3)]
    await parked(stage, *(a_refused_job(job_id) for job_id in job_ids))

    plain = await run("dead", "list", **settings)
    shorts = [line.split()[0] for line in plain.out.splitlines() if not line.startswith(" ")]
    shown = lines(await run("dead", "show", shorts[0], **settings))
    purged = lines(await run("dead", "purge", "--job", shorts[1], "--yes", "--json", **settings))
    replayed = lines(await run("dead", "replay", "--job", shorts[2], "--json", **settings))

    assert [it[:8] for it in job_ids] == shorts
    assert [it["jobId"] for it in (*shown, *purged, *replayed)] == job_ids


async def test_short_id_of_several_jobs_is_refused_with_all_of_them(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    await parked(stage, a_refused_job("order-1"), a_refused_job("order-2"))

    ran = [
        await run("dead", *command, **settings)
        for command in (("show", "ord"), ("purge", "--job", "order", "--yes"))
    ]

    assert [it.exit_code for it in ran] == [1, 1]
    assert all("order-1, order-2" in it.err for it in ran)
    assert len(lines(await run("dead", "list", "--json", **settings))) == 2


async def test_list_shows_two_lines_for_each_with_the_reason(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    await parked(stage, a_refused_job("first"), a_refused_job("second", "chat"))

    first, why, *_ = (ran := await run("dead", "list", **settings)).out.splitlines()

    assert first.startswith("first ")
    assert "unauthorized" in first
    assert why.startswith("  the key was refused")
    assert len(ran.out.splitlines()) == 4


async def test_kind_that_does_not_exist_is_refused_with_the_nearest(
    settings: Mapping[str, str],
) -> None:
    ran = await run("dead", "list", "--kind", "rate_limit", **settings)

    assert (ran.exit_code, "did you mean rate_limited?" in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("chosen", "found"),
    [
        (("--kind", "unauthorized"), 2),
        (("--kind", "rate_limited"), 0),
        (("--flow", "refused", "--newer-than", "1h"), 2),
        (("--older-than", "1h"), 0),
        (("--job", "second"), 1),
    ],
)
async def test_parked_jobs_are_chosen(
    stage: Stage, settings: Mapping[str, str], chosen: tuple[str, ...], found: int
) -> None:
    await parked(stage, a_refused_job("first"), a_refused_job("second"))

    assert len(lines(await run("dead", "list", "--json", *chosen, **settings))) == found


async def test_parked_job_is_shown_without_its_prompt(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    await parked(stage, a_refused_job("first"))

    without = await run("dead", "show", "first", **settings)
    with_body = await run("dead", "show", "first", "--body", **settings)
    unknown = await run("dead", "show", "other", **settings)

    assert "Why?" not in without.out
    assert "Why?" in with_body.out
    assert (unknown.exit_code, "no dead letter" in unknown.err) == (1, True)


async def test_replayed_jobs_run_under_new_ids_in_their_chat_and_order(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    jobs = [a_refused_job(f"job-{number}", "chat") for number in range(3)]
    await parked(stage, *jobs, a_refused_job("alone"))
    stage.endpoint.flow("refused", answer(1))

    dry = lines(await run("dead", "replay", "--all", "--dry-run", "--json", **settings))
    done = lines(await run("dead", "replay", "--all", "--json", **settings))
    async with stage.listening() as chats, working(stage.settings()):
        ends = [await chats.end_of(each["replayedAs"]) for each in done]
        chat_ids = [chats.of(each["replayedAs"])[-1]["chatId"] for each in done]

    assert [it["jobId"] for it in dry] == [it["jobId"] for it in done]
    assert [it["chatId"] for it in done] == [*["chat"] * 3, "alone"]
    assert chat_ids == [*["chat"] * 3, "alone"]
    assert {(end["status"], end["attempts"]) for end in ends} == {("completed", 1)}
    assert lines(await run("dead", "list", "--json", **settings)) == []


async def test_parked_job_whose_headers_fill_a_frame_is_replayed(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    job = a_refused_job("full")
    stage.endpoint.flow("refused", answer(1))
    async with stage.listening() as chats, stage.connection.channel() as channel:
        # As the broker puts it there when it gives up a job that nobody could park.
        full = Message(job.encode(), headers={"filler": "x" * 130_980, "x-opt-a": 1, "mine": 1})
        await channel.default_exchange.publish(full, stage.names.jobs_dead)

        (done,) = lines(await run("dead", "replay", "--all", "--json", **settings))
        again = await first_in(stage.connection, stage.names.jobs)
        await stage.put(again.body, headers=again.headers)
        async with working(stage.settings()):
            end = await chats.end_of(done["replayedAs"])

    assert end["status"] == "completed"
    assert again.headers.keys() - {"x-delivery-count"} == {
        "mine",
        "x-aimicromind-headers-left-out",
        "x-aimicromind-submitted-at",
    }


async def park_twice(stage: Stage, job_id: str | None) -> None:
    """Park the next job, lose its acknowledgement, and park it again."""
    async with Proxy(stage.broker.port) as proxy:
        for url in (proxy.url, stage.broker.url):
            async with jobs_at(url, stage.names, publishing_url=stage.broker.url) as jobs:
                delivery = await jobs.next()
                proxy.silence("test jobs")
                await delivery.dead_letter(FailureKind.INVALID_JOB, "it is none", 0, job_id)
                proxy.reset("test jobs")


@pytest.mark.parametrize(
    ("body", "message_id", "job_id"),
    [(b'{"jobId":"a"}', None, None), (b"{}", "a", None), (b"no job", None, "a")],
)
async def test_message_that_was_parked_twice_is_one_dead_letter(
    stage: Stage,
    settings: Mapping[str, str],
    body: bytes,
    message_id: str | None,
    job_id: str | None,
) -> None:
    other = PredictionJob(chatflow_id="flow", question="Why?", job_id="other").encode()
    await declare(stage.connection, needed_topology(stage.settings()))
    # pika leaves away what is not set.
    publish(stage.broker.url, "", stage.names.jobs, (body, {"message_id": message_id}))
    await park_twice(stage, job_id)
    publish(stage.broker.url, "", stage.names.jobs_dead, (other, {}))
    await until_in_queue(stage.connection, stage.names.jobs_dead, 3)

    listed = lines(await run("dead", "list", "--json", **settings))
    purged = lines(await run("dead", "purge", "--job", "a", "--yes", "--json", **settings))

    assert [it["jobId"] for it in listed] == ["a", "other"]
    assert [it["jobId"] for it in purged] == ["a"]
    await until_in_queue(stage.connection, stage.names.jobs_dead, 1)


async def test_message_that_is_no_job_stays_parked(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    async with working(stage.settings()):
        await stage.put(b"no job")
        await until_in_queue(stage.connection, stage.names.jobs_dead, 1)

    (said,) = lines(await run("dead", "replay", "--all", "--json", **settings))

    assert "not a valid job" in said["left"]
    assert len(lines(await run("dead", "list", "--json", **settings))) == 1


async def test_parked_jobs_are_thrown_away_only_if_that_is_said(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    await parked(stage, a_refused_job("first"), a_refused_job("second"))

    unsaid = await run("dead", "purge", "--yes", **settings)
    unasked = await run("dead", "purge", "--all", **settings)
    said_no = await run_with("n\n", "dead", "purge", "--all", **settings)
    dry = lines(await run("dead", "purge", "--all", "--dry-run", "--json", **settings))
    done = lines(await run("dead", "purge", "--job", "first", "--yes", "--json", **settings))
    left = lines(await run("dead", "list", "--json", **settings))

    assert (unsaid.exit_code, unasked.exit_code, said_no.exit_code) == (2, 1, 1)
    assert "Delete 2 dead letters (unauthorized: 2) for good?" in said_no.err
    assert [it["jobId"] for it in dry] == ["first", "second"]
    assert [it["jobId"] for it in done] == ["first"]
    assert [it["jobId"] for it in left] == ["second"]


async def test_parked_jobs_are_thrown_away_after_a_yes(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    await parked(stage, a_refused_job("first"), a_refused_job("second"))

    ran = await run_with("y\n", "dead", "purge", "--all", **settings)

    assert (ran.exit_code, ran.out) == (0, "2 purged\n")
    assert await in_queue(stage.connection, stage.names.jobs_dead) == 0


async def test_without_a_queue_there_is_nothing_to_look_at(
    stage: Stage, settings: Mapping[str, str]
) -> None:
    ran = await run("dead", "list", **{**settings, "prefix": "nothing-here"})

    assert (ran.exit_code, "has a worker run?" in ran.err) == (1, True)
