"""The workers that are measured: the product, its peers, and the lower bound."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import aio_pika

from benchmarks.turns.loads import FLOOD, Load

Jobs = Sequence[Mapping[str, str]]
_COMMAND: Final = str(Path(sys.executable).with_name("aimicromind-worker"))
_PREFORK_LIMIT: Final = 10


@dataclass(frozen=True, slots=True)
class TurnPlace:
    """Addresses for a worker in one turn.

    Attributes:
        amqp_url: Address of the broker.
        base_url: Base address of the endpoint.
        prefix: First word of the names on the broker, another one in each turn.
        slots: Most concurrent jobs.
    """

    amqp_url: str
    base_url: str
    prefix: str
    slots: int

    @property
    def copies(self) -> str:
        """Name of a queue for copies of events, which drops its oldest."""
        return f"copies-of-{self.prefix}"


Program = tuple[Sequence[str], Mapping[str, str]]


async def _send(place: TurnPlace, jobs: Jobs, reply_to: str | None = None) -> None:
    # Confirmed: a quorum queue may lose messages whose publisher closes the channel early.
    async with await aio_pika.connect(place.amqp_url) as connection:
        exchange = (await connection.channel()).default_exchange
        messages = (
            aio_pika.Message(json.dumps(job).encode(), delivery_mode=2, reply_to=reply_to)
            for job in jobs
        )
        await asyncio.gather(*(exchange.publish(it, f"{place.prefix}.jobs") for it in messages))


async def _send_with_reply_to(place: TurnPlace, jobs: Jobs) -> None:
    await _send(place, jobs, place.copies)


async def _send_tasks(place: TurnPlace, jobs: Jobs) -> None:
    await asyncio.to_thread(_put_tasks, place, jobs)


def _put_tasks(place: TurnPlace, jobs: Jobs) -> None:
    from benchmarks.peers.celery_app import TASK, celery_app  # noqa: PLC0415 - only if needed

    with celery_app(place.amqp_url, place.prefix) as app, app.producer_pool.acquire() as producer:
        for job in jobs:
            app.send_task(TASK, args=[job], producer=producer)


@dataclass(frozen=True, slots=True)
class MeasuredWorker:
    """A worker that is measured.

    Attributes:
        name: Name in tables.
        program: Returns its command line and environment.
        ready: Words that it prints once it is ready.
        send: Submits jobs.
        fits: Whether it can run a load at all.
        is_product: Whether it needs the product's topology.
        event_log: Whether the topology has the event log.
    """

    name: str
    program: Callable[[TurnPlace], Program]
    ready: str = "ready"
    send: Callable[[TurnPlace, Jobs], Awaitable[None]] = _send
    fits: Callable[[Load], bool] = lambda _: True
    is_product: bool = False
    event_log: bool = True


def _peer(module: str) -> Callable[[TurnPlace], Program]:
    def program(place: TurnPlace) -> Program:
        to_there = (place.amqp_url, place.base_url, place.prefix, str(place.slots))
        return (sys.executable, "-m", f"benchmarks.peers.{module}", *to_there), {}

    return program


def _celery(pool: str) -> Callable[[TurnPlace], Program]:
    def program(place: TurnPlace) -> Program:
        command = (sys.executable, "-m", "celery", "-A", "benchmarks.peers.celery_app", "worker")
        options = ("-P", pool, "-c", str(place.slots), "-l", "INFO", "--without-gossip")
        environment = {
            "BENCH_AMQP_URL": place.amqp_url,
            "BENCH_BASE_URL": place.base_url,
            "BENCH_PREFIX": place.prefix,
        }
        return (*command, *options, "--without-mingle"), environment

    return program


def _product(**settings: str) -> Callable[[TurnPlace], Program]:
    def program(place: TurnPlace) -> Program:
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


PRODUCT: Final = MeasuredWorker("aimicromind-worker", _product(), "worker.ready", is_product=True)
NAIVE: Final = MeasuredWorker("naive", _peer("naive"))
FASTSTREAM: Final = MeasuredWorker("FastStream", _peer("fast_stream"))
CELERY_GEVENT: Final = MeasuredWorker("Celery gevent", _celery("gevent"), " ready.", _send_tasks)
CELERY_PREFORK: Final = MeasuredWorker(
    "Celery prefork",
    _celery("prefork"),
    " ready.",
    _send_tasks,
    fits=lambda load: load.streams <= _PREFORK_LIMIT and load.rate != FLOOD,
)
RAW: Final = MeasuredWorker("raw bound", _peer("raw"))
WORKERS: Final = (NAIVE, FASTSTREAM, CELERY_GEVENT, CELERY_PREFORK, PRODUCT, RAW)

WITHOUT_LOG: Final = MeasuredWorker(
    "without event log",
    _product(EVENTS_LOG="false"),
    "worker.ready",
    is_product=True,
    event_log=False,
)
WITH_COPIES: Final = MeasuredWorker(
    "with reply_to copies", _product(), "worker.ready", _send_with_reply_to, is_product=True
)
COSTS: Final = (WITHOUT_LOG, WITH_COPIES)
