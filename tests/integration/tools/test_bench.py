"""The benchmark tells what is wrong with a worker: seen with an endpoint that makes it so."""

from collections.abc import AsyncIterator

import msgspec
import pytest_asyncio

from benchmarks.events import compare, row
from benchmarks.parts.tally import Count
from benchmarks.pools.versions import NOW, Version
from benchmarks.turns.loads import FLOOD, Load
from benchmarks.turns.queues import queues
from benchmarks.turns.turn import Stage, consuming, jobs, stage, turn, working
from benchmarks.turns.workers import PRODUCT, RAW

LOAD = Load(2, FLOOD, 30)


@pytest_asyncio.fixture
async def on() -> AsyncIterator[Stage]:
    async with stage() as on:
        yield on


async def counted(on: Stage, fault: str) -> Count:
    """Run the bound, which passes on what it gets, on answers with a fault."""
    place = on.place(LOAD.streams)
    asked = [{**job, "question": f"{job['question']} {fault}"} for job in jobs("job", 2, LOAD)]
    async with (
        queues(place, RAW),
        consuming(on, place, LOAD, warm_ups=0) as consumer,
        working(on, place, RAW),
    ):
        await RAW.send(place, asked)
        return msgspec.json.decode(await consumer.says("{", 20), type=Count)


async def test_a_token_that_is_left_out_counts_as_lost_and_one_that_is_late_as_disordered(
    on: Stage,
) -> None:
    whole = await counted(on, "")
    without_one = await counted(on, "skip=7")
    with_one_late = await counted(on, "swap=7")

    assert (whole.events, whole.wrong) == (66, 0)
    assert (without_one.lost, without_one.disordered) == (2, 0)
    assert (with_one_late.lost, with_one_late.disordered) == (0, 2)


async def test_a_turn_measures_the_installed_worker(on: Stage) -> None:
    figures = await turn(on, PRODUCT, LOAD)

    assert (figures.count.events, figures.count.wrong) == (66, 0)
    assert min(figures.cpu_us, figures.broker_cpu_us, figures.ready_cpu_s) > 0
    assert figures.idle_mb > 10


async def test_two_versions_are_measured_in_turns_on_one_broker() -> None:
    before = Version("before", NOW.folder, NOW.command)

    pairs = await compare(before, NOW, LOAD, 1)

    (pair,) = pairs
    for cost in pair:
        assert min(cost.worker_us, cost.broker_us, cost.events_per_s) > 0
    assert row(LOAD, pairs).count("|") == 9
