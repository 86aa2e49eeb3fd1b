"""Whose turn it is in a chat: single steps here, many workers in the model below."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_worker.core.chats.actions import (
    MOST_TOLD,
    AskAgain,
    AskHolder,
    AskLock,
    LetGo,
    NameNext,
    NoteCopy,
    Run,
    WaitingJob,
)
from aimicromind_worker.core.chats.state import UNKNOWN_S
from aimicromind_worker.core.chats.turns import (
    HANDOVER_S,
    REPEATS_S,
    SETTLES_S,
    ChatTurns,
)
from tests.support.builders import BRIEF
from tools.turns.__main__ import inversions
from tools.turns.scene import Faults, Job
from tools.turns.world import World


class Stage:
    """One worker, and what it knows of jobs that are over."""

    def __init__(self) -> None:
        self.over: set[str] = set()
        self.busy = False
        self.turns = ChatTurns("me", self.over.__contains__, lambda _: self.busy)

    def holding(self, *jobs: WaitingJob) -> "Stage":
        """Come to hold the chat and run the first of these jobs."""
        for job in jobs:
            self.turns.came("chat", job, 0)
        self.turns.locked("chat", 0, granted=True)
        return self


def a_job(name: str, at: float = 0, after: str = "", worker: str = "me") -> WaitingJob:
    return WaitingJob(name, worker, at, at, after)


def test_job_of_a_free_chat_runs_and_lets_the_chat_go() -> None:
    turns = Stage().turns

    assert turns.came("chat", a_job("a"), 0) == [AskLock("chat")]
    assert turns.locked("chat", 0, granted=True) == [Run("chat", "a")]
    assert turns.left("chat", "a", 1) == [LetGo("chat")]
    assert turns.due_s("chat") == float("inf")


def test_next_job_of_the_same_worker_runs_under_the_same_lock() -> None:
    turns = Stage().holding(a_job("a"), a_job("b", 1)).turns

    assert turns.left("chat", "a", 2) == [Run("chat", "b")]


def test_job_of_a_held_chat_asks_the_holder_again_ever_more_seldom_and_nobody_else() -> None:
    turns = Stage().turns
    job = a_job("a")
    turns.came("chat", job, 0)

    assert turns.locked("chat", 0, granted=False) == [AskHolder("chat", (job,))]
    now = 0.0
    for pause_s in (*REPEATS_S, REPEATS_S[-1]):
        assert turns.due_s("chat") == now + pause_s
        now += pause_s
        assert turns.tick("chat", now) == [AskHolder("chat", (job,))]


def test_worker_whose_question_came_back_asks_once_more_before_it_takes_the_lock() -> None:
    turns = Stage().turns
    job = a_job("a")
    turns.came("chat", job, 0)
    turns.locked("chat", 0, granted=False)

    assert turns.nobody_holds("chat", 1) == []
    assert turns.tick("chat", 1 + HANDOVER_S) == [AskHolder("chat", (job,))]
    assert turns.nobody_holds("chat", 1.1) == [AskLock("chat")]


def test_holder_that_took_the_lock_before_it_was_named_still_learns_who_waits() -> None:
    turns = Stage().holding(a_job("b", 2)).turns
    there = a_job("c", 3, worker="other")

    assert turns.named("chat", [there]) == []
    assert turns.left("chat", "b", 4) == [LetGo("chat"), NameNext("chat", there, ())]


def test_message_that_comes_before_the_answer_to_its_holder_counts() -> None:
    turns = Stage().turns
    turns.came("chat", a_job("b", 2), 2)
    older = a_job("a", 1, worker="other")

    assert turns.asked("chat", "other", [older], 2) == []
    assert turns.locked("chat", 2, granted=True) == [
        LetGo("chat"),
        NameNext("chat", older, (a_job("b", 2),)),
    ]


def test_holder_names_the_job_that_was_submitted_first_wherever_it_waits() -> None:
    turns = Stage().holding(a_job("a"), a_job("c", 3)).turns
    there = a_job("b", 2, worker="other")
    turns.asked("chat", "other", [there], 4)

    assert turns.left("chat", "a", 5) == [
        LetGo("chat"),
        NameNext("chat", there, (a_job("c", 3),)),
    ]


def test_holder_notes_a_copy_that_waits_elsewhere_of_the_job_that_runs() -> None:
    turns = Stage().holding(a_job("a"), a_job("b", 1)).turns
    copy, copy_of_next = a_job("a", worker="other"), a_job("b", 1, worker="other")

    assert turns.asked("chat", "other", [copy], 2) == [NoteCopy("chat", "a")]
    assert turns.asked("chat", "other", [copy_of_next], 3) == []
    assert turns.left("chat", "a", 4) == [NoteCopy("chat", "b"), Run("chat", "b")]


def test_named_worker_runs_its_job_and_knows_who_else_waits() -> None:
    turns = Stage().turns
    turns.came("chat", a_job("b", 1), 1)
    turns.locked("chat", 1, granted=False)
    there = a_job("c", 2, worker="other")

    assert turns.named("chat", [there]) == [AskLock("chat")]
    assert turns.locked("chat", 2, granted=True) == [Run("chat", "b")]
    assert turns.left("chat", "b", 3) == [LetGo("chat"), NameNext("chat", there, ())]


def test_worker_that_is_named_for_a_job_that_left_passes_the_turn_on() -> None:
    turns = Stage().turns
    there = a_job("c", worker="other")

    assert turns.named("chat", [there]) == [AskLock("chat")]
    assert turns.locked("chat", 0, granted=True) == [LetGo("chat"), NameNext("chat", there, ())]


def test_named_worker_that_comes_too_late_tells_the_holder_of_the_others_too() -> None:
    turns = Stage().turns
    mine, there = a_job("b", 1), a_job("c", 2, worker="other")
    turns.came("chat", mine, 0)
    turns.locked("chat", 0, granted=False)
    turns.named("chat", [there])

    assert turns.locked("chat", 0, granted=False) == [AskHolder("chat", (mine, there))]


def test_who_gets_a_busy_chat_without_being_named_listens_for_older_jobs_first() -> None:
    stage = Stage()
    stage.busy = True
    stage.turns.came("chat", a_job("b", 2), 2)
    older = a_job("a", 1, worker="other")

    assert stage.turns.locked("chat", 2, granted=True) == []
    assert stage.turns.asked("chat", "other", [older], 2) == []
    assert stage.turns.tick("chat", 2 + SETTLES_S)[-1:] == [
        NameNext("chat", older, (a_job("b", 2),))
    ]


def test_question_that_comes_after_the_lock_was_let_go_is_sent_back() -> None:
    assert Stage().turns.asked("chat", "other", [a_job("a", worker="other")], 0) == [
        AskAgain("chat", "other")
    ]


def test_job_waits_for_the_one_that_it_names_until_that_is_over() -> None:
    stage = Stage()
    stage.holding(a_job("b", after="a"))

    assert stage.turns.over("x", 1) == []
    stage.over.add("a")
    assert stage.turns.over("a", 2) == [Run("chat", "b")]


def test_job_may_wait_for_one_of_another_chat() -> None:
    stage = Stage()
    stage.holding(a_job("b", after="elsewhere"))
    stage.turns.came("other", a_job("c", after="elsewhere"), 0)
    stage.turns.locked("other", 0, granted=True)

    stage.over.add("elsewhere")
    assert stage.turns.over("elsewhere", 1) == [Run("chat", "b"), Run("other", "c")]


def test_nothing_is_kept_of_jobs_that_were_waited_for_in_vain() -> None:
    turns = Stage().turns
    for number in range(100):
        turns.came("chat", a_job("b", after=f"unknown-{number}"), 0)
        turns.locked("chat", 0, granted=True)
        match number % 3:
            case 0:
                turns.tick("chat", UNKNOWN_S)
                turns.left("chat", "b", UNKNOWN_S)
            case 1:
                turns.left("chat", "b", 1)
            case _:
                turns.lock_lost("chat")
                turns.left("chat", "b", 1)
                turns.locked("chat", 1, granted=True)

    assert (turns._chats, turns._awaited) == ({}, {})  # noqa: SLF001 - what it keeps


def test_jobs_that_many_workers_tell_of_are_bounded() -> None:
    turns = Stage().holding(a_job("a")).turns
    for number in range(100):
        jobs = [a_job(f"{number}-{it}", worker=f"w{number}") for it in range(MOST_TOLD)]
        turns.asked("chat", f"w{number}", jobs, 0)

    assert len(turns._chats["chat"].elsewhere) <= 1_000  # noqa: SLF001 - what it keeps


def test_job_waits_half_a_minute_for_one_that_nobody_knows() -> None:
    turns = Stage().holding(a_job("b", after="a")).turns

    assert turns.due_s("chat") == UNKNOWN_S
    assert turns.tick("chat", UNKNOWN_S) == [Run("chat", "b")]


def test_job_waits_half_a_minute_from_the_end_of_the_last_job_of_its_chat() -> None:
    turns = Stage().holding(a_job("x")).turns
    turns.came("chat", a_job("b", 1, after="a"), 1)

    assert turns.left("chat", "x", 100) == []
    assert turns.tick("chat", 99 + UNKNOWN_S) == []
    assert turns.tick("chat", 100 + UNKNOWN_S) == [Run("chat", "b")]


def test_job_that_came_long_ago_still_waits_for_one_that_may_have_run_elsewhere() -> None:
    turns = Stage().turns
    turns.came("chat", a_job("b", after="a"), 0)
    turns.locked("chat", 0, granted=False)
    turns.nobody_holds("chat", 0)
    turns.nobody_holds("chat", HANDOVER_S)

    assert turns.locked("chat", 60, granted=True) == []
    there = a_job("a", worker="other")
    assert turns.asked("chat", "other", [there], 61)[-1:] == [
        NameNext("chat", there, (a_job("b", after="a"),))
    ]


def test_job_waits_no_longer_than_some_minutes_for_one_that_nobody_knows() -> None:
    turns = Stage().turns
    turns.came("chat", a_job("b", after="a"), 0)
    turns.locked("chat", 0, granted=False)
    turns.nobody_holds("chat", 0)
    turns.nobody_holds("chat", HANDOVER_S)

    assert turns.locked("chat", 150, granted=True) == [Run("chat", "b")]


def test_job_waits_as_long_as_it_takes_for_one_that_waits_too() -> None:
    turns = Stage().holding(a_job("b", 0, after="a")).turns
    turns.asked("chat", "other", [a_job("a", 1, after="unknown", worker="other")], 29)

    assert turns.tick("chat", UNKNOWN_S) == []
    assert turns.tick("chat", UNKNOWN_S + 1)[-1:] == [
        NameNext("chat", a_job("a", 1, "unknown", "other"), (a_job("b", 0, after="a"),))
    ]


@pytest.mark.parametrize("names", [("a", "b"), ("b", "a")])
def test_jobs_that_name_each_other_run_all_the_same(names: tuple[str, str]) -> None:
    turns = Stage().turns
    turns.came("chat", a_job("a", 0, after=names[0]), 0)
    turns.came("chat", a_job("b", 1, after=names[1]), 0)

    assert turns.locked("chat", 1, granted=True)[0] in {Run("chat", "a"), Run("chat", "b")}


def test_lost_lock_is_asked_for_again_while_jobs_wait() -> None:
    turns = Stage().holding(a_job("a"), a_job("b", 1)).turns

    assert turns.lock_lost("chat") == [AskLock("chat")]
    assert turns.left("chat", "a", 2) == []
    assert turns.locked("chat", 2, granted=True) == [Run("chat", "b")]


def test_lock_that_comes_after_the_job_left_is_let_go() -> None:
    turns = Stage().turns
    turns.came("chat", a_job("a"), 0)

    assert turns.left("chat", "a", 0) == []
    assert turns.locked("chat", 0, granted=True) == [LetGo("chat")]


def test_messages_name_the_first_of_many_jobs() -> None:
    turns = Stage().turns
    turns.came("chat", a_job("0000"), 0)
    turns.locked("chat", 0, granted=False)
    for number in range(1, 3 * MOST_TOLD):
        turns.came("chat", a_job(f"{number:04}", number), number)

    [asking] = turns.came("chat", a_job("last", 9999), 9999)

    assert isinstance(asking, AskHolder)
    assert [it.job_id for it in asking.jobs] == [f"{it:04}" for it in range(MOST_TOLD)]


chains = st.lists(st.floats(0, 0.3), min_size=2, max_size=12)
faults = st.builds(
    Faults,
    latency_s=st.sampled_from([0.001, 0.05]),
    lost=st.sampled_from([0, 0.1, 0.5]),
    crashes_every_s=st.sampled_from([0, 1.0, 3.0]),
)


@BRIEF
@given(
    st.lists(chains, min_size=1, max_size=4),
    faults,
    st.integers(1, 5),
    st.booleans(),
    st.integers(),
)
def test_every_job_runs_alone_in_its_chat_and_named_ones_in_their_order(
    chats: list[list[float]],
    faults: Faults,
    workers: int,
    named: str,
    seed: int,
) -> None:
    jobs: list[Job] = []
    for chat, gaps in enumerate(chats):
        at_s = 0.0
        for place, gap_s in enumerate(gaps):
            at_s += gap_s
            before = jobs[-1].job_id if named and place else ""
            jobs.append(Job(f"{chat}-{place:04}", f"chat-{chat}", at_s, gap_s, before))
    world = World(jobs, workers, faults, seed)

    world.run()

    ran = [job_id for order in world.runs.values() for job_id in order]
    assert set(ran) == {job.job_id for job in jobs}
    assert len(ran) == len(jobs) or faults.crashes_every_s
    assert not named or inversions(world) == 0


@pytest.mark.parametrize("workers", [2, 3, 8])
def test_jobs_that_come_50_ms_apart_run_in_that_order(workers: int) -> None:
    jobs = [Job(f"{number:04}", "chat", number * 0.05, 0.06) for number in range(60)]
    world = World(jobs, workers, Faults(), seed=3)

    world.run()

    assert [list(dict.fromkeys(order)) for order in world.runs.values()] == [
        [job.job_id for job in jobs]
    ]
    assert all(earlier < later for earlier, later in pairwise(world.runs["chat"]))
