"""What a broker does to messages, queues and exchanges by itself or on an operator's word."""

import asyncio
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest
from pika.exceptions import NackError

from aimicromind_testing import Wait
from aimicromind_worker.amqp.events.backpressure import Window
from benchmarks.refusals import measure
from tests.faults.trial import Trial, eventually
from tests.process.jobs import Job, a_job
from tests.process.stage import asked_for
from tests.support.consumer import (
    Heard,
    bind,
    delete,
    lose_unsettled,
    publish,
    read_log,
    read_stream,
)
from tests.support.marked import marked
from tests.support.probes import probe
from tests.support.steady_consumer import SteadyConsumer

pytestmark = pytest.mark.timeout(180)

_DELIVERIES = 20
_CONSUMER_TIMEOUT_MS = 4000
_BACK_WITHIN_S = 10.0
_HOLDS_UP_S = 5.0
# What a busy machine adds.
_SLACK_S = 0.5
_REFUSES = {"x-overflow": "reject-publish"}


async def test_channel_that_the_broker_closes_for_a_slow_job_costs_that_attempt(
    own: Trial,
) -> None:
    for name, value in (
        ("consumer_timeout", _CONSUMER_TIMEOUT_MS),
        ("channel_tick_interval", 1000),
    ):
        await own.broker.rabbitmqctl("eval", f"application:set_env(rabbit, {name}, {value}).")
    own.endpoint.flow("flow", marked(before=[Wait(60)]), marked())
    worker = await own.worker()
    job = own.job()
    with own.listening():
        own.submit(job)
        lost = await worker.logged("broker.lost", within_s=30)
        at = time.monotonic()
        own.interrupted(at - 1, at)
        own.outage("a channel that was closed", at, [worker])
        (seen,) = await own.ended(job)
        await own.verdict()

    assert "PRECONDITION_FAILED" in lost["reason"]
    assert (seen.end["status"], seen.end["attempts"]) == ("completed", 2)


async def test_jobs_are_taken_again_after_their_queue_was_deleted(trial: Trial) -> None:
    trial.endpoint.flow("flow", marked())
    worker = await trial.worker()
    job = trial.job()
    with trial.listening():
        at = time.monotonic()
        delete(trial.broker.url, [trial.names.jobs], [])
        await worker.logged("worker.ready", count=2, within_s=_BACK_WITHIN_S)
        trial.outage("a queue that was deleted", at, [worker])

        trial.submit(job)
        (seen,) = await trial.ended(job)
        await trial.verdict()

    assert seen.end["status"] == "completed"


async def test_events_come_once_more_after_their_exchange_was_deleted(trial: Trial) -> None:
    trial.endpoint.flow("flow", marked())
    worker = await trial.worker()
    job = trial.job(tokens=40, rate=20)
    delete(trial.broker.url, [], [trial.names.events])

    trial.submit(job)
    lost = await worker.logged("publishing.lost", within_s=_BACK_WITHIN_S)
    await worker.logged("publishing.restored", within_s=_BACK_WITHIN_S)
    await worker.logged("job.ended", job_id=job.job_id)
    await eventually(lambda: not trial.endpoint.live_calls)
    # Consumers' own bindings went with the exchange; the worker has bound the log again.
    for message in await asyncio.to_thread(read_log, trial.broker.url, trial.names.events_log):
        trial.listener.take(message)
    await trial.verdict()

    assert "NOT_FOUND" in lost["reason"]
    assert trial.listener.statuses() == {"completed": 1}
    assert len(worker.log("publishing.lost")) == 1


async def test_user_who_may_not_declare_is_told_so_once(trial: Trial) -> None:
    ctl, user = trial.broker.rabbitmqctl, f"{trial.names.prefix}-user"
    await ctl("add_user", user, "password")
    await ctl("set_permissions", user, "^$", ".*", ".*")
    url = f"amqp://{user}:password@127.0.0.1:{trial.broker.port}/"

    worker = await trial.workers.start(AMQP_URL=url)

    assert await worker.exits(30) == 4
    assert "user may not declare" in worker.only_sentence()


async def test_bad_queues_of_other_consumers_hurt_nobody_else(trial: Trial) -> None:
    trial.endpoint.flow("flow", marked())
    worker = await trial.worker()
    prefix, jobs = trial.names.prefix, [trial.job(tokens=30, rate=20) for _ in range(5)]
    bad: dict[str, dict[str, object]] = {
        f"{prefix}.full": {"x-max-length": 1, "x-overflow": "reject-publish"},
        f"{prefix}.ttl": {"x-message-ttl": 0},
        f"{prefix}.unread": {},
    }
    for queue, arguments in bad.items():
        bind(trial.broker.url, queue, trial.names.events, arguments)
    with trial.listening() as heard:
        trial.submit(*jobs)
        submitted = time.monotonic()
        every = await trial.ended(*jobs)
        took_s = time.monotonic() - submitted
        await worker.logged("events.skipped")
        await trial.verdict()
        delete(trial.broker.url, list(bad), [])

    assert {seen.end["status"] for seen in every} == {"completed"}
    assert took_s < 1.5 + _HOLDS_UP_S
    assert trial.listener.copies > 0
    assert len(heard.messages) > 5 * 33


async def test_end_that_is_refused_for_ever_reaches_the_endings_and_frees_its_job(
    trial: Trial,
) -> None:
    trial.endpoint.flow("flow", marked())
    worker = await trial.worker()
    full, jobs = f"{trial.names.prefix}.full", [trial.job() for _ in range(3)]
    bind(trial.broker.url, full, trial.names.events, {**_REFUSES, "x-max-length": 1})
    with trial.listening():
        trial.submit(*jobs)
        every = await trial.ended(*jobs)
        url = f"{await worker.health_url()}/readyz"
        async with asyncio.timeout(_BACK_WITHIN_S):
            while (await probe(url))[1]["events"]["ends_straight"] < len(jobs):  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.1)
        # It judges that no job is left, held or on its queue, once the worker has gone.
        await trial.verdict()
        delete(trial.broker.url, [full], [])
    kept = await asyncio.to_thread(read_stream, trial.broker.url, trial.names.endings)

    straight = [message for message in kept if message.name == "end" and not message.exchange]
    assert {message.event["jobId"] for message in straight} == {job.job_id for job in jobs}
    assert len(worker.log("job.started")) == len(trial.endpoint.calls) == len(jobs)
    assert [(seen.end["status"], seen.end["attempts"]) for seen in every] == [("completed", 1)] * 3
    assert len(worker.log("events.nacked")) == len(worker.log("events.skipped")) == 1


async def test_refusing_queue_that_is_read_again_in_mid_stream_gets_the_rest_in_order(
    trial: Trial,
) -> None:
    trial.endpoint.flow("flow", marked())
    worker = await trial.worker()
    queue, job = f"{trial.names.prefix}.refusing", trial.job(tokens=120, rate=20)
    arguments = {**_REFUSES, "x-max-length": 10}
    bind(trial.broker.url, queue, trial.names.events, arguments)
    came = Heard()
    with trial.listening():
        trial.submit(job)
        await worker.logged("events.skipped")
        with SteadyConsumer(trial.broker.url, trial.names.events, queue, came.take, arguments):
            await trial.ended(job)
            await came.ended(job.job_id)
        await trial.verdict()
        delete(trial.broker.url, [queue], [])

    orders = [message.event["seq"] for message in came.messages]
    (gap,) = [at for at, seq in enumerate(orders) if seq != orders[0] + at][:1]
    assert orders[:gap] == list(range(10))
    assert orders[gap] > 10
    assert orders[gap:] == list(range(orders[gap], 123))


async def test_queue_that_refuses_everything_delays_nine_others_within_the_bound() -> None:
    def jobs() -> list[Job]:
        return [a_job("load", question="n=50 rate=10") for _ in range(10)]

    without = await measure("takes all", jobs())
    refused = await measure("refuses all", jobs())

    bound_s = Window().resend_for.total_seconds() + _SLACK_S
    assert max(refused.delays_s) < max(without.delays_s) + bound_s
    assert refused.ended_s < without.ended_s + bound_s
    assert not any(without.counted.values())
    assert refused.counted["passed_over"] > 300
    assert refused.counted["ends_straight"] == 10
    assert refused.copies < 1000


async def test_job_that_the_broker_gives_up_gets_its_end(trial: Trial) -> None:
    await _declared(trial)
    job = trial.job()
    trial.submit(job)
    for _ in range(_DELIVERIES + 1):
        lose_unsettled(trial.broker.url, trial.names.jobs)
    trial.dead = 1

    await _is_buried(trial, job, "delivery_limit", "failed")


async def test_job_whose_message_expires_in_the_queue_gets_its_end(trial: Trial) -> None:
    await _declared(trial)
    job = trial.job()
    trial.expect(asked_for(job))
    body, properties = job.message
    publish(trial.broker.url, "", trial.names.jobs, (body, {**properties, "expiration": "200"}))
    trial.dead = 1

    await _is_buried(trial, job, "expired", "expired")


async def _declared(trial: Trial) -> None:
    """Have the topology declared and a queue that hears all, with no worker left."""
    worker = await trial.worker()
    with trial.listening():
        pass
    worker.signal(signal.SIGTERM)
    assert await worker.exits() == 0


async def _is_buried(trial: Trial, job: Job, kind: str, status: str) -> None:
    with trial.listening():
        await trial.worker()
        (seen,) = await trial.ended(job)
        await trial.verdict()

    assert seen.only("error")["kind"] == kind
    assert (seen.end["status"], seen.end["calls"]) == (status, 0)
    assert not trial.endpoint.calls


async def test_full_queue_refuses_the_producer_and_loses_nothing_it_took(own: Trial) -> None:
    own.endpoint.flow("flow", marked())
    await _declared(own)
    pattern = f"^{own.names.jobs}$"
    policy = ("full", pattern, '{"max-length": 5}', "--apply-to", "queues")
    await own.broker.rabbitmqctl("set_policy", *policy)
    await asyncio.sleep(1)
    taken: list[Job] = []
    with pytest.raises(NackError):
        _fill(own, taken)
    own.expect(*(asked_for(job) for job in taken))

    with own.listening():
        await own.worker()
        every = await own.ended(*taken)
        await own.verdict()

    assert taken
    assert {seen.end["status"] for seen in every} == {"completed"}


def _fill(trial: Trial, taken: list[Job]) -> None:
    for _ in range(100):
        job = trial.job()
        publish(trial.broker.url, "", trial.names.jobs, job.message)
        taken.append(job)


@pytest.mark.parametrize("tokens", [pytest.param(0, id="queued"), pytest.param(5, id="streaming")])
async def test_job_whose_deadline_passes_expires(tokens: int, trial: Trial) -> None:
    trial.endpoint.flow("flow", marked(after=[Wait(60)]))
    await _declared(trial)
    soon = datetime.now(UTC) + timedelta(seconds=15 if tokens else 0.1)
    job = trial.job(tokens=5, expiresAt=soon.isoformat())
    trial.submit(job)
    trial.dead = 1
    if not tokens:
        await asyncio.sleep(0.2)
    with trial.listening():
        await trial.worker()
        (seen,) = await trial.ended(job, within_s=30)
        await trial.verdict()

    assert seen.only("error")["kind"] == "expired"
    assert (seen.end["status"], len(trial.endpoint.calls)) == ("expired", 1 if tokens else 0)


async def test_job_whose_deadline_passes_while_its_chat_is_busy_expires(trial: Trial) -> None:
    trial.endpoint.flow("flow", marked())
    await trial.worker()
    busy = trial.job(tokens=60, rate=10)
    soon = datetime.now(UTC) + timedelta(seconds=2)
    late = trial.job(chatId=busy.chat_id, expiresAt=soon.isoformat())
    trial.dead = 1
    with trial.listening() as heard:
        trial.submit(busy)
        await heard.saw(busy.job_id, "token")
        trial.submit(late)
        first, second = await trial.ended(busy, late)
        await trial.verdict()

    assert (first.end["status"], second.end["status"]) == ("completed", "expired")
    assert len(trial.endpoint.calls) == 1
