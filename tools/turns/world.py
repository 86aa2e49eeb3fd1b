"""Workers and a broker in simulated time, and what must hold whatever happens.

The protocol is the worker's own (`core/chats/turns.py`). The broker does what RabbitMQ does with
an exclusive queue: one holder; a message to a queue that is not there comes back; what lies in the
queue when it is deleted is lost. Everything takes a random time; the operations of one worker keep
their order.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import count
from random import Random

from aimicromind_worker.core.chats.actions import (
    Action,
    AskAgain,
    AskHolder,
    AskLock,
    LetGo,
    NameNext,
    Run,
    WaitingJob,
)
from aimicromind_worker.core.chats.turns import ChatTurns
from tools.turns.scene import Faults, Job

_END_OF_TIME_S = 3600.0

_Handle = Callable[[ChatTurns], list[Action]]


@dataclass(slots=True)
class _Worker:
    name: str
    turns: ChatTurns
    jobs: dict[str, Job] = field(default_factory=dict)
    running: dict[str, str] = field(default_factory=dict)
    sent_until_s: float = 0.0
    heard_until_s: float = 0.0
    due_s: dict[str, float] = field(default_factory=dict)
    is_gone: bool = False


class World:
    """One run of the model.

    Attributes:
        now: Seconds since the beginning.
        runs: The jobs of each chat in the order in which they began to run.
        waited_s: For how long each job waited although its chat was free and the one before it
            had ended.
        sent: Messages and lock requests, by kind.
    """

    def __init__(self, jobs: Sequence[Job], workers: int, faults: Faults, seed: int) -> None:
        self.now = 0.0
        self.runs: dict[str, list[str]] = defaultdict(list)
        self.waited_s: list[float] = []
        self.sent: dict[str, int] = defaultdict(int)
        self._random = Random(seed)
        self._faults = faults
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._locks: dict[str, str] = {}
        self._ended: set[str] = set()
        self._delayed: set[str] = set()
        self._seen: dict[str, set[str]] = defaultdict(set)
        self._free_since: dict[str, float] = defaultdict(float)
        self._ended_at: dict[tuple[str, str], float] = {}
        self._left = len(jobs)
        self._names = count()
        self._workers: dict[str, _Worker] = {}
        for _ in range(workers):
            self._start_worker()
        for job in jobs:
            self._at(job.delivered_s, lambda job=job: self._deliver(job))  # type: ignore[misc]
        if faults.crashes_every_s:
            self._at(self._random.expovariate(1 / faults.crashes_every_s), self._crash)

    def run(self) -> None:
        """Run until every job has ended.

        Raises:
            AssertionError: Two jobs of a chat ran at once, or a job never ended.
        """
        while self._left:
            assert self._events, "nothing can happen any more, and jobs are left"
            self.now, _, act = heappop(self._events)
            assert self.now < _END_OF_TIME_S, f"{self._left} jobs did not end"
            act()

    def _at(self, when: float, act: Callable[[], None]) -> None:
        heappush(self._events, (when, next(self._number), act))

    def _way_s(self) -> float:
        return self._random.uniform(0.0002, self._faults.latency_s)

    def _start_worker(self) -> None:
        name = f"worker-{next(self._names)}"
        seen = self._seen[name]
        turns = ChatTurns(name, seen.__contains__, lambda chat: self._is_busy(name, chat))
        self._workers[name] = _Worker(name, turns)
        # What ended before is in the journal, which is read at the start.
        seen |= self._ended | self._delayed

    def _is_busy(self, name: str, chat_id: str) -> bool:
        return self._ended_at.get((name, chat_id), -9.0) > self.now - 1.0

    def _deliver(self, job: Job) -> None:
        worker = self._random.choice(list(self._workers.values()))
        worker.jobs[job.job_id] = job
        waiting = WaitingJob(job.job_id, worker.name, job.delivered_s, self.now, job.after)
        self._do(worker, job.chat_id, worker.turns.came(job.chat_id, waiting, self.now))

    def _do(self, worker: _Worker, chat_id: str, actions: Sequence[Action]) -> None:
        for action in actions:
            match action:
                case Run(_, job_id):
                    self._run(worker, chat_id, job_id)
                case _:
                    self.sent[type(action).__name__] += 1
                    worker.sent_until_s = max(worker.sent_until_s, self.now + self._way_s())
                    self._at(
                        worker.sent_until_s,
                        lambda action=action: self._reach(worker, action),  # type: ignore[misc]
                    )
        due_s = worker.turns.due_s(chat_id)
        if due_s < _END_OF_TIME_S and worker.due_s.get(chat_id) != due_s:
            worker.due_s[chat_id] = due_s
            self._at(max(due_s, self.now), lambda: self._tick(worker, chat_id))

    def _tick(self, worker: _Worker, chat_id: str) -> None:
        if self._is_there(worker) and worker.turns.due_s(chat_id) <= self.now:
            self._do(worker, chat_id, worker.turns.tick(chat_id, self.now))

    def _is_there(self, worker: _Worker) -> bool:
        return self._workers.get(worker.name) is worker

    def _reach(self, worker: _Worker, action: Action) -> None:
        """Let the broker do what a worker asked for; what a dead worker sent still counts."""
        chat_id = action.chat_id
        match action:
            case AskLock() if not worker.is_gone:
                granted = self._locks.setdefault(chat_id, worker.name) == worker.name
                self._tell(
                    worker.name, chat_id, lambda it: it.locked(chat_id, self.now, granted=granted)
                )
            case LetGo() if self._locks.get(chat_id) == worker.name:
                del self._locks[chat_id]
            case AskHolder(_, jobs) if chat_id in self._locks:
                self._send(
                    self._locks[chat_id],
                    chat_id,
                    lambda it: it.asked(chat_id, worker.name, jobs, self.now),
                )
            case AskHolder():
                self._tell(worker.name, chat_id, lambda it: it.nobody_holds(chat_id, self.now))
            case NameNext(_, job, others):
                self._send(job.worker, chat_id, lambda it: it.named(chat_id, others))
            case AskAgain(_, name):
                self._send(name, chat_id, lambda it: it.nobody_holds(chat_id, self.now))
            case _:
                pass

    def _send(self, name: str, chat_id: str, handle: _Handle) -> None:
        """Bring a message to a worker, unless it is lost."""
        if self._random.random() >= self._faults.lost:
            self._tell(name, chat_id, handle)

    def _tell(self, name: str, chat_id: str, handle: _Handle) -> None:
        worker = self._workers.get(name)
        if worker is None:
            return
        worker.heard_until_s = max(worker.heard_until_s, self.now + self._way_s())
        self._at(
            worker.heard_until_s,
            lambda: self._hear(worker, chat_id, handle),
        )

    def _hear(self, worker: _Worker, chat_id: str, handle: _Handle) -> None:
        if self._is_there(worker):
            self._do(worker, chat_id, handle(worker.turns))

    def _run(self, worker: _Worker, chat_id: str, job_id: str) -> None:
        assert self._locks.get(chat_id) == worker.name, "a job runs without its chat's lock"
        busy = [it for it in self._workers.values() if chat_id in it.running]
        assert not busy, "two jobs of a chat run at once"
        job = worker.jobs[job_id]
        worker.running[chat_id] = job_id
        self.runs[chat_id].append(job_id)
        self.waited_s.append(self.now - max(job.delivered_s, self._free_since[chat_id]))
        self._at(self.now + job.takes_s, lambda: self._end(worker, job))

    def _end(self, worker: _Worker, job: Job) -> None:
        if not self._is_there(worker):
            return
        del worker.running[job.chat_id]
        del worker.jobs[job.job_id]
        self._free_since[job.chat_id] = self.now
        if job.fails and job.job_id not in self._delayed:
            self._delayed.add(job.job_id)
            self._at(self.now + 2.0, lambda: self._deliver(job))
        else:
            self._ended.add(job.job_id)
            self._left -= 1
        # The `end` goes to the broker, which confirms it to this worker and shows it to all.
        written_s = self.now + self._way_s()
        for it in list(self._workers.values()):
            self._at(written_s + self._way_s(), lambda it=it: self._show(it, job))  # type: ignore[misc]
        self._at(written_s + self._way_s(), lambda: self._leave(worker, job))

    def _leave(self, worker: _Worker, job: Job) -> None:
        if self._is_there(worker):
            self._do(worker, job.chat_id, worker.turns.left(job.chat_id, job.job_id, self.now))

    def _show(self, worker: _Worker, job: Job) -> None:
        """Let a worker read in the journal that a job is over, or delayed."""
        if not self._is_there(worker):
            return
        self._seen[worker.name].add(job.job_id)
        self._ended_at[worker.name, job.chat_id] = self.now
        self._do(worker, job.chat_id, worker.turns.over(job.job_id, self.now))

    def _crash(self) -> None:
        worker = self._random.choice(list(self._workers.values()))
        del self._workers[worker.name]
        self._start_worker()
        noticed_s = self.now + self._random.uniform(0, self._faults.noticed_s)
        self._at(noticed_s, lambda: self._take_back(worker))
        wait_s = self._random.expovariate(1 / self._faults.crashes_every_s)
        self._at(self.now + wait_s, self._crash)

    def _take_back(self, worker: _Worker) -> None:
        """Let the broker notice a crash: the locks go, and the jobs come to others."""
        worker.is_gone = True
        for chat_id, name in list(self._locks.items()):
            if name == worker.name:
                del self._locks[chat_id]
        for job in worker.jobs.values():
            self._at(
                self.now + self._way_s(),
                lambda job=job: self._deliver(job),  # type: ignore[misc]
            )
