"""Messages that the broker takes and a library may not: each costs itself and nothing else."""

import asyncio
import struct
from collections.abc import Callable

import pytest

from aimicromind_schemas import Names
from aimicromind_testing import answer
from tests.process.jobs import Job, a_job
from tests.process.stage import Stage
from tests.support.amqp import connections_of
from tests.support.checker import Seen
from tests.support.raw import Raw, headers, named, nested, publish, table

_WITHIN_S = 40.0

pytestmark = pytest.mark.timeout(180)
_UNREADABLE = {
    "tables 600 deep": headers(named(b"odd", nested(600))),
    "tables 2,000 deep": headers(named(b"odd", nested(2_000))),
    "arrays 20,000 deep": headers(named(b"odd", nested(20_000, b"A"))),
    "just too deep": headers(named(b"odd", nested(8))),
    "2,000 fields": headers(*(named(b"%d" % it, b"V") for it in range(1_000)), named(b"odd", b"V")),
    "65,000 fields in one": headers(named(b"odd", b"A" + table(b"V" * 65_000))),
}
_ODD = {
    "text that is not UTF-8": headers(named(b"\xff\xfe", b"S" + table(b"\xff"))),
    "times beyond the calendar": headers(named(b"at", b"T" + struct.pack(">Q", 2**64 - 1))),
    "130,000 bytes": headers(named(b"long", b"S" + table(b"x" * 130_000))),
}
# Whatever a place holds that is made of such headers, and a body that is none of its own.
_PLACES: dict[str, Callable[[Names], tuple[str, str]]] = {
    "control": lambda names: (names.control, ""),
    "control log": lambda names: ("", names.control_log),
    "journal": lambda names: ("", names.journal),
    "event log": lambda names: ("", names.events_log_stream()),
}


async def _beside(stage: Stage, poison: list[Raw], *rejected: Job) -> tuple[list[Seen], list[Seen]]:
    """Send poison to two workers that have a long job each, and give what came of all jobs."""
    stage.endpoint.flow("flow", *(answer(100, rate=20) for _ in range(2)))
    workers = await stage.ready_workers(2)
    before = await connections_of(stage.broker, "aimicromind")
    assert len(before) == 2 * len(workers)
    innocent = [a_job(), a_job()]
    with stage.listen() as consumer:
        stage.submit(*innocent)
        for job in innocent:
            await stage.workers.holder(job.job_id)
        await asyncio.to_thread(publish, stage.broker.port, poison)
        completed = await stage.ended(consumer, *innocent, within_s=_WITHIN_S)
        await consumer.ended(*(job.job_id for job in rejected), within_s=_WITHIN_S)

    assert await connections_of(stage.broker, "aimicromind") == before
    assert all(worker.runs and not worker.log("broker.lost") for worker in workers)
    assert [worker.counts["worker.ready"] for worker in workers] == [1, 1]
    return [Seen.of(consumer.job(job.job_id)) for job in rejected], completed


def _completed_at_once(jobs: list[Seen]) -> bool:
    return all((it.end["status"], it.end["attempts"]) == ("completed", 1) for it in jobs)


@pytest.mark.parametrize("queue", ["jobs", "jobs_reaped"])
async def test_job_that_no_library_reads_is_rejected_alone(stage: Stage, queue: str) -> None:
    jobs = {odd: a_job() for odd in _UNREADABLE}
    to = getattr(stage.names, queue)
    poison = [Raw(job.message[0], _UNREADABLE[odd], to) for odd, job in jobs.items()]

    rejected, innocent = await _beside(stage, poison, *jobs.values())
    # A job is parked after its end.
    await stage.stop_workers()

    assert {it.end["status"] for it in rejected} == {"rejected"}
    errors = [it.only("error") for it in rejected]
    assert {error["kind"] for error in errors} == {"invalid_job"}
    assert all("the header 'odd' is" in error["message"] for error in errors), errors
    assert _completed_at_once(innocent)
    assert stage.dead_jobs() == len(jobs)


@pytest.mark.parametrize("place", _PLACES)
async def test_message_that_no_library_reads_costs_itself_alone(stage: Stage, place: str) -> None:
    exchange, key = _PLACES[place](stage.names)
    poison = [
        Raw(body, properties, key, exchange)
        for properties in (_UNREADABLE | _ODD).values()
        for body in (b"{}", b"[" * 100_000, b"\xff")
    ]
    poison.append(Raw(b"x" * (17 * 1024 * 1024), headers(), key, exchange))

    _, innocent = await _beside(stage, poison)
    # One that starts later reads what is kept, and looks up a job that came before.
    late = await stage.ready_worker()
    job = a_job("late", {"headers": {"x-aimicromind-attempt": 1}})
    stage.endpoint.flow("late", answer(3))
    with stage.listen() as consumer:
        stage.submit(job)
        (seen,) = await stage.ended(consumer, job)

    assert _completed_at_once(innocent)
    assert seen.end["status"] == "completed"
    assert not late.log("broker.lost")
