"""The faults of a soak: what is done, at random times, and what is then known of the run."""

import asyncio
import random
import signal
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from tests.support.checker import Outage, Span
from tests.support.probes import turns
from tests.support.processes import WorkerProcess
from tools.soak.plant import Place, Plant

_BACK_WITHIN_S = 30.0
_LEAVES_WITHIN_S = 12.0
# The worker and the broker see a reset at the same time, but what was under way is under way.
_FENCING_S = 1.0
# A broker that is gone is noticed with its connections.
_RED_WITHIN_S = 3.0
_JOBS, _EVENTS = "aimicromind-worker jobs", "aimicromind-worker events"

_Fault = Callable[[random.Random], Awaitable[None]]
_Kind = tuple[str, _Fault, int]
"""Name, what is done, and how often beside the others."""


@dataclass(slots=True)
class Facts:
    """What is known of the faults of a run.

    Attributes:
        done: How often each kind of fault was done.
        recovery_s: How long it took each time until all was well again.
    """

    done: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    recovery_s: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    interruptions: list[Span] = field(default_factory=list)
    fencing: list[Span] = field(default_factory=list)
    endpoint_down: list[Span] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)


class Faults:
    """Does them, one after the other, those of the endpoint beside those of broker and workers.

    The first worker is never ended, so that its memory can be watched for long.
    """

    def __init__(self, plant: Plant, ended: Callable[[], int], seed: int, pause_s: float) -> None:
        """Prepare.

        Args:
            plant: To do them to.
            ended: Says how many jobs have ended.
            seed: Decides what is done when.
            pause_s: Mean time between two faults.
        """
        self.facts = Facts()
        self._plant = plant
        self._ended = ended
        self._seed = seed
        self._pause_s = pause_s
        self._submitted = asyncio.Event()

    async def run(self, submitted: asyncio.Event, ended: asyncio.Event) -> None:
        """Do faults until all jobs have ended; all is well when this returns.

        The endpoint is left alone once all jobs were submitted: each of its deaths makes
        hundreds of jobs wait.
        """
        self._submitted = submitted
        kinds: list[_Kind] = [
            ("worker killed", self._kill_worker, 4),
            ("worker drained", self._end_worker, 3),
            ("connections reset", self._reset("connections reset", ""), 2),
            ("jobs connection reset", self._reset("jobs connection reset", _JOBS), 2),
            ("events connection reset", self._reset("events connection reset", _EVENTS), 2),
            ("broker killed", self._kill_broker, 1),
            ("broker suspended", self._suspend_broker, 2),
        ]
        endpoint: list[_Kind] = [("endpoint killed", self._kill_endpoint, 1)]
        await asyncio.gather(
            self._series(kinds, random.Random(f"{self._seed} pool"), ended, self._pause_s),
            self._series(
                endpoint, random.Random(f"{self._seed} end"), submitted, 10 * self._pause_s
            ),
        )

    async def _series(
        self,
        kinds: list[_Kind],
        chance: random.Random,
        stop: asyncio.Event,
        pause_s: float,
    ) -> None:
        # Every kind comes about as often as it should, also in a short run.
        bag: list[tuple[str, _Fault]] = []
        while True:
            pause = min(chance.expovariate(1 / pause_s), 4 * pause_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await stop.wait()
            if stop.is_set():
                return
            if not bag:
                bag = [(name, do) for name, do, weight in kinds for _ in range(weight)]
                chance.shuffle(bag)
            name, do = bag.pop()
            self.facts.done[name] += 1
            since = time.monotonic()
            print(f"{name}", flush=True)
            await do(chance)
            print(f"  {name}: {time.monotonic() - since:.1f} s", flush=True)

    async def _kill_worker(self, chance: random.Random) -> None:
        place = chance.choice(self._plant.places[1:])
        worker = _worker_at(place)
        killed = time.monotonic()
        worker.signal(signal.SIGKILL)
        await worker.exits()
        self.facts.interruptions.append(Span(killed, killed))
        await asyncio.sleep(chance.uniform(0, 2))
        await self._replaced("worker killed", place)

    async def _end_worker(self, chance: random.Random) -> None:
        place = chance.choice(self._plant.places[1:])
        worker = _worker_at(place)
        told = time.monotonic()
        worker.signal(signal.SIGTERM)
        code = await worker.exits(_LEAVES_WITHIN_S)
        self.facts.interruptions.append(Span(told, time.monotonic()))
        if code != 0:
            self.facts.strange.append(f"{place.name} left with {code}")
        await self._replaced("worker drained", place)

    async def _replaced(self, kind: str, place: Place) -> None:
        since = time.monotonic()
        await self._plant.start(place)
        await self._recovered(kind, since)

    def _reset(self, kind: str, name: str) -> Callable[[random.Random], Awaitable[None]]:
        async def reset(chance: random.Random) -> None:
            place = chance.choice(self._plant.places)
            at = time.monotonic()
            place.proxy.reset(name)
            self.facts.interruptions.append(Span(at, at + _FENCING_S))
            self.facts.fencing.append(Span(at, at + _FENCING_S))
            # It may be ready all the while, if it needs no new session for this.
            self.facts.outages.append(Outage(kind, at, at, workers=(place.name,)))
            await asyncio.sleep(_FENCING_S / 2)
            await turns(f"{await _worker_at(place).health_url()}/readyz", 200, _BACK_WITHIN_S)
            await self._recovered(kind, at)

        return reset

    async def _kill_broker(self, chance: random.Random) -> None:
        broker = self._plant.broker
        killed = time.monotonic()
        await broker.kill()
        await asyncio.sleep(chance.uniform(0, 3))
        await broker.start()
        back = time.monotonic()
        self.facts.interruptions.append(Span(killed, back + _FENCING_S))
        names = tuple(place.name for place in self._plant.places)
        outage = Outage("the broker's death", killed, back, _RED_WITHIN_S, workers=names)
        self.facts.outages.append(outage)
        for place in self._plant.places:
            await turns(f"{await _worker_at(place).health_url()}/readyz", 200, _BACK_WITHIN_S)
        await self._recovered("broker killed", back)

    async def _suspend_broker(self, chance: random.Random) -> None:
        broker = self._plant.broker
        began = time.monotonic()
        broker.suspend()
        await asyncio.sleep(chance.uniform(2, 7))
        broker.resume()
        back = time.monotonic()
        names = tuple(place.name for place in self._plant.places)
        self.facts.outages.append(Outage("the broker's silence", began, back, workers=names))
        await self._recovered("broker suspended", back)

    async def _kill_endpoint(self, chance: random.Random) -> None:
        endpoint = self._plant.endpoint
        killed = time.monotonic()
        await endpoint.kill()
        await asyncio.sleep(chance.uniform(0.2, 3))
        await endpoint.start()
        back = time.monotonic()
        self.facts.endpoint_down.append(Span(killed - 0.1, back + _FENCING_S))
        await self._recovered("endpoint killed", back)

    async def _recovered(self, kind: str, since: float) -> None:
        """Wait until a job has ended again and note how long that took.

        When all are submitted there may be none but those that wait on the broker.
        """
        before = self._ended()
        try:
            async with asyncio.timeout(_BACK_WITHIN_S):
                while self._ended() == before:  # noqa: ASYNC110 - a thread counts them
                    await asyncio.sleep(0.02)
        except TimeoutError:
            if not self._submitted.is_set():
                self.facts.strange.append(f"no job ended within {_BACK_WITHIN_S:g} s of: {kind}")
        else:
            self.facts.recovery_s[kind].append(time.monotonic() - since)


def _worker_at(place: Place) -> WorkerProcess:
    assert place.worker is not None
    return place.worker
