"""Carry out what the protocol of chat turns asks for: locks, messages and timers.

Invariants:

- The actions of a chat are carried out one by one, in their order.
- A lock that cannot be had, since the broker has no room for it, is asked for again after a second.
- Messages only go to mailboxes of chats, and to queues of workers.
- A fault costs a message or a second of its chat, and no other chat anything.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Sequence
from time import monotonic
from typing import Any, Final, Never

import structlog

from aimicromind_worker.core.chats.actions import (
    Action,
    AskAgain,
    AskHolder,
    AskLock,
    LetGo,
    LockAnswer,
    NameNext,
    NoteCopy,
    Run,
)
from aimicromind_worker.core.chats.messages import (
    Next,
    Waiting,
    ask_again_message,
    is_worker,
    next_message,
    read_message,
    waiting_message,
)
from aimicromind_worker.core.chats.return_address import ReturnAddress
from aimicromind_worker.core.chats.turns import ChatTurns
from aimicromind_worker.jobs.intake import note_fault
from aimicromind_worker.jobs.ports import Chats
from aimicromind_worker.jobs.registry import HeldChat

log = structlog.get_logger()

TakeRequest = Callable[[str, HeldChat, bytes, ReturnAddress], None]
"""Takes a request of a follower: the chat, its lock, the body, and where the answer goes."""

_NO_ROOM_PAUSE_S: Final = 1.0


class ChatDriver:
    """The chats of one session. Use it in the event loop.

    Attributes:
        held: The chats whose lock this worker holds.
    """

    def __init__(
        self,
        chats: Chats,
        protocol: ChatTurns,
        on_turn: Callable[[str, str], None],
        on_busy: Callable[[str], None],
        take_request: TakeRequest,
    ) -> None:
        """Begin with no chats.

        Args:
            chats: The locks and mailboxes of the chats.
            protocol: What decides.
            on_turn: A callback with the chat and the id of a job whose turn has come.
            on_busy: A callback with a chat whose lock was refused.
            take_request: A callback for a message to the mailbox of a chat that asks for an answer.
        """
        self.held: dict[str, HeldChat] = {}
        self._chats = chats
        self._protocol = protocol
        self._on_turn = on_turn
        self._on_busy = on_busy
        self._take_request = take_request
        # The queue of a worker ends with a UUID.
        self._workers = chats.worker[: chats.worker.rfind(".") + 1]
        self._outboxes: dict[str, deque[Action]] = {}
        self._timers: dict[str, tuple[float, asyncio.TimerHandle]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._failed: asyncio.Future[Never] = asyncio.get_running_loop().create_future()

    async def run(self) -> Never:
        """Wait until the chats can no longer be reached.

        Raises:
            ConnectionError: The connection to the broker is lost.
        """
        try:
            await self._failed
        finally:
            for task in self._tasks:
                task.cancel()
            for _, timer in self._timers.values():
                timer.cancel()
        raise AssertionError  # a future of Never has no result

    def do(self, chat_id: str, actions: Sequence[Action]) -> None:
        """Carry out actions, also those of other chats, and set the timers of all of them.

        Args:
            chat_id: The chat that something happened to, also where no action follows.
            actions: What the protocol asks for.
        """
        for action in actions:
            if isinstance(action, Run):
                self._on_turn(action.chat_id, action.job_id)
            elif isinstance(action, NoteCopy):
                self._note_copy(action)
            elif (outbox := self._outboxes.get(action.chat_id)) is not None:
                outbox.append(action)
            else:
                outbox = self._outboxes[action.chat_id] = deque([action])
                self._start(self._empty(action.chat_id, outbox))
        for each in {chat_id, *(action.chat_id for action in actions)}:
            self._set_timer(each)

    def take_message(self, body: bytes) -> None:
        """Take a message that another worker sent to this one."""
        message = read_message(body)
        if message is None or isinstance(message, Waiting):
            log.debug("pool.unknown", size_bytes=len(body))
            return
        chat_id = message.chat_id
        if isinstance(message, Next):
            others = message.waiting(monotonic(), self._workers)
            self.do(chat_id, self._protocol.named(chat_id, others))
        else:
            self.do(chat_id, self._protocol.nobody_holds(chat_id, monotonic()))

    def _take_mail(self, chat_id: str, body: bytes, sender: ReturnAddress | None) -> None:
        """Take a message from the mailbox of a chat; workers ask for no answer."""
        if sender is not None:
            self._take_request(chat_id, self.held.get(chat_id) or HeldChat(), body, sender)
            return
        message, now = read_message(body), monotonic()
        if not isinstance(message, Waiting) or not is_worker(message.worker, self._workers):
            log.debug("chat.unknown_message", size_bytes=len(body))
            return
        jobs = message.waiting(now, self._workers)
        self.do(chat_id, self._protocol.asked(chat_id, message.worker, jobs, now))

    def _note_copy(self, copy: NoteCopy) -> None:
        if (held := self.held.get(copy.chat_id)) is not None:
            held.note_copy(copy.job_id)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _empty(self, chat_id: str, outbox: deque[Action]) -> None:
        try:
            while outbox:
                await self._try(outbox.popleft())
        except ConnectionError as error:
            if not self._failed.done():
                self._failed.set_exception(error)
        finally:
            del self._outboxes[chat_id]

    async def _try(self, action: Action) -> None:
        try:
            await self._carry_out(action)
        except ConnectionError:
            raise
        except Exception as error:  # noqa: BLE001 - one chat's fault must not reach its neighbours
            # The protocol bears lost messages.
            note_fault(error)
            if isinstance(action, AskLock):
                await self._answer(action.chat_id, LockAnswer.NO_ROOM)

    async def _carry_out(self, action: Action) -> None:
        chats, chat_id, now = self._chats, action.chat_id, monotonic()
        match action:
            case AskLock():
                await self._ask_lock(chat_id)
            case LetGo():
                self.held.pop(chat_id, None)
                await chats.unlock(chat_id)
            case AskHolder(_, jobs):
                message = waiting_message(chat_id, chats.worker, jobs, now)
                if not await chats.tell_holder(chat_id, message):
                    self.do(chat_id, self._protocol.nobody_holds(chat_id, monotonic()))
            case NameNext(_, job, others):
                await chats.tell_worker(job.worker, next_message(chat_id, others, now))
            case AskAgain(_, worker):
                await chats.tell_worker(worker, ask_again_message(chat_id))
            case Run() | NoteCopy():
                pass

    async def _ask_lock(self, chat_id: str) -> None:
        def take_mail(body: bytes, sender: ReturnAddress | None) -> None:
            self._take_mail(chat_id, body, sender)

        held = HeldChat()
        answer = await self._chats.lock(chat_id, take_mail, lambda: self._lose(chat_id, held))
        if answer is LockAnswer.GRANTED:
            self.held[chat_id] = held
        await self._answer(chat_id, answer)

    async def _answer(self, chat_id: str, answer: LockAnswer) -> None:
        granted = answer is LockAnswer.GRANTED
        if not granted:
            self._on_busy(chat_id)
        if answer is LockAnswer.NO_ROOM:
            await asyncio.sleep(_NO_ROOM_PAUSE_S)
        self.do(chat_id, self._protocol.locked(chat_id, monotonic(), granted=granted))

    def _lose(self, chat_id: str, held: HeldChat) -> None:
        log.warning("chat_lock.lost", chat_id=chat_id)
        held.is_lost = True
        held.on_loss()
        if self.held.get(chat_id) is held:
            del self.held[chat_id]
            self.do(chat_id, self._protocol.lock_lost(chat_id))

    def _set_timer(self, chat_id: str) -> None:
        due_s = self._protocol.due_s(chat_id)
        set_for_s, timer = self._timers.get(chat_id, (float("inf"), None))
        if due_s == set_for_s:
            return
        if timer is not None:
            timer.cancel()
            del self._timers[chat_id]
        if due_s < float("inf"):
            pause_s = max(0.0, due_s - monotonic())
            timer = asyncio.get_running_loop().call_later(pause_s, self._tick, chat_id)
            self._timers[chat_id] = (due_s, timer)

    def _tick(self, chat_id: str) -> None:
        del self._timers[chat_id]
        self.do(chat_id, self._protocol.tick(chat_id, monotonic()))
