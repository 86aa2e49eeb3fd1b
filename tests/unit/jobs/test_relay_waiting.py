"""When a job may be run: one of a chat at a time, each once, suspects apart."""

import asyncio
from datetime import UTC, datetime, timedelta

from aimicromind_schemas import EndStatus, FailureKind
from aimicromind_schemas.journal.history import History
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.retry import RETRY_DELAYS
from aimicromind_worker.core.job.state import JobState
from tests.support.builders import SLOTS, tokens
from tests.support.fakes import HANG, WELL, FakeDelivery
from tests.unit.jobs.test_relay import BRIEFLY, Stage, facts_after


async def test_job_of_a_chat_that_another_worker_has_waits_outside_and_says_nothing() -> None:
    stage = Stage(WELL, patience=BRIEFLY)
    stage.chats.held_elsewhere.add("chat")

    delivery = await stage.carry(facts=MessageFacts(carried=JobState(attempt=1, calls=1)))
    stage.chats.held_elsewhere.clear()
    again = facts_after(delivery)
    await stage.carry(facts=again)

    assert delivery.delay == RETRY_DELAYS[0]
    assert stage.publisher.history[0] == "requeue"
    assert (again.carried.attempt, again.carried.calls) == (1, 1)
    assert stage.publisher.end().data.attempts == 2


async def test_job_that_waits_again_and_again_mostly_waits_longer() -> None:
    stage = Stage(WELL, patience=BRIEFLY)
    stage.chats.held_elsewhere.add("chat")
    facts = MessageFacts()
    delays: list[timedelta] = []

    for _ in range(9):
        delivery = await stage.carry(facts=facts)
        delays.append(delivery.delay or timedelta())
        facts = facts_after(delivery)

    assert delays[:3] == [RETRY_DELAYS[0]] * 3
    assert sorted(delays[3:]) == [*[RETRY_DELAYS[0]] * 2, *[RETRY_DELAYS[1]] * 4]


async def test_suspect_does_not_wait_longer_for_having_waited_often() -> None:
    stage = Stage(patience=BRIEFLY)
    stage.chats.held_elsewhere.add("chat")

    delivery = await stage.carry(facts=MessageFacts(carried=JobState(crashes=1, waits=9)))

    assert delivery.delay == RETRY_DELAYS[0]


async def test_jobs_that_wait_for_one_chat_leave_the_slots_to_others() -> None:
    stage = Stage([tokens("half"), HANG], *[WELL] * SLOTS)
    first = asyncio.create_task(stage.relay.carry(stage.delivery(jobId="first")))
    await stage.predictions.began.wait()
    line = [stage.delivery(jobId=f"job-{number}") for number in range(3 * SLOTS)]
    carrying = [asyncio.create_task(stage.relay.carry(each)) for each in line]
    await asyncio.sleep(0)

    others = [stage.delivery(jobId=f"other-{it}", chatId=f"other-{it}") for it in range(SLOTS - 1)]
    await asyncio.wait_for(asyncio.gather(*map(stage.relay.carry, others)), 5)

    assert stage.turns.waiting == len(line)
    assert [each.history for each in line] == [stage.publisher.history] * len(line)
    for task in [first, *carrying]:
        task.cancel()
    await asyncio.gather(first, *carrying, return_exceptions=True)


async def test_job_that_waited_before_its_first_run_has_attempt_1_and_is_looked_up() -> None:
    stage = Stage(WELL, patience=BRIEFLY)
    stage.chats.held_elsewhere.add("chat")

    delivery = await stage.carry()
    stage.chats.held_elsewhere.clear()
    await stage.carry(facts=facts_after(delivery))

    assert stage.journal.asked == ["job"]
    assert (stage.publisher.end().attempt, stage.publisher.end().data.calls) == (1, 1)


async def test_jobs_of_one_chat_run_one_after_the_other() -> None:
    stage = Stage([tokens("half"), HANG], WELL)
    first = asyncio.create_task(stage.relay.carry(stage.delivery(jobId="first")))
    await stage.predictions.began.wait()
    second = asyncio.create_task(stage.relay.carry(stage.delivery(jobId="second")))
    await asyncio.sleep(0.01)
    assert len(stage.predictions.calls) == 1

    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    await second

    assert len(stage.predictions.calls) == 2
    assert stage.publisher.end().job_id == "second"


async def test_job_that_comes_twice_at_once_runs_once() -> None:
    stage = Stage(WELL)
    deliveries = [stage.delivery() for _ in range(2)]

    await asyncio.gather(*map(stage.relay.carry, deliveries))

    assert len(stage.predictions.calls) == 1
    _ended_once_and_was_repeated(stage)


async def test_job_that_comes_again_later_is_acknowledged_and_not_run() -> None:
    stage = Stage(WELL)
    await stage.carry()

    await stage.carry()

    assert len(stage.predictions.calls) == 1
    _ended_once_and_was_repeated(stage)


def _ended_once_and_was_repeated(stage: Stage) -> None:
    first, again = (it for it in stage.publisher.published if it.name == "end")
    assert first.body == again.body
    assert [it for it in stage.publisher.history if it in {"end", "ack"}] == ["end", "ack"] * 2


async def test_new_copy_waits_while_the_job_runs_under_another_chat() -> None:
    stage = Stage(WELL)
    stage.journal.remembers = {"job": History(last_attempt=1, calls=1, is_open=True)}

    delivery = await stage.carry(chatId="another")

    assert stage.publisher.history == ["requeue"]
    assert delivery.delay == RETRY_DELAYS[0]
    assert stage.predictions.calls == []


async def test_copy_that_expires_while_the_job_runs_is_acknowledged_and_ends_nothing() -> None:
    stage = Stage()
    stage.journal.remembers = {"job": History(last_attempt=1, calls=1, is_open=True)}
    past = (datetime.now(UTC) - timedelta(hours=1)).isoformat()

    await stage.carry(chatId="another", expiresAt=past)

    assert stage.publisher.history == ["ack"]


async def test_copy_of_a_failed_job_leaves_the_dead_letter_to_the_first() -> None:
    stage = Stage()
    failed = History(last_attempt=1, status=EndStatus.FAILED, kind=FailureKind.BAD_REQUEST)
    stage.journal.remembers = {"job": failed}

    await stage.carry()

    assert stage.publisher.history == ["ack"]


async def test_copy_of_a_job_that_ended_elsewhere_meanwhile_is_acknowledged() -> None:
    stage = Stage()
    stage.journal.remembers = {"job": History(last_attempt=2, status=EndStatus.COMPLETED)}

    await stage.carry(facts=MessageFacts(carried=JobState(attempt=1)))

    assert stage.publisher.history == ["ack"]


async def test_suspect_of_two_losses_waits_until_other_suspects_have_left() -> None:
    stage = Stage([tokens("half"), HANG], WELL)
    suspected = MessageFacts(deliveries_before=1, failures_before=1)
    running = asyncio.create_task(
        stage.relay.carry(stage.delivery(facts=suspected, chatId="other", jobId="other"))
    )
    await stage.predictions.began.wait()

    last_chance = MessageFacts(deliveries_before=2, failures_before=2)
    delivery = await stage.carry(facts=last_chance)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    again = facts_after(delivery)
    await stage.carry(facts=again)

    assert delivery.delay == RETRY_DELAYS[0]
    assert (again.deliveries_before, again.carried.crashes) == (0, 2)
    assert stage.publisher.end().attempt == 3


async def test_losses_of_a_job_are_put_down_to_a_broker_that_was_lost() -> None:
    stage = Stage([tokens("half"), HANG], WELL, after_loss=True)
    suspected = MessageFacts(deliveries_before=9, failures_before=9)
    running = asyncio.create_task(
        stage.relay.carry(stage.delivery(facts=suspected, chatId="other", jobId="other"))
    )
    await stage.predictions.began.wait()

    await stage.carry(facts=suspected)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert stage.publisher.end().attempt == 10
    assert stage.publisher.end().data.status == EndStatus.COMPLETED


async def test_job_whose_chat_lock_is_taken_away_goes_on_elsewhere() -> None:
    stage = Stage([tokens("half"), HANG])
    delivery = stage.delivery()
    carrying = asyncio.create_task(stage.relay.carry(delivery))
    await stage.predictions.began.wait()
    await asyncio.sleep(0.01)

    stage.chats.take_away("chat")
    await carrying

    assert facts_after(delivery).carried.attempt == 1
    assert stage.publisher.history[-3:] == ["retry", "3 confirmed", "requeue"]


async def test_jobs_that_wait_for_their_chat_leave_with_the_worker_and_say_nothing() -> None:
    stage = Stage([tokens("half"), HANG])
    carried: list[FakeDelivery] = [stage.delivery(jobId=name) for name in ("first", "second")]
    carrying = asyncio.gather(*map(stage.relay.carry, carried))
    await stage.predictions.began.wait()
    await asyncio.sleep(0.01)

    stage.relay.shut_down_runs()
    await carrying

    assert {delivery.delay for delivery in carried} == {timedelta()}
    assert facts_after(carried[1]).carried.attempt == 0
    assert {event.job_id for event in stage.publisher.events()} == {"first"}
