"""Turns of jobs: in their chat over several workers, and for the slots of one."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from structlog.testing import capture_logs

from aimicromind_worker.core.chats.actions import LockAnswer
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.jobs import turns as turns_module
from aimicromind_worker.jobs.registry import HeldJob
from aimicromind_worker.jobs.turns import Turns
from aimicromind_worker.telemetry.tracing import Tracer
from tests.support.builders import a_ticket
from tests.support.fakes import FakeChats, FakePool
from tests.support.waiting import until

WORKER = b"aimicromind.pool.%b" % str(UUID(int=9)).encode()
UNTRACED = Tracer()
LONG = timedelta(minutes=1)
NOW = datetime.now(UTC)


class Workers:
    """Workers of a pool whose jobs take turns, and note when they have them.

    Attributes:
        had: The jobs in the order in which they had their turn, "not" before those without one.
        standing_in: How many jobs a worker takes for others that wait.
    """

    def __init__(self, slots: int = 8, patience: timedelta = LONG, workers: int = 1) -> None:
        self.pool = FakePool()
        self.chats = [FakeChats(self.pool, number) for number in range(workers)]
        self.over: set[str] = set()
        self.had: list[str] = []
        self.standing_in = 0
        self.leave = asyncio.Event()
        self.jobs: dict[str, HeldJob] = {}
        self.turns = [
            Turns(chats, self.over.__contains__, slots, patience, self._stand_in)
            for chats in self.chats
        ]
        for chats, turns in zip(self.chats, self.turns, strict=True):
            self.pool.workers[chats.worker] = turns.take_message

    @asynccontextmanager
    async def _stand_in(self) -> AsyncIterator[None]:
        self.standing_in += 1
        try:
            yield
        finally:
            self.standing_in -= 1

    def begin(
        self, name: str, chat: str = "chat", worker: int = 0, after: str | None = None
    ) -> asyncio.Task[None]:
        submitted = NOW + timedelta(seconds=len(self.jobs))
        facts = MessageFacts(submitted_at=submitted)
        ticket = a_ticket(facts, jobId=name, chatId=chat, after=after)
        with UNTRACED.job("jobs", name, chat, "flow", {}) as span:
            self.jobs[name] = HeldJob(ticket, span)
        return asyncio.create_task(self._use(self.jobs[name], self.turns[worker]))

    async def _use(self, job: HeldJob, turns: Turns) -> None:
        name = job.ticket.job_id
        async with turns.in_chat(job) as chat, turns.slot(job) as has_slot:
            is_its_turn = chat is not None and has_slot
            self.had.append(name if is_its_turn else f"not {name}")
            if is_its_turn:
                await self.leave.wait()
        self.over.add(name)
        for each in self.turns:
            each.over(name, job.ticket.chat_id)


async def _settle() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


async def test_turns_of_a_chat_come_one_after_the_other_in_the_order_of_submission() -> None:
    jobs = Workers()
    tasks = [jobs.begin(name) for name in "abc"]
    await _settle()
    assert jobs.had == ["a"]

    jobs.leave.set()
    await asyncio.gather(*tasks)

    assert jobs.had == ["a", "b", "c"]
    assert jobs.pool.holders == {}


async def test_jobs_of_a_chat_keep_their_order_over_workers_and_each_is_told() -> None:
    jobs = Workers(workers=3)
    tasks = [jobs.begin(name, worker=number % 3) for number, name in enumerate("abcdefghi")]
    await _settle()

    jobs.leave.set()
    await asyncio.wait_for(asyncio.gather(*tasks), 0.9)

    assert jobs.had == list("abcdefghi")
    assert jobs.pool.holders == {}


async def test_job_waits_for_the_one_that_it_names_although_its_chat_is_free() -> None:
    jobs = Workers(workers=2)
    second = jobs.begin("second", after="first")
    await _settle()
    assert jobs.had == []

    first = jobs.begin("first", worker=1)
    jobs.leave.set()
    await asyncio.wait_for(asyncio.gather(first, second), 0.9)

    assert jobs.had == ["first", "second"]


async def test_job_that_names_one_of_another_chat_runs_after_it() -> None:
    jobs = Workers()
    second = jobs.begin("second", after="first")
    await _settle()

    first = jobs.begin("first", chat="other")
    jobs.leave.set()
    await asyncio.wait_for(asyncio.gather(first, second), 0.9)

    assert jobs.had == ["first", "second"]


async def test_chats_do_not_wait_for_each_other() -> None:
    jobs = Workers()
    tasks = [jobs.begin("a"), jobs.begin("b", chat="other")]
    await _settle()

    assert jobs.had == ["a", "b"]
    jobs.leave.set()
    await asyncio.gather(*tasks)


async def test_turn_that_does_not_come_in_time_passes_by() -> None:
    jobs = Workers(patience=timedelta(milliseconds=10))
    holder = jobs.begin("a")
    await _settle()
    await jobs.begin("b")
    jobs.leave.set()
    await holder
    await jobs.begin("c")

    assert jobs.had == ["a", "not b", "c"]


async def test_job_waits_for_its_chat_and_a_slot_together_for_a_limited_time() -> None:
    jobs = Workers(slots=1, patience=timedelta(milliseconds=300))
    holder = jobs.begin("a")
    await _settle()
    tasks = [jobs.begin("b"), jobs.begin("c", chat="other")]

    await asyncio.wait_for(asyncio.gather(*tasks), 5)

    assert jobs.had[0] == "a"
    assert sorted(jobs.had[1:]) == ["not b", "not c"]
    jobs.leave.set()
    await holder


async def test_second_copy_of_a_job_waits_until_the_first_has_left() -> None:
    jobs = Workers()
    tasks = [jobs.begin("a"), jobs.begin("a")]
    await _settle()
    assert jobs.had == ["a"]

    jobs.leave.set()
    await asyncio.gather(*tasks)

    assert jobs.had == ["a", "a"]


async def test_while_one_waits_for_its_chat_another_may_come_in_its_place() -> None:
    jobs = Workers(slots=2)
    tasks = [jobs.begin(name) for name in "ab"]
    await _settle()
    assert jobs.standing_in == 1

    jobs.leave.set()
    await asyncio.gather(*tasks)

    assert jobs.standing_in == 0


async def test_nobody_stands_in_for_a_job_whose_chat_is_free() -> None:
    jobs = Workers()
    tasks = [jobs.begin(name, chat=name) for name in "abc"]
    await asyncio.sleep(0)
    assert jobs.standing_in == 0

    await _settle()
    assert (jobs.standing_in, jobs.had) == (0, ["a", "b", "c"])
    jobs.leave.set()
    await asyncio.gather(*tasks)


async def test_nobody_stands_in_where_no_slot_would_be_free() -> None:
    jobs = Workers(slots=8)
    tasks = [jobs.begin(name, chat=name) for name in "abcdefgh"]
    tasks.append(jobs.begin("waits", chat="a"))
    await _settle()

    assert jobs.standing_in == 0
    jobs.leave.set()
    await asyncio.gather(*tasks)


async def test_no_more_have_their_turn_than_there_are_slots() -> None:
    jobs = Workers(slots=2)
    tasks = [jobs.begin(name, chat=name) for name in "abcd"]
    await _settle()
    assert jobs.had == ["a", "b"]

    tasks[0].cancel()
    await _settle()

    assert jobs.had == ["a", "b", "c"]
    jobs.leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert jobs.had == ["a", "b", "c", "d"]


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_turn_of_a_cancelled_task_goes_to_the_next(leaver: int) -> None:
    jobs = Workers()
    tasks = [jobs.begin(name) for name in "abc"]
    await _settle()

    tasks[leaver].cancel()
    jobs.leave.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    await jobs.begin("d")

    left = [name for number, name in enumerate("abc") if number != leaver or number == 0]
    assert jobs.had == [*left, "d"]


@pytest.mark.parametrize("leaver", [1, 2])
async def test_slot_of_a_cancelled_task_goes_to_the_next(leaver: int) -> None:
    jobs = Workers(slots=1)
    tasks = [jobs.begin(name, chat=name) for name in "abc"]
    await _settle()

    jobs.leave.set()
    tasks[leaver].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    await asyncio.wait_for(jobs.begin("d"), 5)

    assert jobs.had == [name for name in "abcd" if name != "abc"[leaver]]


async def test_all_waits_can_be_ended() -> None:
    jobs = Workers(slots=1)
    tasks = [jobs.begin(name) for name in "abc"]
    tasks.append(jobs.begin("d", chat="other"))
    await _settle()

    jobs.turns[0].end_waits()
    await asyncio.gather(*tasks[1:])
    jobs.leave.set()
    await tasks[0]

    assert jobs.had[0] == "a"
    assert sorted(jobs.had[1:]) == ["not b", "not c", "not d"]


async def test_cancelled_job_waits_no_longer() -> None:
    jobs = Workers()
    tasks = [jobs.begin(name) for name in "abc"]
    await _settle()

    jobs.jobs["b"].cancel()
    await tasks[1]
    jobs.leave.set()
    await asyncio.gather(*tasks)

    assert jobs.had == ["a", "not b", "c"]


async def test_who_finds_no_room_to_wait_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turns_module, "MOST_WAITING", 2)
    jobs = Workers()
    tasks = [jobs.begin(name) for name in "abc"]
    await _settle()

    await jobs.begin("d")
    free = jobs.begin("e", chat="other")
    await _settle()

    assert jobs.had == ["a", "not d", "e"]
    jobs.leave.set()
    await asyncio.gather(free, *tasks)


async def test_lost_lock_is_told_to_the_job_that_runs_and_the_next_asks_again() -> None:
    jobs = Workers()
    tasks = [jobs.begin(name) for name in "ab"]
    await _settle()

    jobs.chats[0].take_away("chat")
    await _settle()

    # The job that lost its chat is interrupted by its run; here it only leaves.
    assert jobs.had == ["a", "b"]
    jobs.leave.set()
    await asyncio.gather(*tasks)


async def test_job_waits_while_the_broker_has_no_room_for_its_lock() -> None:
    jobs = Workers()
    jobs.chats[0].has_room = False
    task = jobs.begin("a")
    await _settle()
    assert (jobs.had, jobs.turns[0].waiting) == ([], 1)

    jobs.chats[0].has_room = True
    jobs.leave.set()
    await asyncio.wait_for(task, 5)

    assert jobs.had == ["a"]


async def test_fault_in_one_chat_costs_no_other_chat_anything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = Workers()
    lock = jobs.chats[0].lock
    faults = iter([ValueError("secret"), ValueError("secret")])

    async def faulty(chat_id: str, *callbacks: Callable[..., None]) -> LockAnswer:
        if chat_id == "chat" and (fault := next(faults, None)):
            raise fault
        return await lock(chat_id, *callbacks)

    monkeypatch.setattr(jobs.chats[0], "lock", faulty)
    with capture_logs() as logs:
        tasks = [jobs.begin("a"), jobs.begin("b", chat="other")]
        await _settle()
        assert jobs.had == ["b"]

        jobs.leave.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 5)

    assert jobs.had == ["b", "a"]
    assert "secret" not in str(logs)


async def test_messages_that_are_none_or_name_other_queues_change_nothing() -> None:
    jobs = Workers()
    task = jobs.begin("a")
    await _settle()
    take_mail, _ = jobs.chats[0].held["chat"]
    job = b'{"jobId":"x","worker":"%b","submittedSeconds":0,"waitedSeconds":0}'
    names = (b"aimicromind.jobs", b"aimicromind.pool." + b"x" * 300)
    told = b",".join(job % name for name in names)

    for body in (
        b"",
        b"[]",
        b'{"turn":"next","chatId":"\xed\xa0\x80"}',
        b'{"turn":"next","chatId":"\\ud800"}',
        b'{"turn":"waiting","chatId":"chat","worker":"aimicromind.pool.%b"}' % (b"x" * 300),
        b'{"turn":"next"}',
        b'{"turn":"waiting","chatId":"chat","worker":"aimicromind.jobs"}',
        b'{"turn":"waiting","chatId":"chat","worker":"%b","jobs":[%b]}' % (WORKER, told),
        b'{"turn":"next","chatId":"chat","jobs":[%b]}' % told,
        b" " * 100_000,
    ):
        take_mail(body, None)
        jobs.turns[0].take_message(body)
    jobs.leave.set()
    await task
    await until(lambda: not jobs.pool.holders)

    assert set(jobs.pool.told) <= {WORKER.decode()}
