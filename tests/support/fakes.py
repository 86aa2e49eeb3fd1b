"""The ports of the flow in memory: an endpoint, a broker and a queue that do as they are told."""

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from aimicromind_schemas import EndEvent, Event, FailureKind, decode
from aimicromind_schemas.journal.history import History, HistoryUnknown, StoredEnd, read_milestone
from aimicromind_testing import frame
from aimicromind_worker.core.chats.actions import LockAnswer
from aimicromind_worker.core.chats.messages import TakeMail
from aimicromind_worker.core.endpoint import errors
from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.exchange import (
    Address,
    EventStream,
    FlowFacts,
    PredictionCall,
    Response,
    Take,
    WholeAnswer,
)
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.numbering import NumberedEvent
from aimicromind_worker.core.job.retry import RetryPolicy
from aimicromind_worker.core.job.state import JobState
from aimicromind_worker.runs.outcome import Failed, Outcome, Waits
from aimicromind_worker.runs.recovery import MessageStore, Recovery
from aimicromind_worker.runs.run import JobRun
from tests.support.builders import (
    END,
    ENDED_WELL,
    IMPATIENT,
    USED_TOOLS,
    Forgetful,
    a_ticket,
    dependencies,
    tokens,
    untraced,
)


class Hang:
    """Nothing more comes, and the connection stays open."""


HANG: Final = Hang()

Step = bytes | Exception | Hang
Script = Sequence[Step] | WholeAnswer | Exception
"""What one call brings: a stream step by step, a JSON answer, or an error instead of either."""

CUT: Final = errors.StreamCut("the peer left")
UNSENT: Final = errors.EndpointUnavailable("no route", request_sent=False)
WELL: Final[Script] = [tokens("Once"), ENDED_WELL]
CUT_BEFORE: Final[Script] = [frame("start", ""), CUT]
CUT_AFTER: Final[Script] = [tokens("half"), CUT]
CUT_AFTER_TOOL: Final[Script] = [USED_TOOLS, CUT]
ERROR: Final[Script] = [frame("error", "whatever"), END]


class ScriptedPredictions:
    """An endpoint that answers each call by the next script.

    Attributes:
        calls: The calls that were made.
        seen: Those of them that reached it.
        aborted: Those that the endpoint was asked to stop.
        open_calls: How many of them are not closed.
        began: Set once there was a call.
        thinks_for_s: How long it takes to say whether a flow streams.
        fault: Raised instead of saying so.
        fails_when_cut: Raised where a call is broken off.
        connects: Whether calls get a connection.
        kinds: What it says of a flow, one after the other; the last one from then on.
        aborts: Cleared, it does not answer whoever asks it to stop a call.
    """

    def __init__(self, *scripts: Script, streams: bool | None = True) -> None:
        self.calls: list[PredictionCall] = []
        self.seen: list[PredictionCall] = []
        self.aborted: list[PredictionCall] = []
        self.open_calls = 0
        self.began = asyncio.Event()
        self.thinks_for_s = 0.0
        self.fault: BaseException | None = None
        self.fails_when_cut: Exception | None = None
        self.connects = True
        self.kinds = [FlowFacts(streams)]
        self.aborts = asyncio.Event()
        self.aborts.set()
        self._scripts = list(scripts)

    async def facts(self, chatflow_id: str) -> FlowFacts:
        await asyncio.sleep(self.thinks_for_s)
        if self.fault is not None:
            raise self.fault
        return self.kinds.pop(0) if len(self.kinds) > 1 else self.kinds[0]

    @asynccontextmanager
    async def call(self, call: PredictionCall) -> AsyncIterator[Response]:
        self.calls.append(call)
        call.sending.begun = self.connects
        self.began.set()
        script = self._scripts.pop(0)
        if not (isinstance(script, CallFailed) and not script.request_sent):
            self.seen.append(call)
        self.open_calls += 1
        try:
            match script:
                case Exception():
                    raise script
                case WholeAnswer():
                    yield script
                case _:
                    yield EventStream(FakeBody(_chunks(script)))
        except asyncio.CancelledError:
            if self.fails_when_cut is not None:
                raise self.fails_when_cut from None
            raise
        finally:
            self.open_calls -= 1

    def abort(self, call: PredictionCall) -> asyncio.Task[object]:
        self.aborted.append(call)
        return asyncio.create_task(self.aborts.wait())


class FakeBody:
    """An answer's body that comes in these chunks."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    async def pump(self, take: Take) -> bool:
        async for chunk in self._chunks:
            if chunk and not take(chunk):
                return True
        return False


class RecordingPublisher:
    """A broker that takes every event at once.

    Attributes:
        history: What happened, in order; a delivery may write to the same one.
        addresses: Of the attempt_publishers, in the order in which they were opened.
        published: The events of all attempt_publishers, as they were published.
        records: What they wrote to the journal.
        has_room: Cleared, attempt_publishers are full.
        room_for: So many events clear it, if this is a number.
        waits_for_room: Set once a attempt_publisher waited for room.
        end_lost: Set, the broker confirms no `end`.
        handle: Of a job whose first event is published next.
    """

    def __init__(self, history: list[str] | None = None) -> None:
        self.history = [] if history is None else history
        self.addresses: list[Address] = []
        self.published: list[NumberedEvent] = []
        self.records: list[NumberedEvent] = []
        self.has_room = asyncio.Event()
        self.has_room.set()
        self.room_for: int | None = None
        self.waits_for_room = asyncio.Event()
        self.end_lost: Exception | None = None
        self.handle: str | None = None

    def attempt_publisher(self, address: Address) -> "RecordedAttempt":
        self.addresses.append(address)
        return RecordedAttempt(self, address)

    def events(self) -> list[Event]:
        return [decode(event.body) for event in self.published]

    def shown(self) -> list[tuple[int, int, str]]:
        """Give attempt, seq and name of each event."""
        return [(event.attempt, event.seq, event.event) for event in self.events()]

    def data(self, name: str) -> list[Any]:
        """Give what the events of one name say, as JSON."""
        return [json.loads(it.body)["data"] for it in self.published if it.name == name]

    def end(self) -> EndEvent:
        """Give the last event, which must be the job's only `end`."""
        ends = [event for event in self.events() if event.event == "end"]
        assert ends == self.events()[-1:]
        assert isinstance(ends[0], EndEvent)
        return ends[0]


class RecordedAttempt:
    """The attempt_publisher of one attempt."""

    def __init__(self, publisher: RecordingPublisher, address: Address) -> None:
        self._publisher = publisher
        self._address = address
        self._unconfirmed = 0

    @property
    def full(self) -> bool:
        return not self._publisher.has_room.is_set()

    @property
    def handle(self) -> str | None:
        return self._publisher.handle

    async def room(self) -> None:
        self._publisher.waits_for_room.set()
        await self._publisher.has_room.wait()

    def record(self, record: NumberedEvent) -> None:
        self._publisher.records.append(record)
        if record.name == "end":
            self._publisher.history.append("end recorded")

    def publish(self, event: NumberedEvent) -> None:
        self._unconfirmed += 1
        self._publisher.published.append(event)
        self._publisher.history.append(event.name)
        if len(self._publisher.published) == self._publisher.room_for:
            self._publisher.has_room.clear()

    async def confirmed(self) -> None:
        await asyncio.sleep(0)
        if self._publisher.end_lost is not None and self._publisher.history[-1:] == ["end"]:
            raise self._publisher.end_lost
        if self._unconfirmed:
            self._publisher.history.append(f"{self._unconfirmed} confirmed")
        self._unconfirmed = 0


@dataclass(frozen=True, slots=True)
class DeadLetterReason:
    """How a delivery was put among the dead."""

    kind: FailureKind
    message: str
    attempts: int


@dataclass
class FakeJournal:
    """A memory that is told what it remembers, and notes what it was asked.

    Attributes:
        publisher: What it records is remembered, and what it publishes is stored.
        answers: Cleared, it thinks.
        is_silent: It cannot be read.
        reaches_back: Whether no `end` was removed from the endings.
        unended: What it says of jobs that have a record of their `end`, and no `end`.
    """

    remembers: Mapping[str, History] = field(default_factory=dict)
    ends: Mapping[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    answers: asyncio.Event = field(default_factory=asyncio.Event)
    is_silent: bool = False
    publisher: RecordingPublisher | None = None
    reaches_back: bool = False
    unended: Mapping[str, History] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.answers.set()

    async def look_up(self, job_id: str, since: datetime | None) -> History:
        self.asked.append(job_id)
        await self.answers.wait()
        if self.is_silent:
            raise HistoryUnknown("silent")
        return self._history(job_id) or History()

    def recall(self, job_id: str) -> History | None:
        return None if self.is_silent else self._history(job_id)

    async def look_up_unended(self, job_id: str, since: datetime | None) -> History:
        return self.unended[job_id]

    def is_behind(self, job_id: str) -> bool:
        known = self._history(job_id)
        return known is not None and (known.status is not None or known.is_delayed)

    async def end_of(self, job_id: str, ended_at: datetime | None) -> StoredEnd:
        published = [] if self.publisher is None else self.publisher.published
        ends = {event.message_id: event.body for event in reversed(published)}
        body = self.ends.get(job_id) or ends.get(f"{job_id}:end".encode())
        return StoredEnd(body, is_removed=body is None and not self.reaches_back)

    def _history(self, job_id: str) -> History | None:
        if job_id in self.remembers:
            return self.remembers[job_id]
        history: History | None = None
        for record in [] if self.publisher is None else self.publisher.records:
            milestone = read_milestone(record.body)
            if milestone is not None and milestone.job_id == job_id:
                history = (history or History()).after(milestone)
        return history


@dataclass
class FakePool:
    """The chats of a pool without a broker, and what a queue that is there is told.

    Attributes:
        holders: By chat, who holds it.
        workers: By queue, what takes a worker's messages.
        told: By queue, how many messages went there.
    """

    holders: dict[str, "FakeChats"] = field(default_factory=dict)
    workers: dict[str, Callable[[bytes], None]] = field(default_factory=dict)
    told: Counter[str] = field(default_factory=Counter)


class FakeChats:
    """The chats as one worker of a pool reaches them.

    Attributes:
        held_elsewhere: Chats of another worker, which answers nothing.
        held: By chat, the callbacks for mail and for the loss of its lock.
        has_room: Whether the broker declares more queues.
    """

    def __init__(self, pool: FakePool | None = None, number: int = 0) -> None:
        self.pool = FakePool() if pool is None else pool
        self.worker = f"aimicromind.pool.{UUID(int=number)}"
        self.held_elsewhere: set[str] = set()
        self.held: dict[str, tuple[TakeMail, Callable[[], None]]] = {}
        self.has_room = True

    async def lock(
        self, chat_id: str, take_mail: TakeMail, on_loss: Callable[[], None]
    ) -> LockAnswer:
        await asyncio.sleep(0)
        if not self.has_room:
            return LockAnswer.NO_ROOM
        if chat_id in self.pool.holders or chat_id in self.held_elsewhere:
            return LockAnswer.HELD
        self.pool.holders[chat_id] = self
        self.held[chat_id] = (take_mail, on_loss)
        return LockAnswer.GRANTED

    async def unlock(self, chat_id: str) -> None:
        await asyncio.sleep(0)
        self.held.pop(chat_id, None)
        if self.pool.holders.get(chat_id) is self:
            del self.pool.holders[chat_id]

    def take_away(self, chat_id: str) -> None:
        """Take a lock away, as the broker may."""
        del self.pool.holders[chat_id]
        _, on_loss = self.held.pop(chat_id)
        on_loss()

    async def tell_holder(self, chat_id: str, message: bytes) -> bool:
        await asyncio.sleep(0)
        if holder := self.pool.holders.get(chat_id):
            holder.held[chat_id][0](message, None)
            return True
        return chat_id in self.held_elsewhere

    async def tell_worker(self, worker: str, message: bytes) -> None:
        await asyncio.sleep(0)
        self.pool.told[worker] += 1
        if take := self.pool.workers.get(worker):
            take(message)


@dataclass
class FakeDelivery:
    """A message that notes how it was settled."""

    body: bytes
    facts: MessageFacts = field(default_factory=MessageFacts)
    history: list[str] = field(default_factory=list)
    dead_lettered: DeadLetterReason | None = None
    requeued: JobState | None = None
    delay: timedelta | None = None
    dead_letter_fails_with: Exception | None = None

    async def ack(self) -> None:
        self.history.append("ack")

    async def requeue(self, state: JobState, delay: timedelta = timedelta()) -> None:
        self.requeued = state
        self.delay = delay
        self.history.append("requeue")

    async def reject(self) -> None:
        self.history.append("reject")

    async def requeue_unchanged(self) -> None:
        self.history.append("requeue unchanged")

    async def dead_letter(
        self, kind: FailureKind, message: str, attempts: int, job_id: str | None = None
    ) -> None:
        if self.dead_letter_fails_with is not None:
            raise self.dead_letter_fails_with
        self.dead_lettered = DeadLetterReason(kind, message, attempts)
        self.history.append("dead-letter")


async def _chunks(steps: Iterable[Step]) -> AsyncIterator[bytes]:
    for step in steps:
        match step:
            case bytes():
                yield step
            case Exception():
                raise step
            case Hang():
                await asyncio.Event().wait()


class Run:
    """One run against an endpoint that answers by scripts."""

    def __init__(  # noqa: PLR0913 - each has a default
        self,
        *scripts: Script,
        facts: MessageFacts | None = None,
        streams: bool | None = True,
        policy: RetryPolicy = IMPATIENT,
        limits: dict[str, Any] | None = None,
        history: History | None = None,
        memory: MessageStore | None = None,
        recovery_s: float = 5,
        **fields: Any,  # noqa: ANN401 - see a_job
    ) -> None:
        self.predictions = ScriptedPredictions(*scripts, streams=streams)
        self.publisher = RecordingPublisher()
        ticket = a_ticket(facts, **fields).knowing(history or History())
        self.job = JobRun(
            ticket,
            dependencies(
                self.predictions,
                self.publisher,
                policy,
                Recovery(memory or Forgetful(), timedelta(seconds=recovery_s)),
                **(limits or {}),
            ),
            untraced(ticket.facts.trace),
        )

    async def outcome(self) -> Outcome:
        outcome = await self.job.run()
        assert not isinstance(outcome, Waits)
        assert self.predictions.open_calls == 0
        return outcome

    async def failure(self) -> FailureKind:
        outcome = await self.outcome()
        assert isinstance(outcome, Failed)
        return outcome.kind

    @property
    def calls(self) -> int:
        return len(self.predictions.calls)

    def text(self) -> object:
        return json.loads(self.job.progress.attempt.answer.text)
