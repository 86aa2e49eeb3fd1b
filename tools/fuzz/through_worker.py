"""Run mutated recordings from an HTTP server through a worker and a broker to a consumer."""

from collections.abc import Iterator
from pathlib import Path

from aimicromind_schemas import Names
from aimicromind_testing import Cut, Finish, Head, PrivateBroker, Script, Send
from tests.process.jobs import Job, a_job
from tests.process.stage import Stage, set_up
from tests.support.checker import Broken
from tests.support.consumer import Consumer
from tests.support.processes import WorkerProcess
from tools.fuzz.judge import ending_of, violations
from tools.fuzz.mutations import MAX_ANSWER_BYTES, MAX_FRAME_BYTES, Case, case
from tools.fuzz.report import Report

_BATCH = 64
_BATCH_WITHIN_S = 60.0
_MOST_WORKER_MB = 200
_SETTINGS = {
    "MAX_CALLS": 1,
    "MAX_FRAME_BYTES": MAX_FRAME_BYTES,
    "MAX_ANSWER_BYTES": MAX_ANSWER_BYTES,
    "ATTEMPT_TIMEOUT_SECONDS": 20,
}


async def through_worker(
    broker: PrivateBroker, folder: Path, seed: int, numbers: range, report: Report
) -> None:
    """Run all cases with one worker, many at a time, and add violations to the report."""
    async with set_up(broker, Names(f"fuzz-{seed}"), folder, quiet=True) as stage:
        worker = await stage.ready_worker(**_SETTINGS)
        for first in range(numbers.start, numbers.stop, _BATCH):
            some = range(first, min(first + _BATCH, numbers.stop))
            await _carry(stage, {number: case(seed, number) for number in some}, report)
        report.worker_mb = worker.largest_mb
        report.wrong += _complaints(worker, report.worker_mb)
        await stage.stop_workers()


async def _carry(stage: Stage, cases: dict[int, Case], report: Report) -> None:
    jobs = {number: _job(stage, number, mutated) for number, mutated in cases.items()}
    with stage.listen() as consumer:
        stage.submit(*jobs.values())
        try:
            ids = [job.job_id for job in jobs.values()]
            await consumer.ended(*ids, within_s=_BATCH_WITHIN_S)
        except TimeoutError:
            pass  # `violations` finds jobs without an end.
        for number, mutated in cases.items():
            for wrong in _wrong(stage, consumer, jobs[number], mutated):
                report.violation(number, mutated, wrong)
            events = [dict(message.event) for message in consumer.job(jobs[number].job_id)]
            report.took(mutated, ending_of(events))


def _wrong(stage: Stage, consumer: Consumer, job: Job, mutated: Case) -> Iterator[str]:
    came = consumer.job(job.job_id)
    try:
        stage.judge(job, came)
    except Broken as broken:
        yield str(broken)
        return
    yield from violations(mutated, job.chat_id, [dict(message.event) for message in came])


def _job(stage: Stage, number: int, mutated: Case) -> Job:
    """Add a flow to the endpoint that answers with the case, and return a job for it."""
    flow = f"case-{number}"
    sends = (Send(chunk) for chunk in mutated.chunks)
    ending = Cut() if mutated.breaks else Finish()
    stage.endpoint.flow(flow, Script.of(Head(), *sends, ending))
    return a_job(flow, question=mutated.question)


def _complaints(worker: WorkerProcess, largest_mb: float) -> Iterator[str]:
    if not worker.runs:
        yield "the worker has ended"
    for line in worker.log(level="error"):
        yield f"the worker logged an error: {line}"
    if largest_mb > _MOST_WORKER_MB:
        yield f"the worker used {largest_mb:.0f} MB of memory"
