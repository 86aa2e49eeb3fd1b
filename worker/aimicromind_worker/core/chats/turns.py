"""Whose turn it is in a chat, over all workers: the protocol, without broker and clock.

A chat's lock is an exclusive queue, which is its holder's mailbox, too. Whoever holds the lock
knows who waits, runs one job after the other, and names the next one when that is another
worker's. Invariants:

- Only the lock lets a job run. A message never does: it can be late, lost, or come twice.
- Whoever waits repeats its question to the holder, after `REPEATS_S`, or asks for the lock. So a
  lost message, or a holder that died, costs at most the longest of these times.
- A holder that has nothing to run lets the lock go, unless a job waits here for the one before it.
- Between two holders nobody has the lock. Whoever asks then asks once more before it takes it.
- A holder knows of copies of the job that it runs, as of all jobs that wait for the chat. It leaves
  a record for whoever runs the copy, if the holder is lost before the job has shown anything.

Order among the jobs that are known: a job that names the one before it (`after`) waits until that
one has ended, was delayed by a failure of its own, or is unknown for `UNKNOWN_S`. Of those that
may run, the one that was submitted first comes first.
"""

from collections.abc import Callable, Iterable, Sequence
from heapq import nsmallest
from typing import Final

from aimicromind_worker.core.chats.actions import (
    Action,
    AskAgain,
    AskHolder,
    AskLock,
    LetGo,
    NameNext,
    NoteCopy,
    Run,
    WaitingJob,
    by_time,
    first_of,
)
from aimicromind_worker.core.chats.state import ChatState

REPEATS_S: Final = (0.1, 0.3, 1.0, 2.0, 4.0)
"""After these times a waiting worker repeats its question to the holder, the last one for ever."""
_MOST_ELSEWHERE: Final = 1_000
SETTLES_S: Final = 0.05
"""Who gets the lock of a busy chat without being named listens so long for older jobs."""
HANDOVER_S: Final = 0.05
"""Whoever finds no holder leaves so much time to the one who was named, then asks again."""
_DOUBTS_S: Final = 0.3


class ChatTurns:
    """The chats of one worker. Carry out the actions in their order."""

    def __init__(
        self, worker: str, is_behind: Callable[[str], bool], is_busy: Callable[[str], bool]
    ) -> None:
        """Begin with no chat.

        Args:
            worker: The queue that this worker is told by.
            is_behind: Tells whether a job has ended, or waits after a failure of its own.
            is_busy: Tells whether a job of a chat ended a moment ago, as far as is known.
        """
        self._worker = worker
        self._is_behind = is_behind
        self._is_busy = is_busy
        self._chats: dict[str, ChatState] = {}
        # By job: the chats whose `awaits` names it.
        self._awaited: dict[str, set[str]] = {}

    def due_s(self, chat_id: str) -> float:
        """Return when `tick` must be called for a chat at the latest; infinity: no need."""
        chat = self._chats.get(chat_id)
        return float("inf") if chat is None else chat.due_s

    def came(self, chat_id: str, job: WaitingJob, now: float) -> list[Action]:
        """Take in a job of this worker."""
        chat = self._chats.setdefault(chat_id, ChatState())
        chat.here[job.job_id] = job
        chat.repeats = 0
        if chat.holds:
            return self._go_on(chat_id, chat, now)
        if chat.asks:
            return []
        if len(chat.here) == 1:
            return [self._ask_lock(chat_id, chat)]
        return [self._ask_holder(chat_id, chat, now)]

    def left(self, chat_id: str, job_id: str, now: float) -> list[Action]:
        """Take out a job that waits no more, or has been run."""
        chat = self._chats.get(chat_id)
        if chat is None:
            return []
        chat.here.pop(job_id, None)
        if chat.running == job_id:
            chat.running, chat.idle_since_s = "", now
        if chat.holds:
            return self._go_on(chat_id, chat, now)
        if not chat.here and not chat.asks:
            del self._chats[chat_id]
        return []

    def locked(self, chat_id: str, now: float, *, granted: bool) -> list[Action]:
        """Take in the answer to `AskLock`."""
        chat = self._chats.get(chat_id)
        if chat is None:
            return [LetGo(chat_id)] if granted else []
        was_named, chat.asks = chat.is_named, False
        if granted:
            chat.holds, chat.is_named, chat.idle_since_s = True, False, now
            chat.settles = not was_named and self._is_busy(chat_id)
            if chat.settles:
                chat.due_s = now + SETTLES_S
                return []
            return self._go_on(chat_id, chat, now)
        if chat.here or chat.elsewhere:
            return [self._ask_holder(chat_id, chat, now)]
        return self._forget(chat_id)

    def lock_lost(self, chat_id: str) -> list[Action]:
        """Take in that the lock is gone although nobody let it go."""
        chat = self._chats.get(chat_id)
        if chat is None or not chat.holds:
            return []
        chat.holds = chat.settles = False
        chat.here.pop(chat.running, None)
        chat.running = ""
        chat.elsewhere.clear()
        self._await(chat_id, chat, set())
        return [self._ask_lock(chat_id, chat)] if chat.here else self._forget(chat_id)

    def nobody_holds(self, chat_id: str, now: float) -> list[Action]:
        """Take in that a question to the holder came back, or came too late for it."""
        chat = self._chats.get(chat_id)
        if chat is None or chat.holds or chat.asks:
            return []
        if chat.unheld_since_s < now - _DOUBTS_S:
            chat.unheld_since_s, chat.due_s = now, now + HANDOVER_S
            return []
        return [self._ask_lock(chat_id, chat)]

    def asked(
        self, chat_id: str, worker: str, jobs: Sequence[WaitingJob], now: float
    ) -> list[Action]:
        """Take in which jobs of a chat wait in another worker, the first of them."""
        chat = self._chats.get(chat_id)
        if chat is None or not (chat.holds or chat.asks):
            return [AskAgain(chat_id, worker)]
        others = (it for it in chat.elsewhere.values() if it.worker != worker)
        told = (it for it in jobs if it.worker != self._worker)
        first = nsmallest(_MOST_ELSEWHERE, (*others, *told), key=by_time)
        chat.elsewhere = {it.job_id: it for it in first}
        if chat.running in chat.elsewhere:
            return [NoteCopy(chat_id, chat.running)]
        # Messages come before the answer that the lock is granted.
        return self._go_on(chat_id, chat, now) if chat.holds else []

    def named(self, chat_id: str, others: Iterable[WaitingJob]) -> list[Action]:
        """Take in that a job of this worker is next; the lock was let go."""
        chat = self._chats.setdefault(chat_id, ChatState())
        told = {it.job_id: it for it in others if it.worker != self._worker}
        if chat.holds:
            # It took the lock before it was told; it may not know of all of these.
            chat.elsewhere = told | chat.elsewhere
            return []
        chat.elsewhere = told
        chat.is_named, chat.repeats = True, 0
        return [] if chat.asks else [self._ask_lock(chat_id, chat)]

    def over(self, job_id: str, now: float) -> list[Action]:
        """Take in that a job has ended, or waits after a failure of its own."""
        return [
            action
            for chat_id in sorted(self._awaited.get(job_id, ()))
            for action in self._go_on(chat_id, self._chats[chat_id], now)
        ]

    def tick(self, chat_id: str, now: float) -> list[Action]:
        """Do what is due for a chat."""
        chat = self._chats.get(chat_id)
        return [] if chat is None or chat.due_s > now else self._do_due(chat_id, chat, now)

    def _do_due(self, chat_id: str, chat: ChatState, now: float) -> list[Action]:
        chat.settles, chat.due_s = False, float("inf")
        if chat.holds:
            return self._go_on(chat_id, chat, now)
        if chat.asks:
            return []
        # What a former holder told is old by now.
        chat.is_named = False
        chat.elsewhere.clear()
        return [self._ask_holder(chat_id, chat, now)] if chat.here else self._forget(chat_id)

    def _forget(self, chat_id: str) -> list[Action]:
        del self._chats[chat_id]
        return []

    def _await(self, chat_id: str, chat: ChatState, job_ids: set[str]) -> None:
        """Keep the jobs that a chat waits for, and drop those that it waits for no more."""
        for job_id in chat.awaits - job_ids:
            chats = self._awaited[job_id]
            chats.discard(chat_id)
            if not chats:
                del self._awaited[job_id]
        for job_id in job_ids - chat.awaits:
            self._awaited.setdefault(job_id, set()).add(chat_id)
        chat.awaits = job_ids

    def _ask_lock(self, chat_id: str, chat: ChatState) -> AskLock:
        chat.asks, chat.due_s = True, float("inf")
        return AskLock(chat_id)

    def _ask_holder(self, chat_id: str, chat: ChatState, now: float) -> AskHolder:
        chat.due_s = now + REPEATS_S[min(chat.repeats, len(REPEATS_S) - 1)]
        chat.repeats += 1
        # Whoever was named, and came too late, knows of others, too.
        return AskHolder(chat_id, first_of((*chat.here.values(), *chat.elsewhere.values())))

    def _go_on(self, chat_id: str, chat: ChatState, now: float) -> list[Action]:
        """Run, name or wait for the next job of a chat that this worker holds."""
        if chat.running or chat.settles:
            return []
        self._await(chat_id, chat, set())
        known = {**chat.elsewhere, **chat.here}
        if not known:
            del self._chats[chat_id]
            return [LetGo(chat_id)]
        unknown_until_s = chat.unknown_until_s(known, self._is_behind)
        may_run = [it for it in known.values() if unknown_until_s.get(it.job_id, now) <= now]
        following = min(may_run or known.values(), key=by_time)
        if not may_run and any(until_s < float("inf") for until_s in unknown_until_s.values()):
            chat.due_s = min(unknown_until_s.values())
            self._await(chat_id, chat, {known[job_id].after for job_id in unknown_until_s})
            return []
        # Where nothing may run, and nothing is waited for, jobs name each other in a circle.
        chat.due_s = float("inf")
        if following.job_id in chat.here:
            chat.running = following.job_id
            copied = [NoteCopy(chat_id, chat.running)] if chat.running in chat.elsewhere else []
            return [*copied, Run(chat_id, chat.running)]
        others = first_of(it for it in known.values() if it is not following)
        chat.holds = False
        chat.elsewhere.clear()
        if chat.here:
            chat.due_s, chat.repeats = now + REPEATS_S[0], 1
        else:
            del self._chats[chat_id]
        return [LetGo(chat_id), NameNext(chat_id, following, others)]
