"""Check that nothing is left on the broker and the machine once all jobs have ended."""

import asyncio
import time

from tests.support.checker import Counter, Listener
from tests.support.consumer import message_ids
from tests.support.watch import Watch
from tools.soak.plant import Plant

# A quorum queue updates its figures every 5 s; idle HTTP connections are kept for 15 s.
_SETTLED_WITHIN_S = 40.0
_FD_SLACK = 3
# The default of AIMICROMIND_CONCURRENCY.
_SLOTS = 32
_FAILED = ("failed", "expired", "rejected", "cancelled")


async def settled_counters(plant: Plant, listener: Listener, watch: Watch) -> list[Counter]:
    """Return what is there beside what must be; wait up to 40 s until they are equal."""
    until = time.monotonic() + _SETTLED_WITHIN_S
    while True:
        counters = [
            *await _on_the_broker(plant),
            *_on_the_machine(plant, watch),
            _dead_letters(plant, listener),
        ]
        settled = all(abs(it.after - it.before) <= it.slack for it in counters)
        if settled or time.monotonic() > until:
            return counters
        await asyncio.sleep(1)


async def _on_the_broker(plant: Plant) -> list[Counter]:
    """Expect empty queues, and one consumer and two connections for each worker."""
    names = plant.names
    printed = await plant.broker.rabbitmqctl(
        "list_queues", "name", "messages_unacknowledged", "messages", "consumers"
    )
    counters = []
    for line in printed.splitlines():
        name, unacked, messages, consumers = line.split("\t")
        if not name.startswith(f"{names.jobs}") or name == names.jobs_dead:
            continue
        consumed = name in {names.jobs, names.jobs_reaped}
        counters += [
            Counter(f"unacked of {name}", 0, int(unacked)),
            Counter(f"messages of {name}", 0, int(messages)),
            # A worker whose jobs waited for their chats may keep some consumers for its free slots.
            Counter(
                f"consumers of {name}",
                len(plant.places) * consumed,
                int(consumers),
                slack=len(plant.places) * _SLOTS if name == names.jobs else 0,
            ),
        ]
    printed = await plant.broker.rabbitmqctl("list_connections", "client_properties")
    connections = sum("aimicromind-worker" in line for line in printed.splitlines())
    return [*counters, Counter("workers' connections", 2 * len(plant.places), connections)]


def _on_the_machine(plant: Plant, watch: Watch) -> list[Counter]:
    watch.measure()
    counters = []
    for place in plant.places:
        first, last = watch.sizes[place.name][0], watch.sizes[place.name][-1]
        counters += [
            # Fewer are no leak: idle HTTP connections are closed.
            Counter(
                f"file descriptors of {place.name}", min(first.fds, last.fds), last.fds, _FD_SLACK
            ),
            Counter(f"connections by the proxy of {place.name}", 2, place.proxy.open),
        ]
    return counters


def _dead_letters(plant: Plant, listener: Listener) -> Counter:
    failed = sum(listener.statuses()[status] for status in _FAILED)
    # A worker may be lost between the dead letter and the acknowledgement: then there are two.
    found = message_ids(plant.broker.url, plant.names.jobs_dead)
    return Counter("jobs among the dead letters", failed, len(found))
