"""Run jobs with faults at random times: `JOBS=20000 WORKERS=3 SEED=1 python -m tools.soak`.

PAUSE is the mean time between two faults, in seconds. FOLDER keeps logs and calls. The exit code
is 1 if a promise was broken.
"""

import asyncio
import os
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import groupby
from pathlib import Path

import psutil

from tests.support.checker import Gauge, Listener, Run, Tolerance, Violation
from tests.support.steady_consumer import SteadyConsumer
from tests.support.watch import Watch
from tools.soak.endpoint import noted_calls
from tools.soak.faults import Facts, Faults
from tools.soak.leftovers import settled_counters
from tools.soak.load import Order, Producer
from tools.soak.outages import judged
from tools.soak.plant import a_plant
from tools.soak.report import report
from tools.soak.windows import windows_of

_CONSUMER_QUEUE = "consumer"
_STALLED_AFTER_S = 150.0
# Jobs without an end, for each worker.
_AHEAD = 40
# RabbitMQ 3.10: a stream that was declared just before a SIGKILL stays down after the restart.
_DECLARED_FOR_GOOD_AFTER_S = 5.0
_MOST_WORKER_MB = 250
_MOST_SHOWN = 30


async def soak(jobs: int, workers: int, seed: int, pause_s: float, folder: Path) -> bool:
    """Run all jobs, print the figures, and return whether all promises were kept."""
    began = time.monotonic()
    run = Run()
    async with a_plant(folder, workers, seed) as plant:
        listener = Listener("consumer", plant.names.events, run.asked)
        run.listeners.append(listener)
        watch = Watch(plant.running)
        watch.measure()
        faults = Faults(plant, lambda: listener.ended, seed, pause_s)
        with ExitStack() as stack:
            url = plant.broker.url
            consumer = SteadyConsumer(url, plant.names.events, _CONSUMER_QUEUE, listener.take)
            stack.enter_context(consumer)
            await asyncio.sleep(_DECLARED_FOR_GOOD_AFTER_S)
            order = Order(plant.names.jobs, jobs, workers * _AHEAD, seed)
            producer = Producer(url, order, run.asked, lambda: listener.ended, listener.has_ended)
            stack.enter_context(producer)
            async with watch.watching():
                await _work(producer, listener, faults)
            took_s = time.monotonic() - began
            run.counters += await settled_counters(plant, listener, watch)
            codes = await plant.stop_all()
        facts = faults.facts
        windows = windows_of(folder)
        run.delayed = windows.unpublished
        run.calls = noted_calls(plant.endpoint.log, plant.endpoint.deaths)
        _fill_in(run, facts, watch)
        strange = [*facts.strange, *([f"exit codes {codes}"] if any(codes) else [])]
        violations = [*run.violations(), *(Violation("I6", said) for said in strange)]
        report(run, producer, facts, watch, took_s)
    print(f"jobs that ran again on a worker that still read the journal: {len(windows.ran_again)}")
    print(f"jobs whose `end` was recorded and not published: {len(windows.unpublished)}")
    print(f"jobs whose copy ran before anybody knew of the lost worker: {len(windows.unknown)}")
    excused = {"I5": windows.ran_again | windows.unknown}
    broken = [it for it in violations if it.job_id not in excused.get(it.rule, windows.ran_again)]
    _print(broken)
    return not broken


def _fill_in(run: Run, facts: Facts, watch: Watch) -> None:
    """Add what is known of the faults and of the workers."""
    run.fencing = facts.fencing
    run.tolerance = Tolerance(facts.interruptions, facts.endpoint_down)
    run.outages = judged(facts.outages, facts.endpoint_down, facts.stopped)
    run.probes = watch.probes
    sizes = [size for of_one in watch.sizes.values() for size in of_one]
    run.gauges = [Gauge("worker memory, MB", it.at, it.rss_mb) for it in sizes]
    run.limits = {"worker memory, MB": _MOST_WORKER_MB}


def _print(violations: Sequence[Violation]) -> None:
    """Print the first violations of each rule: those of one may be very many."""

    def rule(violation: Violation) -> str:
        return violation.rule

    for name, of_rule in groupby(sorted(violations, key=rule), key=rule):
        found = list(of_rule)
        print(f"{name}: {len(found)} violations")
        for violation in found[:_MOST_SHOWN]:
            print(violation)
    print(f"{len(violations)} violations")


async def _work(producer: Producer, listener: Listener, faults: Faults) -> None:
    """Do faults until all jobs have ended, or none has ended for 150 s."""
    submitted, all_ended = asyncio.Event(), asyncio.Event()
    doing = asyncio.create_task(faults.run(submitted, all_ended))
    moved, ended = time.monotonic(), 0
    while not (producer.done.is_set() and listener.ended >= producer.confirmed):
        await asyncio.sleep(0.1)
        if listener.ended != ended:
            moved, ended = time.monotonic(), listener.ended
        if producer.done.is_set():
            submitted.set()
        if doing.done():
            await doing
        if time.monotonic() - moved > _STALLED_AFTER_S:
            print(f"no job ended for {_STALLED_AFTER_S:g} s; the violations name the missing ones")
            break
    submitted.set()
    all_ended.set()
    await doing


def main() -> None:
    jobs, workers = int(os.environ.get("JOBS", "20000")), int(os.environ.get("WORKERS", "3"))
    seed = int(os.environ.get("SEED") or random.randrange(1_000_000))
    pause_s = float(os.environ.get("PAUSE", "1.5"))
    print(f"JOBS={jobs} WORKERS={workers} SEED={seed} PAUSE={pause_s:g}", flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as made:
        folder = Path(os.environ.get("FOLDER", made))
        folder.mkdir(parents=True, exist_ok=True)
        good = asyncio.run(soak(jobs, workers, seed, pause_s, folder))
    print(f"memory of this process: {psutil.Process().memory_info().rss / 1e6:.0f} MB")
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
