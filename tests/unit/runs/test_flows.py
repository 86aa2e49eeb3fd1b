"""What one flow's trouble does to itself, and that it does nothing to others."""

import asyncio
from contextlib import ExitStack
from datetime import timedelta

import pytest

from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.errors import (
    EndpointError,
    EndpointUnavailable,
    HeadersOverdue,
    Unauthorized,
)
from aimicromind_worker.core.endpoint.failures import failure_of_status, failure_of_text
from aimicromind_worker.runs.flows import Flows

REFUSED = failure_of_text("Error: predictionsServices.buildChatflow - Unauthorized")
ERROR = EndpointError("broken")
UNREACHED = EndpointUnavailable("refused", request_sent=False)
SLOTS = 8


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def flows_at(clock: Clock | None = None) -> Flows:
    return Flows(SLOTS, clock or Clock())


def fails(flows: Flows, flow: str, failure: CallFailed, times: int = 5) -> None:
    for _ in range(times):
        with flows.running(flow) as may_run:
            assert may_run
            flows.failed(flow, failure)


def may_run(flows: Flows, flow: str) -> int:
    """Tell how many jobs of a flow may run at once."""
    with ExitStack() as running:
        return sum(running.enter_context(flows.running(flow)) for _ in range(SLOTS))


@pytest.mark.parametrize("failure", [ERROR, HeadersOverdue(timedelta(seconds=1))], ids=str)
def test_flow_whose_last_five_calls_failed_holds_a_quarter_of_the_slots(
    failure: CallFailed,
) -> None:
    flows = flows_at()
    fails(flows, "sick", failure, times=4)
    assert may_run(flows, "sick") == SLOTS

    fails(flows, "sick", failure, times=1)

    assert (may_run(flows, "sick"), may_run(flows, "well")) == (SLOTS // 4, SLOTS)
    flows.succeeded("sick")
    assert may_run(flows, "sick") == SLOTS


def test_jobs_that_run_when_their_flow_falls_sick_make_room() -> None:
    flows = flows_at()
    with ExitStack() as running:
        for _ in range(SLOTS):
            running.enter_context(flows.running("sick"))
        assert not flows.holds_too_much("sick")
        for _ in range(5):
            flows.failed("sick", ERROR)

        assert flows.holds_too_much("sick")
        assert not flows.holds_too_much("well")
    assert not flows.holds_too_much("sick")


def test_endpoint_that_cannot_be_reached_is_no_flows_fault() -> None:
    flows = flows_at()
    fails(flows, "flow", UNREACHED, times=20)

    assert may_run(flows, "flow") == SLOTS


@pytest.mark.parametrize(
    ("failure", "locked"),
    [
        (REFUSED, True),
        (failure_of_status(401, "Unauthorized Access"), True),
        (failure_of_status(500, "Error: predictionsServices.buildChatflow - Unauthorized"), True),
        (failure_of_text("401 Incorrect API key provided: sk-…"), False),
        (Unauthorized("of a model"), False),
        (failure_of_text("Error: predictionsServices.buildChatflow - 401 Unauthorized"), False),
    ],
    ids=str,
)
def test_flow_is_locked_out_where_the_server_itself_refuses_the_key(
    failure: CallFailed,
    locked: bool,  # noqa: FBT001 - given by pytest
) -> None:
    flows = flows_at()
    fails(flows, "flow", failure)

    assert flows.is_locked("flow") == locked


def test_one_job_at_a_time_finds_out_whether_the_key_is_accepted() -> None:
    clock = Clock()
    flows = flows_at(clock)
    fails(flows, "flow", REFUSED)
    assert may_run(flows, "flow") == 0

    clock.now += 5
    assert may_run(flows, "flow") == 1
    with flows.running("flow") as probes:
        assert probes
        flows.failed("flow", REFUSED)
    clock.now += 5
    assert may_run(flows, "flow") == 0

    clock.now += 5
    with flows.running("flow") as probes:
        assert probes
        flows.succeeded("flow")
        assert may_run(flows, "flow") > 1


async def test_worker_pauses_where_every_flow_is_locked_out() -> None:
    clock = Clock()
    flows = flows_at(clock)
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    for number in range(3):
        assert flows.obstacle() is None
        fails(flows, f"flow-{number}", REFUSED)

    assert flows.obstacle() is not None
    clock.now += 5
    assert await flows.passes("flow-0", never, timedelta())
    assert await flows.passes("new", never, timedelta())
    flows.succeeded("flow-0")
    assert flows.obstacle() is None


async def test_worker_goes_on_while_any_flow_does() -> None:
    clock = Clock()
    flows = flows_at(clock)
    flows.succeeded("well")
    for number in range(9):
        fails(flows, f"flow-{number}", REFUSED)
    assert flows.obstacle() is None

    clock.now += 301
    assert flows.obstacle() is not None
    fails(flows, "sick", ERROR, times=1)
    assert flows.obstacle() is None


def test_flows_that_are_well_are_forgotten() -> None:
    flows = flows_at()
    for number in range(100):
        with flows.running(f"flow-{number}"):
            flows.failed(f"flow-{number}", ERROR)
            flows.succeeded(f"flow-{number}")

    assert not flows._flows  # noqa: SLF001 - memory is what this is about
