import pytest

from aimicromind_worker.telemetry.status import WorkerStatus


def test_worker_is_not_ready_before_its_first_session() -> None:
    assert WorkerStatus().why_not_ready() == ["no session with the broker yet"]


def test_worker_is_ready_while_it_takes_jobs() -> None:
    condition = WorkerStatus()

    with condition.consuming(lambda: None):
        assert not condition.why_not_ready()

    assert condition.why_not_ready()


def test_worker_that_takes_jobs_is_not_ready_while_something_holds_them_up() -> None:
    condition, obstacles = WorkerStatus(), [None, "the broker has an alarm", None]

    with condition.consuming(lambda: obstacles.pop(0)):
        assert [condition.why_not_ready() for _ in range(3)] == [
            [],
            ["the broker has an alarm"],
            [],
        ]


def test_session_that_fails_is_over() -> None:
    condition = WorkerStatus()

    with pytest.raises(ConnectionError), condition.consuming(lambda: None):
        raise ConnectionError

    assert condition.why_not_ready() == ["the session with the broker is ending"]
    assert not condition.why_not_live()


def test_reason_is_that_of_the_last_loss() -> None:
    condition = WorkerStatus()

    condition.lost("no broker answers")
    condition.lost("the broker went away")

    assert condition.why_not_ready() == ["the broker went away"]


def test_next_session_makes_good_for_a_loss() -> None:
    condition = WorkerStatus()
    condition.lost("no broker answers")

    with condition.consuming(lambda: None):
        assert not condition.why_not_ready()


def test_draining_worker_is_live_and_not_ready_whatever_else_holds() -> None:
    condition = WorkerStatus()

    with condition.consuming(lambda: None):
        condition.drain()
        assert condition.why_not_ready() == ["the worker is draining"]
    condition.lost("no broker answers")

    assert condition.why_not_ready() == ["the worker is draining"]
    assert not condition.why_not_live()


def test_worker_is_live_until_its_supervision_fails() -> None:
    condition = WorkerStatus()
    assert not condition.why_not_live()

    with pytest.raises(ZeroDivisionError), condition.supervising():
        raise ZeroDivisionError("what was said")

    assert condition.why_not_live() == ["no more sessions are opened (ZeroDivisionError)"]


def test_supervision_that_ends_in_good_order_is_no_death() -> None:
    condition = WorkerStatus()

    with condition.supervising():
        pass

    assert not condition.why_not_live()
