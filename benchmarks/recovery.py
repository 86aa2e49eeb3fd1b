"""Measure recovery after a broker restart, and a drain: `python -m benchmarks.recovery`."""

import asyncio
import logging
import signal
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from tests.faults.trial import Trial, a_trial
from tests.process.jobs import Job
from tests.support.marked import marked
from tests.support.probes import turns
from tests.support.processes import WorkerProcess

_TURNS = 5
_STREAMS = 50
_GRACE_S = 5
_WITHIN_S = 60.0


async def main() -> None:
    logging.disable()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        async with (
            PrivateBroker() as broker,
            a_trial(broker, Names("bench"), Path(folder)) as trial,
        ):
            trial.endpoint.flow("flow", marked())
            workers = [await trial.worker(CONCURRENCY=_STREAMS) for _ in range(3)]
            with trial.listening():
                await _restarts(trial, workers)
                for worker in workers:
                    worker.signal(signal.SIGTERM)
                    await worker.exits(_WITHIN_S)
                await _drain(trial)


async def _restarts(trial: Trial, workers: list[WorkerProcess]) -> None:
    """Kill the broker while jobs run, and start it again."""
    print("| broker killed and started again | s |")
    print("|---|---:|")
    ready, first, whole = [], [], []
    for _ in range(_TURNS):
        jobs = [trial.job(tokens=40, rate=20) for _ in range(30)]
        trial.submit(*jobs)
        await _running(trial, jobs)
        await trial.broker.kill()
        await trial.broker.start()
        back = time.monotonic()
        for worker in workers:
            await turns(f"{await worker.health_url()}/readyz", 200, _WITHIN_S)
        ready.append(time.monotonic() - back)
        await trial.heard.until(partial(_newer, trial, back), _WITHIN_S)
        first.append(next(it.at for it in trial.heard.messages if it.at > back) - back)
        await trial.ended(*jobs, within_s=_WITHIN_S)
        whole.append(time.monotonic() - back)
    for what, figures in (
        ("from its start to the first event", first),
        ("to all three workers ready", ready),
        ("to the end of 30 interrupted jobs of 2 s", whole),
    ):
        print(f"| {what}, median of {_TURNS} (most) | {_shown(figures)} |", flush=True)


async def _drain(trial: Trial) -> None:
    """Stop a worker with many streams by SIGTERM."""
    long = [trial.job(tokens=400, rate=20) for _ in range(_STREAMS // 2)]
    short = [trial.job(tokens=60, rate=20) for _ in range(_STREAMS // 2)]
    draining = await trial.worker(CONCURRENCY=_STREAMS, DRAIN_SECONDS=_GRACE_S)
    trial.submit(*long, *short)
    await _running(trial, [*long, *short])
    told = time.monotonic()
    draining.signal(signal.SIGTERM)
    code = await draining.exits(_WITHIN_S)
    took_s = time.monotonic() - told
    finished = sum(trial.heard.count(job.job_id, "end") for job in [*long, *short])
    await trial.worker(CONCURRENCY=_STREAMS)
    every = await trial.ended(*long, *short, within_s=_WITHIN_S)
    print(f"\nSIGTERM with {_STREAMS} streams and {_GRACE_S} s of grace: exit {code} after")
    completed = sum(seen.end["status"] == "completed" for seen in every)
    print(f"{took_s:.2f} s; {finished} jobs finished, {_STREAMS - finished} published again, of")
    print(f"which {completed - finished} completed at the next worker.")


def _newer(trial: Trial, moment: float) -> bool:
    return trial.heard.messages[-1].at > moment


async def _running(trial: Trial, jobs: list[Job]) -> None:
    ids = {job.job_id for job in jobs}
    await trial.heard.until(
        lambda: ids <= {it.event["jobId"] for it in trial.heard.messages if it.name == "token"},
        _WITHIN_S,
    )


def _shown(figures: list[float]) -> str:
    return f"{statistics.median(figures):.2f} ({max(figures):.2f})"


if __name__ == "__main__":
    asyncio.run(main())
