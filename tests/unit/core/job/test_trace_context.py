import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_worker.core.job.trace_context import trace_context
from tests.support.builders import MODERATE

TRACE_ID, SPAN_ID = "a" * 32, "b" * 16
PARENT = f"00-{TRACE_ID}-{SPAN_ID}-01"


@pytest.mark.parametrize(
    "parent",
    [
        PARENT,
        f"00-{'0' * 31}1-{'0' * 15}1-00",
        f"00-{TRACE_ID}-{SPAN_ID}-ff",
        f"01-{TRACE_ID}-{SPAN_ID}-01",
        f"cc-{TRACE_ID}-{SPAN_ID}-01-what-the-future-will-be-like",
        f"fe-{TRACE_ID}-{SPAN_ID}-01-",
    ],
)
def test_valid_parent_travels_on(parent: str) -> None:
    assert trace_context(parent, None) == {"traceparent": parent}


@pytest.mark.parametrize(
    "parent",
    [
        None,
        "",
        f"00-{'0' * 32}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{'0' * 16}-01",
        f"ff-{TRACE_ID}-{SPAN_ID}-01",
        f"ff-{TRACE_ID}-{SPAN_ID}-01-more",
        PARENT.upper(),
        f"00-{'A' * 32}-{SPAN_ID}-01",
        f"0A-{TRACE_ID}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}-0X",
        f"{PARENT}\n",
        f" {PARENT}",
        f"{PARENT}-x",
        f"{PARENT}-",
        f"01-{TRACE_ID}-{SPAN_ID}-01x",
        f"01-{TRACE_ID}-{SPAN_ID}-01-a\r\nX-Evil: 1",
        f"01-{TRACE_ID}-{SPAN_ID}-01-{'x' * 500}",
        f"00-{TRACE_ID[:-1]}-{SPAN_ID}-01",
        f"00-{TRACE_ID}-{SPAN_ID}",
        f"{TRACE_ID}-{SPAN_ID}-01",
    ],
)
def test_what_is_no_parent_is_dropped_and_the_state_with_it(parent: str | None) -> None:
    assert trace_context(parent, "a=1") == {}


@pytest.mark.parametrize(
    "state",
    [
        "a=1",
        "a=1,b=2",
        "a=1 ,\tb=2,,",
        "fw529a3039@dt=FfAz01,1a@2=x y",
        "a*/_-9=!+-<>~",
        ",".join(f"k{number}=v" for number in range(32)),
        f"a={'v' * 256}",
        f"a={'v' * 250},b={'v' * 250}",
    ],
)
def test_valid_state_travels_on(state: str) -> None:
    assert trace_context(PARENT, state) == {"traceparent": PARENT, "tracestate": state}


@pytest.mark.parametrize(
    "state",
    [
        None,
        "",
        ",",
        "a",
        "a=",
        "=1",
        "A=1",
        "a=1=2",
        "a=1;b=2",
        "a=1,a=2",
        "a =1",
        "a= \x7f",
        "a=\u00e4",
        "a=1\r\nX-Evil: 1",
        "@a=1",
        f"{'k' * 257}=1",
        f"a={'v' * 257}",
        ",".join(f"k{number}=v" for number in range(33)),
        ",".join(f"k{number}={'v' * 100}" for number in range(6)),
    ],
)
def test_what_is_no_state_is_dropped_and_the_parent_kept(state: str | None) -> None:
    assert trace_context(PARENT, state) == {"traceparent": PARENT}


@MODERATE
@given(st.text(max_size=60), st.text(max_size=60))
def test_what_travels_on_fits_in_a_header(parent: str, state: str) -> None:
    kept = "".join(trace_context(parent, state).values()).replace("\t", " ")

    assert kept.isascii()
    assert kept.isprintable()
