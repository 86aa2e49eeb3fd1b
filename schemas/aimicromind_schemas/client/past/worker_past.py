"""The past of a running job, from the worker that runs it.

Its cost does not grow with the events of other chats, and it needs no event log. Invariants:

- The answer comes in the live queue that the follower is bound to. Thus all events that are not in
  it come live, behind it.
- The worker knows the attempt that it runs, alone. For the rule for consumers that is enough: the
  highest attempt wins. `FirstAttempt` leaves later attempts to the event log, which has all.
- Followers who lack the same events share a request that has no answer yet. All that is published
  behind its answer comes live to each of them, because each had joined before it asked.
- A request never delays a follower by more than some seconds: what cannot be answered in time is
  read from the next source.
"""

import asyncio
from collections.abc import AsyncGenerator, Coroutine
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from typing_extensions import override

from aimicromind_schemas.client.errors import BrokerRefused, ClientError, NoSuchQueue
from aimicromind_schemas.client.live.answers import ASKED_BY
from aimicromind_schemas.client.live.live_events import LiveEvents
from aimicromind_schemas.client.live.rounds import Rounds
from aimicromind_schemas.client.past.catching_up import CatchUp, CatchUpState, ask
from aimicromind_schemas.client.past.sources import Missed, Past, Replay
from aimicromind_schemas.client.publishing import ConfirmedChannel
from aimicromind_schemas.messages.catch_up import CatchUpRequest, InvalidCatchUp, SeenUpTo
from aimicromind_schemas.messages.events import Event
from aimicromind_schemas.reading import Position
from aimicromind_schemas.routing import Names

_ANSWERED_WITHIN_S: Final = 2.0
# A request is lost with the queue of a chat lock that is released at that moment.
_MOST_REQUESTS: Final = 2
# A process with thousands of followers may take seconds for what has come by now.
_TURNS: Final = 10

_EVENTS_OF_TURN: Final = 250
"""Two milliseconds of work."""

_Question = tuple[CatchUpRequest, str | None]
"""A request, and the queue of its answer: another one after a lost connection."""


class WorkerPast(Past):
    """Asks the workers for what they have published of running jobs."""

    def __init__(self, live: LiveEvents, channel: ConfirmedChannel, names: Names) -> None:
        """Prepare; nothing is sent before somebody asks.

        Args:
            live: Has the queue where the answers come.
            channel: Where the requests are published.
            names: Names of the installation.
        """
        self._live = live
        self._channel = channel
        self._names = names
        self._requests: set[asyncio.Task[Any]] = set()
        self._shared: dict[_Question, _Shared] = {}
        self._is_refused = False

    async def close(self) -> None:
        """End all requests."""
        for request in self._requests:
            request.cancel()
        if self._requests:
            await asyncio.wait(self._requests)

    @override
    async def ask(self, missed: Missed) -> "Shown":
        chat_id, job_id = missed.wanted.chat_id, missed.wanted.job_id
        if self._is_refused or chat_id is None:
            raise NoSuchQueue(self._names.chat_lease(chat_id or ""))
        nothing = NoSuchQueue(self._names.chat_lease(chat_id))
        try:
            request = CatchUpRequest(chat_id, job_id, _seen(missed.after))
        except InvalidCatchUp as error:
            raise nothing from error
        question = request, self._live.queue_name
        shared = self._shared.get(question)
        if shared is None or shared.answer.has_begun:
            answer = Answer(request)
            shared = _Shared(answer, self._started(self._ask(question, answer)))
            self._shared[question] = shared
        # A follower that is gone must not end the request of others.
        await asyncio.wait((shared.asking,))
        if shared.asking.cancelled() or not shared.asking.result():
            raise nothing
        return Shown(shared.answer, self._live.rounds)

    async def _ask(self, question: _Question, answer: "Answer") -> bool:
        """Ask, and return whether the answer is whole."""
        token, state = ASKED_BY + uuid4().hex, CatchUpState.WAITING
        try:
            with self._live.answers.to(token, answer.take):
                for _ in range(_MOST_REQUESTS):
                    if not await self._is_sent(question[0], token):
                        break
                    state = await answer.state()
                    if state is not CatchUpState.WAITING:
                        break
        finally:
            shared = self._shared.get(question)
            if shared is not None and shared.answer is answer:
                del self._shared[question]
        return state is CatchUpState.WHOLE

    def _started(self, work: Coroutine[Any, Any, bool]) -> asyncio.Task[bool]:
        task = asyncio.create_task(work)
        self._requests.add(task)
        task.add_done_callback(self._requests.discard)
        return task

    async def _is_sent(self, request: CatchUpRequest, token: str) -> bool:
        """Send a request, and return whether somebody holds the chat."""
        sending = self._started(self._send(request, token))
        # A broker with an alarm reads nothing from this connection.
        await _patiently(sending)
        return sending.done() and not sending.cancelled() and sending.result()

    async def _send(self, request: CatchUpRequest, token: str) -> bool:
        reply_to = self._live.queue_name
        if reply_to is None:
            return False
        try:
            channel = await self._channel.opened()
            return await ask(channel, self._names, request, reply_to, token)
        except BrokerRefused:
            # The user may not write to the default exchange, which another try does not change.
            self._is_refused = True
        except (ClientError, TimeoutError):
            pass
        return False


class FirstAttempt(Past):
    """The worker of a job, where it knows all that a follower lacks."""

    def __init__(self, worker: WorkerPast) -> None:
        self._worker = worker

    @override
    async def ask(self, missed: Missed) -> Replay:
        answer = await self._worker.ask(missed)
        if answer.attempt > (1 if missed.after is None else missed.after.attempt):
            raise NoSuchQueue(missed.wanted.chat_id or "")
        return answer


class Answer:
    """The answer of one worker.

    Attributes:
        events: The events that came.
        has_begun: Whether a part of it came.
    """

    def __init__(self, request: CatchUpRequest) -> None:
        self.events: list[Event] = []
        self.has_begun = False
        self._catch_up = CatchUp(request)
        self._came: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def attempt(self) -> int:
        """The attempt that it is of."""
        return self._catch_up.attempt

    def take(self, body: bytes) -> None:
        """Take a part."""
        self.has_begun = True
        self.events += self._catch_up.take(body)
        if not self._came.done():
            self._came.set_result(None)

    async def state(self) -> CatchUpState:
        """Wait for the answer, 2 s for each part, and return how far it has come."""
        while self._catch_up.state is CatchUpState.WAITING:
            self._came = asyncio.get_running_loop().create_future()
            await _patiently(self._came)
            if not self._came.done():
                break
        return self._catch_up.state


@dataclass(frozen=True, slots=True)
class _Shared:
    answer: Answer
    asking: asyncio.Task[bool]


class Shown(Replay):
    """An answer that is whole, for one of those who share it."""

    def __init__(self, answer: Answer, rounds: Rounds) -> None:
        self.is_whole = True
        self.attempt = answer.attempt
        self._events = answer.events
        self._rounds = rounds

    @property
    @override
    def progress(self) -> float:
        # It is whole before it is shown.
        return 1.0

    @override
    async def events(self) -> AsyncGenerator[Event, None]:
        for number, event in enumerate(self._events):
            if not number % _EVENTS_OF_TURN:
                await self._rounds.turn()
            yield event

    @override
    def close(self) -> None:
        self._events = []


async def _patiently(future: asyncio.Future[Any]) -> None:
    """Wait for a future for 2 s, and for ten turns of an event loop that has much to do."""
    for _ in range(_TURNS):
        await asyncio.wait((future,), timeout=_ANSWERED_WITHIN_S / _TURNS)
        if future.done():
            return


def _seen(after: Position | None) -> SeenUpTo | None:
    return None if after is None else SeenUpTo(after.attempt, after.seq)
