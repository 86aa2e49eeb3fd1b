from dataclasses import dataclass

from aimicromind_schemas.messages.catch_up import CatchUpRequest, SeenUpTo
from aimicromind_worker.core.catching_up.catch_up_queue import (
    MOST_OF_ONE,
    MOST_WAITING,
    WAITS_AT_MOST_S,
    CatchUpQueue,
    WaitingRequest,
)
from aimicromind_worker.core.catching_up.snapshot import RunningJob
from aimicromind_worker.core.chats.return_address import ReturnAddress

HERE = ReturnAddress("here")


@dataclass
class Chat:
    is_lost: bool = False
    running_job: RunningJob | None = None


CHAT = Chat()


def asked(
    queue: CatchUpQueue,
    chat_id: str = "chat",
    to: str = "here",
    now_s: float = 0.0,
    seq: int | None = None,
) -> bool:
    """Ask as a follower does; return whether the request was admitted."""
    if not queue.admits(chat_id, to, now_s):
        return False
    after = None if seq is None else SeenUpTo(1, seq)
    request = CatchUpRequest(chat_id, "job" if after else None, after)
    queue.add(CHAT, ReturnAddress(to), request, now_s)
    return True


def answered(queue: CatchUpQueue, now_s: float = 0.0, size_bytes: int = 1_000) -> WaitingRequest:
    """Take the next request, and send a part of so many bytes that ends its answer."""
    due = queue.next(now_s)
    assert due is not None
    due.writer.next_part(None, 1)
    queue.sent(due, size_bytes, now_s)
    return due


def test_requests_of_a_chat_are_answered_in_their_order() -> None:
    queue = CatchUpQueue()
    for asker in "abc":
        asked(queue, to=asker)

    assert [answered(queue).to.queue for _ in range(3)] == ["a", "b", "c"]
    assert queue.is_empty
    assert queue.next(0) is None


def test_chats_take_turns() -> None:
    queue = CatchUpQueue()
    for asker in "abc":
        asked(queue, "busy", asker)
    asked(queue, "quiet")

    chats = [answered(queue).request.chat_id for _ in range(4)]

    assert chats == ["busy", "quiet", "busy", "busy"]


def test_rest_of_an_answer_waits_until_its_chat_has_its_turn() -> None:
    queue = CatchUpQueue()
    asked(queue, "long")
    asked(queue, "long", "next")
    asked(queue, "short")
    first = queue.next(0)
    assert first is not None

    queue.sent(first, 1_000_000, 0)

    assert answered(queue).request.chat_id == "short"
    assert queue.next(0) is first


def test_equal_request_that_waits_stands_for_both() -> None:
    queue = CatchUpQueue()
    assert asked(queue)
    assert asked(queue)

    answered(queue)

    assert queue.is_empty


def test_requests_of_a_chat_that_wait_are_bounded() -> None:
    queue = CatchUpQueue()

    of_one = sum(asked(queue, seq=number) for number in range(50))
    of_others = sum(asked(queue, to=f"asker {number}") for number in range(400))

    assert (of_one, of_others) == (MOST_OF_ONE, MOST_WAITING - MOST_OF_ONE)
    assert asked(queue, "another")


def test_asker_that_asks_too_often_is_not_heard_and_others_are() -> None:
    queue = CatchUpQueue()

    taken = 0
    for number in range(1_000):
        taken += asked(queue, seq=number)
        while queue.next(0) is not None:
            pass

    assert taken == 320
    assert asked(queue, to="another")
    assert not asked(queue)
    assert asked(queue, now_s=1)


def test_asker_of_long_answers_waits_until_its_allowance_is_back() -> None:
    queue = CatchUpQueue()
    asked(queue)
    asked(queue, to="another")
    answered(queue, size_bytes=20_000_000)
    asked(queue, seq=1)

    assert answered(queue).to.queue == "another"
    assert not asked(queue, now_s=1)
    assert asked(queue, now_s=5)
    assert answered(queue, now_s=5).to == HERE


def test_chat_of_many_askers_stays_within_its_own_allowance() -> None:
    queue = CatchUpQueue()

    taken = 0
    for number in range(3_000):
        taken += asked(queue, to=f"asker {number}")
        while queue.next(0) is not None:
            pass

    assert taken == 64_000_000 // 50_000
    assert asked(queue, "another")


def test_request_that_waited_too_long_is_dropped() -> None:
    queue = CatchUpQueue()
    asked(queue)

    assert queue.next(WAITS_AT_MOST_S + 0.1) is None
    assert queue.is_empty


def test_chats_that_are_remembered_are_bounded() -> None:
    queue = CatchUpQueue()

    for number in range(10_000):
        asked(queue, f"chat {number}")
        answered(queue)

    assert len(queue._chats) <= 4_096  # noqa: SLF001
