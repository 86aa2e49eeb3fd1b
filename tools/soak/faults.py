"""Do the faults of a soak at random times, and record what the checker must know of them."""

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
from tools.soak.plant import Plant, WorkerPlace

_BACK_WITHIN_S = 30.0
_EXITS_WITHIN_S = 12.0
# Worker and broker notice a reset at once, but messages in the sockets may still be processed.
_FENCING_S = 1.0
# A killed broker is noticed when its connections close.
_RED_WITHIN_S = 3.0
_JOBS, _EVENTS = "aimicromind-worker jobs", "aimicromind-worker events"

_Fault = Callable[[random.Random], Awaitable[None]]
_Kind = tuple[str, _Fault, int]
"""Name, function and weight of a kind of fault."""


@dataclass(slots=True)
class Facts:
    """Record of the faults of a run. Times are seconds of `time.monotonic`.

    Attributes:
        done: Number of faults, by kind.
        recovery_s: Time until a job ended again after each fault, by kind.
        interruptions: When jobs may need a further attempt.
        fencing: When events of two attempts may mix.
        endpoint_down: When the endpoint did not answer.
        outages: When readiness may be, or must be, red.
        stopped: When a worker was killed or told to drain, by its name.
        strange: Further violations, one line each.
    """

    done: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    recovery_s: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    interruptions: list[Span] = field(default_factory=list)
    fencing: list[Span] = field(default_factory=list)
    endpoint_down: list[Span] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    stopped: dict[str, float] = field(default_factory=dict)
    strange: list[str] = field(default_factory=list)


class Faults:
    """Does faults one after the other; those of the endpoint run beside all others.

    The first worker is never ended, because its memory is watched over the whole run.
    """

    def __init__(self, plant: Plant, ended: Callable[[], int], seed: int, pause_s: float) -> None:
        """Prepare.

        Args:
            plant: Broker, endpoint and workers.
            ended: Returns how many jobs have ended.
            seed: Decides which faults are done, and when.
            pause_s: Mean time between two faults.
        """
        self.facts = Facts()
        self._plant = plant
        self._ended = ended
        self._seed = seed
        self._pause_s = pause_s
        self._submitted = asyncio.Event()

    async def run(self, submitted: asyncio.Event, ended: asyncio.Event) -> None:
        """Do faults until `ended` is set; the last fault is repaired when this returns.

        Once all jobs are `submitted`, the endpoint is not killed any more, because each time
        hundreds of jobs have to wait.
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
        # Drawn without replacement, each kind has its share in a short run, too.
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
        killed = self.facts.stopped[place.name] = time.monotonic()
        worker.signal(signal.SIGKILL)
        await worker.exits()
        self.facts.interruptions.append(Span(killed, killed))
        await asyncio.sleep(chance.uniform(0, 2))
        await self._replaced("worker killed", place)

    async def _end_worker(self, chance: random.Random) -> None:
        place = chance.choice(self._plant.places[1:])
        worker = _worker_at(place)
        told = self.facts.stopped[place.name] = time.monotonic()
        worker.signal(signal.SIGTERM)
        code = await worker.exits(_EXITS_WITHIN_S)
        self.facts.interruptions.append(Span(told, time.monotonic()))
        if code != 0:
            self.facts.strange.append(f"{place.name} drained, and ended with exit code {code}")
        await self._replaced("worker drained", place)

    async def _replaced(self, kind: str, place: WorkerPlace) -> None:
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
            # The worker may stay ready: not each connection needs a new session.
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
        """Wait until a job has ended again, and record how long that took.

        Once all jobs are submitted, the remaining ones may all wait in delay queues.
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


def _worker_at(place: WorkerPlace) -> WorkerProcess:
    assert place.worker is not None
    return place.worker
