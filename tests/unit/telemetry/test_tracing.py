"""Spans of a worker without an exporter: nothing is recorded, and contexts travel on."""

import pytest

from aimicromind_worker.telemetry.tracing import Tracer, trace_id
from tests.support.builders import untraced

TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE_ID}-b7ad6b7169203331-01"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"traceparent": PARENT},
        {"traceparent": PARENT, "tracestate": "a=1 ,\tb=2,,"},
        {"traceparent": f"cc-{TRACE_ID}-b7ad6b7169203331-01-later"},
    ],
)
def test_without_an_exporter_headers_travel_on_as_they_came(headers: dict[str, str]) -> None:
    job = untraced(headers)
    attempt = job.attempt(1)

    with attempt.call(1) as call:
        contexts = [job.context, attempt.context, call.context]

    assert contexts == [headers] * 3


def test_what_is_raised_in_a_job_is_raised_further() -> None:
    with pytest.raises(KeyError), Tracer().job("jobs", "job", "", "", {}):
        raise KeyError


def test_trace_id_is_that_of_the_header() -> None:
    assert trace_id({"traceparent": PARENT}) == TRACE_ID
    assert trace_id({}) is None
