"""What the records of a conversation's calls come to, in the order in which they were written."""

from datetime import UTC, datetime, timedelta

from aimicromind_worker.core.job.open_run import OpenRun, OpenRuns, RunsKnown, read_open_run

_AT = datetime(2026, 1, 1, tzinfo=UTC)
_MINUTE = timedelta(minutes=1)
_FIRST = OpenRun("first", "chat", "flow", 1, "m0", _AT + 20 * _MINUTE)
_SECOND = OpenRun("second", "chat", "flow", 1, "m2", _AT + 25 * _MINUTE)


def _known(*records: OpenRun, job_id: str = "third") -> RunsKnown:
    runs = OpenRuns()
    for record in records:
        read = read_open_run(record.encode())
        assert read == record
        runs.take(read)
    return runs.of(job_id, "chat")


def test_call_may_run_on_until_its_record_says_that_it_is_over() -> None:
    left = _FIRST.until_at_most(_AT + 12 * _MINUTE)

    assert _known(_FIRST).last == _FIRST
    assert _known(_FIRST, left).last == left
    assert _known(_FIRST, left, _FIRST.over()) == RunsKnown()


def test_late_word_of_an_earlier_call_does_not_hide_the_last_one() -> None:
    left = _FIRST.until_at_most(_AT + 16 * _MINUTE)

    for late in (left, _FIRST.over(), _FIRST.over("m1")):
        assert _known(_FIRST, _FIRST.over("m1"), _SECOND, late).last == _SECOND


def test_call_takes_the_place_of_one_that_is_over_by_now() -> None:
    assert _known(_FIRST, _SECOND).last == _SECOND


def test_saved_answer_is_known_to_the_job_whose_it_is_alone() -> None:
    answered = _FIRST.over("m1")

    assert _known(_FIRST, answered, _SECOND, job_id="first").answered == answered
    assert _known(_FIRST, answered, _SECOND, job_id="second").answered is None


def test_record_without_an_answer_is_read() -> None:
    body = _FIRST.encode().replace(b',"answer":null', b"")

    assert b"answer" not in body
    assert read_open_run(body) == _FIRST
