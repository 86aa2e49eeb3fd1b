"""Reports of workers are read as they were written, and nothing else is taken for one."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import (
    InvalidStatusRequest,
    NotAReport,
    StatusRequest,
    WorkerReport,
    decode_report,
    decode_status_request,
)

REPORT = WorkerReport(
    worker="1",
    host="worker-1",
    pid=7,
    version="1.0.0",
    up_seconds=60.5,
    ready=False,
    obstacles=("the worker is draining",),
    slots=32,
    running=3,
    waiting=2,
    waiting_for_chat=1,
    consumers=0,
    ended=10,
    events=1000,
    oldest_seconds=12.5,
    job="running",
)
SECRET = "h1dden"
COUNTS = st.integers(0, 2**53)
NAMES = st.text(min_size=1, max_size=255)


@given(NAMES, NAMES, COUNTS, st.floats(0, 1e10), st.none() | st.floats(0, 1e10))
def test_report_is_read_as_it_was_written(
    host: str, version: str, count: int, up_s: float, oldest_s: float | None
) -> None:
    report = replace(
        REPORT, host=host, version=version, events=count, up_seconds=up_s, oldest_seconds=oldest_s
    )

    assert decode_report(report.encode()) == report


def test_report_of_a_later_version_is_read() -> None:
    later = json.loads(REPORT.encode()) | {"more": {"a": [1]}}

    assert decode_report(json.dumps(later).encode()) == REPORT


@pytest.mark.parametrize(
    "changed",
    [
        {"host": ""},
        {"host": "x" * 256},
        {"host": "\ud800"},
        {"running": -1},
        {"running": True},
        {"running": 10**400},
        {"ready": "yes"},
        {"job": "gone"},
        {"obstacles": SECRET},
        {"obstacles": ["x"] * 17},
        {"upSeconds": None},
    ],
)
def test_report_with_a_wrong_member_is_none_and_is_not_quoted(changed: dict[str, object]) -> None:
    wrong = json.loads(REPORT.encode()) | {"version": SECRET} | changed

    with pytest.raises(NotAReport) as refused:
        decode_report(json.dumps(wrong).encode())
    assert SECRET not in str(refused.value)


@given(st.binary(max_size=200))
def test_bytes_that_are_no_report_are_refused(body: bytes) -> None:
    with pytest.raises(NotAReport):
        decode_report(body)


@pytest.mark.parametrize("body", [b"[" * 5000, b'{"a":' * 3000, b" " * 20_000, b"NaN", b"null"])
def test_odd_json_is_no_report_and_no_request(body: bytes) -> None:
    with pytest.raises(NotAReport):
        decode_report(body)
    with pytest.raises(InvalidStatusRequest):
        decode_status_request(body)


@pytest.mark.parametrize(
    ("named", "job_id"),
    [({}, None), ({"jobId": ""}, None), ({"jobId": "a", "more": 1}, "a"), ({"jobId": 7}, "7")],
)
def test_request_is_read(named: dict[str, object], job_id: str | None) -> None:
    assert decode_status_request(json.dumps({"status": named}).encode()) == StatusRequest(job_id)
    assert decode_status_request(StatusRequest(job_id).encode()) == StatusRequest(job_id)


@pytest.mark.parametrize("job_id", ["x" * 129, "a b", {"a": 1}, True])
def test_request_for_no_job_id_is_refused(job_id: object) -> None:
    with pytest.raises(InvalidStatusRequest):
        decode_status_request(json.dumps({"status": {"jobId": job_id}}).encode())
