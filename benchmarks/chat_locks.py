"""Measure what a chat lock costs the broker, beside other locks: `python -m benchmarks.chat_locks`.

Sixteen lockers take and release locks of one kind, each one after the other. The broker's CPU time
is that of all nodes. It is known of nodes that the command starts, and of processes that are named.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from itertools import count
from typing import Final
from uuid import uuid4

import click

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from aimicromind_worker.amqp.connection import connect
from benchmarks.locks.kinds import KINDS, Locker, LockKind
from tests.support.cluster import running_cluster
from tests.support.strain import cpu_s

_WARM_UPS: Final = 320
_LOCKERS: Final = 16
_HEARTBEAT: Final = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class LockFigures:
    """Figures of one kind.

    Attributes:
        locks_per_s: Locks taken and released a second.
        took_ms: Time from the request for each lock until it was granted.
        broker_ms: CPU time of all nodes for a lock; None where no process is known.
        client_ms: CPU time of this process for a lock.
    """

    locks_per_s: float
    took_ms: Sequence[float]
    broker_ms: float | None
    client_ms: float


@dataclass(frozen=True, slots=True)
class LockBroker:
    """The nodes: their addresses, and their processes as far as they are known."""

    urls: Sequence[str]
    pids: Sequence[int]

    def cpu_s(self) -> float:
        return sum(map(cpu_s, self.pids))


@click.command()
@click.option("--url", "urls", multiple=True, help="Use this broker; several: nodes of a cluster.")
@click.option("--pid", "pids", multiple=True, type=int, help="Process of such a node.")
@click.option("--nodes", type=click.Choice(["1", "3"]), default="1", help="Nodes to start.")
@click.option("--locks", default=1000, show_default=True, help="Locks of each kind and turn.")
@click.option("--turns", default=3, show_default=True, help="Number of turns.")
@click.option("--kind", "only", multiple=True, help="Measure only kinds with this in their name.")
def main(
    *,
    urls: tuple[str, ...],
    pids: tuple[int, ...],
    nodes: str,
    locks: int,
    turns: int,
    only: tuple[str, ...],
) -> None:
    """Print a table with the median turn of each kind, by the broker's CPU time."""
    kinds = [it for it in KINDS if not only or any(part in it.name for part in only)]
    if not kinds:
        raise click.UsageError("no kind has this in its name")
    given = LockBroker(urls, pids) if urls else None
    asyncio.run(_print_all(kinds, given, int(nodes), locks, turns))


async def _print_all(
    kinds: Sequence[LockKind], given: LockBroker | None, nodes: int, locks: int, turns: int
) -> None:
    found: dict[str, list[LockFigures]] = {kind.name: [] for kind in kinds}
    async with _broker(given, nodes) as broker:
        # A node that has just started is slower.
        await measure(kinds[0], broker, locks, _LOCKERS)
        for number in range(turns):
            # The order alternates, because the broker's code warms up, too.
            for kind in kinds if number % 2 == 0 else kinds[::-1]:
                found[kind.name].append(await measure(kind, broker, locks, _LOCKERS))
    print("| lock | locks/s | median ms | p99 ms | broker CPU ms | client CPU ms |")
    print("|---|---:|---:|---:|---:|---:|")
    for name, figures in found.items():
        print(f"| {name} | {_cells(sorted(figures, key=_cost)[len(figures) // 2])} |")


def _cost(figures: LockFigures) -> float:
    return figures.broker_ms if figures.broker_ms is not None else -figures.locks_per_s


def _cells(figures: LockFigures) -> str:
    ordered = sorted(figures.took_ms)
    broker = "not known" if figures.broker_ms is None else f"{figures.broker_ms:.2f}"
    return (
        f"{figures.locks_per_s:.0f} | {statistics.median(ordered):.1f} "
        f"| {ordered[int(len(ordered) * 0.99)]:.1f} | {broker} | {figures.client_ms:.2f}"
    )


@asynccontextmanager
async def _broker(given: LockBroker | None, nodes: int) -> AsyncIterator[LockBroker]:
    if given is not None:
        yield given
    elif nodes == 1:
        async with PrivateBroker() as node:
            yield LockBroker([node.url], [node.pid])
    else:
        async with running_cluster() as cluster:
            yield LockBroker(cluster.urls, [it.pid for it in cluster.nodes])


async def measure(
    kind: LockKind, broker: LockBroker, locks: int, lockers: int, warm_ups: int = _WARM_UPS
) -> LockFigures:
    """Take and release locks of one kind, by lockers that are spread over the addresses.

    Args:
        kind: The kind.
        broker: The nodes.
        locks: How many locks, in all.
        lockers: How many lockers, at least one for each address.
        warm_ups: How many locks before, which do not count.
    """
    names = Names(f"locks-{uuid4().hex[:8]}")
    async with AsyncExitStack() as stack:
        each, ours = -(-lockers // len(broker.urls)), list[Locker]()
        for url in broker.urls:
            connection = await stack.enter_async_context(connect([url], "bench", _HEARTBEAT))
            ours += await kind.open(connection, names, each)
        await _take(kind, ours, warm_ups)
        began, used_s, client_s = time.perf_counter(), broker.cpu_s(), time.process_time()
        took_ms = await _take(kind, ours, locks)
        took_s = time.perf_counter() - began
        return LockFigures(
            locks / took_s,
            took_ms,
            (broker.cpu_s() - used_s) / locks * 1000 if broker.pids else None,
            (time.process_time() - client_s) / locks * 1000,
        )


async def _take(kind: LockKind, lockers: Sequence[Locker], locks: int) -> list[float]:
    took_ms: list[float] = []
    numbers = iter(range(locks))

    async def go_on(place: int, locker: Locker) -> None:
        own = count()
        for _ in numbers:
            # No two lockers have a chat in common: no lock is refused.
            number = next(own) % kind.chats if kind.chats else uuid4().hex
            chat_id = f"{place}-{number}"
            began = time.perf_counter()
            await locker.lock(chat_id)
            took_ms.append((time.perf_counter() - began) * 1000)
            await locker.unlock(chat_id)

    async with asyncio.TaskGroup() as group:
        for place, locker in enumerate(lockers):
            group.create_task(go_on(place, locker))
    return took_ms


if __name__ == "__main__":
    main()
