"""The workers that are measured: the product, what would be used instead, and the bound."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aio_pika

from benchmarks.loads import FLOOD, Load

Jobs = Sequence[Mapping[str, str]]
_COMMAND: Final = str(Path(sys.executable).with_name("aimicromind-worker"))
_PREFORK_LIMIT: Final = 10


@dataclass(frozen=True, slots=True)
class Place:
    """Where a worker works in one turn.

    Attributes:
        prefix: Of the names on the broker; those of another turn are others.
    """

    amqp_url: str
    base_url: str
    prefix: str
    slots: int

    @property
    def copies(self) -> str:
        """A queue for copies of events, which forgets."""
        return f"copies-of-{self.prefix}"


Program = tuple[Sequence[str], Mapping[str, str]]


async def _send(place: Place, jobs: Jobs, reply_to: str | None = None) -> None:
    # Confirmed: a quorum queue may lose what its publisher's channel does not wait for.
    async with await aio_pika.connect(place.amqp_url) as connection:
        exchange = (await connection.channel()).default_exchange
        messages = (
            aio_pika.Message(json.dumps(job).encode(), delivery_mode=2, reply_to=reply_to)
            for job in jobs
        )
        await asyncio.gather(*(exchange.publish(it, f"{place.prefix}.jobs") for it in messages))


async def _send_with_reply_to(place: Place, jobs: Jobs) -> None:
    await _send(place, jobs, place.copies)


async def _send_tasks(place: Place, jobs: Jobs) -> None:
    await asyncio.to_thread(_put_tasks, place, jobs)


def _put_tasks(place: Place, jobs: Jobs) -> None:
    from benchmarks.peers.celery_app import TASK, celery_app  # noqa: PLC0415 - only if needed

    with celery_app(place.amqp_url, place.prefix) as app, app.producer_pool.acquire() as producer:
        for job in jobs:
            app.send_task(TASK, args=[job], producer=producer)


@dataclass(frozen=True, slots=True)
class Worker:
    """One that is measured.

    Attributes:
        name: What it is called in tables.
        program: Gives its command line and environment.
        ready: What it prints once it takes jobs.
        send: Puts jobs where it takes them from.
        fits: Whether it can carry a load at all.
        is_product: Whether it needs the product's topology.
        event_log: Whether the broker keeps its events in the event log.
        journal: Whether the broker keeps its milestones.
    """

    name: str
    program: Callable[[Place], Program]
    ready: str = "ready"
    send: Callable[[Place, Jobs], Awaitable[None]] = _send
    fits: Callable[[Load], bool] = lambda _: True
    is_product: bool = False
    event_log: bool = True
    journal: bool = True


def _peer(module: str) -> Callable[[Place], Program]:
    def program(place: Place) -> Program:
        to_there = (place.amqp_url, place.base_url, place.prefix, str(place.slots))
        return (sys.executable, "-m", f"benchmarks.peers.{module}", *to_there), {}

    return program


def _celery(pool: str) -> Callable[[Place], Program]:
    def program(place: Place) -> Program:
        command = (sys.executable, "-m", "celery", "-A", "benchmarks.peers.celery_app", "worker")
        options = ("-P", pool, "-c", str(place.slots), "-l", "INFO", "--without-gossip")
        environment = {
            "BENCH_AMQP_URL": place.amqp_url,
            "BENCH_BASE_URL": place.base_url,
            "BENCH_PREFIX": place.prefix,
        }
        return (*command, *options, "--without-mingle"), environment

    return program


def _product(**settings: str) -> Callable[[Place], Program]:
    def program(place: Place) -> Program:
        given = {
            "AMQP_URL": place.amqp_url,
            "BASE_URL": place.base_url,
            "PREFIX": place.prefix,
            "CONCURRENCY": str(place.slots),
            "HEALTH_HOST": "127.0.0.1",
            "HEALTH_PORT": "0",
            **settings,
        }
        return (_COMMAND, "run"), {f"AIMICROMIND_{name}": it for name, it in given.items()}

    return program


PRODUCT: Final = Worker("aimicromind-worker", _product(), "worker.ready", is_product=True)
NAIVE: Final = Worker("naive", _peer("naive"))
FASTSTREAM: Final = Worker("FastStream", _peer("fast_stream"))
CELERY_GEVENT: Final = Worker("Celery gevent", _celery("gevent"), " ready.", _send_tasks)
CELERY_PREFORK: Final = Worker(
    "Celery prefork",
    _celery("prefork"),
    " ready.",
    _send_tasks,
    fits=lambda load: load.streams <= _PREFORK_LIMIT and load.rate != FLOOD,
)
RAW: Final = Worker("raw bound", _peer("raw"))
WORKERS: Final = (NAIVE, FASTSTREAM, CELERY_GEVENT, CELERY_PREFORK, PRODUCT, RAW)

WITHOUT_LOG: Final = Worker(
    "without event log",
    _product(EVENTS_LOG="false"),
    "worker.ready",
    is_product=True,
    event_log=False,
)
WITHOUT_JOURNAL: Final = Worker(
    "without journal", _product(), "worker.ready", is_product=True, journal=False
)
WITH_COPIES: Final = Worker(
    "with reply_to copies", _product(), "worker.ready", _send_with_reply_to, is_product=True
)
COSTS: Final = (WITHOUT_LOG, WITHOUT_JOURNAL, WITH_COPIES)
