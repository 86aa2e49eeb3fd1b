"""The status in lines: what they say, and that they fit a terminal or a pipe."""

from dataclasses import replace
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_worker.ops.status.facts import DeadLetters, Reach
from aimicromind_worker.ops.status.view import lines_of, span, summary_of
from tests.unit.ops.statuses import DRAINING, JOBS, NOW, TOLD, WELL, status


def text_of(shown: object, columns: int | None = None) -> str:
    return "\n".join(line.text for line in lines_of(shown, columns))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({}, "1 worker takes jobs (1 not ready): 17 ready, 12 running"),
        ({"workers": (WELL, WELL)}, "2 workers take jobs: 17 ready"),
        ({"workers": (DRAINING,)}, "no worker takes jobs (1 not ready): 17 ready"),
        ({"workers": ()}, "no worker takes jobs: 17 ready"),
        ({"workers": (), "silent_consumers": 1}, "1 consumer takes jobs and is silent: 17"),
        ({"workers": (), "silent_consumers": 2}, "2 consumers take jobs and are silent: 17"),
        ({"workers": (WELL,), "silent_consumers": 2}, "1 worker takes jobs (2 silent): 17"),
    ],
)
def test_first_line_says_who_takes_jobs(changed: dict[str, object], told: str) -> None:
    shown = status(**changed)

    assert summary_of(shown).startswith(told)
    assert lines_of(shown, None)[0].text == summary_of(shown)


def test_first_line_counts_the_jobs_and_leaves_out_what_is_not_there() -> None:
    quiet = replace_jobs(waiting_for_chat=0, waiting_otherwise=0, delayed={2: 0}, ready=0)

    assert summary_of(status()).endswith(
        ": 17 ready, 12 running, 3 waiting for a chat, 1 waiting for a slot or the endpoint, "
        "4 delayed, 23 dead"
    )
    assert summary_of(status(jobs=quiet, dead_letters=None)).endswith(": 0 ready, 12 running")


def replace_jobs(**changed: object) -> object:
    return msgspec.structs.replace(JOBS, **changed)


def test_lines_say_all_that_was_found() -> None:
    shown = text_of(status(broker=TOLD, unknown=("the kinds of dead letters",)))

    for told in (
        "worker    version  slots  running  waiting  up",
        "worker-1/7  1.0.0       32        3        2  1 min 40 s",
        "takes no jobs: the worker is draining",
        "oldest in a worker: submitted 4 min 12 s ago",
        "4  3 for 2 s, 1 for 1 min",
        "23  stream_cut 15, unauthorized 8",
        "back to 2026-11-25 12:01 UTC, 23 h 59 min ago; nothing removed",
        "back to 2026-11-20 12:00 UTC, 6 d ago",
        "12.3 jobs ended/s, 1,204 events/s, over 1.0 s",
        "16 jobs unacknowledged, 3.2/s in, 2.5/s out; alarms: memory on rabbit@a",
        "not known: the kinds of dead letters",
    ):
        assert told.replace("worker    ", "worker      ") in shown


def test_silent_consumers_are_explained() -> None:
    shown = text_of(status(silent_consumers=1))

    assert "1 consumer of the queue of jobs does not answer" in shown


def test_dead_letters_that_were_not_all_read_are_told_as_such() -> None:
    shown = text_of(status(dead_letters=DeadLetters(5000, 1000, {"timeout": 1000})))

    assert "5,000  of the oldest 1,000: timeout 1,000" in shown


@pytest.mark.parametrize(
    ("reach", "told"),
    [
        (Reach(None, None), "shows no message"),
        (Reach(NOW - timedelta(hours=5), NOW - timedelta(hours=2)), "complete for the last 2 h"),
    ],
)
def test_reach_of_a_log_is_told(reach: Reach, told: str) -> None:
    assert told in text_of(status(event_log=reach))


@pytest.mark.parametrize("columns", [60, 80, 120])
def test_lines_fit_the_terminal(columns: int) -> None:
    long_name = replace(WELL, host="aimicromind-worker-7d9f8b6c5d-x2x9k" * 3, version="1.0.0rc1")
    silent = replace(DRAINING, obstacles=("the broker takes no events: it has an alarm " * 5,))
    kinds = {f"kind_number_{number}": 1000 for number in range(20)}
    shown = status(
        workers=(long_name, silent),
        silent_consumers=3,
        dead_letters=DeadLetters(20_000, 20_000, kinds),
        broker=TOLD,
        unknown=("the workers cannot be asked: the broker takes no message " * 3,),
    )

    lines = text_of(shown, columns).split("\n")

    assert max(map(len, lines)) <= columns
    assert any("…" in line for line in lines)


def test_nothing_is_cut_or_wrapped_in_a_pipe() -> None:
    name = "aimicromind-worker-7d9f8b6c5d-x2x9k" * 3
    lines = lines_of(status(workers=(replace(WELL, host=name),)), None)

    assert any(name in line.text for line in lines)
    assert not any("\n" in line.text for line in lines)


@given(st.text(max_size=40), st.text(max_size=40))
def test_text_of_a_worker_adds_no_line_and_no_control_character(host: str, why: str) -> None:
    forged = replace(DRAINING, host=f"h{host}", version=f"v{host}", obstacles=(why,))

    lines = lines_of(status(workers=(forged,)), None)

    assert len(lines) == len(lines_of(status(workers=(DRAINING,)), None))
    assert not any(char in line.text for line in lines for char in "\x1b\n\r\t\x07\u202e")


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (0.4, "0 s"),
        (59.9, "59 s"),
        (60, "1 min"),
        (3_725, "1 h 2 min"),
        (90_061, "1 d 1 h"),
        (86_401, "1 d"),
    ],
)
def test_length_of_time_has_its_two_largest_units(seconds: float, told: str) -> None:
    assert span(seconds) == told
