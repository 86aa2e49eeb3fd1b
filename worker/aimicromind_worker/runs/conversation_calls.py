"""One job's calls under its conversation's own chatId, as the journal must know of them."""

from datetime import UTC, datetime, timedelta

from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.job.open_run import OpenRun
from aimicromind_worker.runs.conversations import Conversations
from aimicromind_worker.runs.progress import Progress


class ConversationCalls:
    """Records when such a call begins and what became of it. Use it from the job's task.

    A job whose flow is of the usual kind never begins one, and nothing is recorded.

    Attributes:
        broken_off_at: When the call that is made was broken off, None if it was not.
    """

    def __init__(self, progress: Progress, conversations: Conversations) -> None:
        self._progress = progress
        self._conversations = conversations
        self.broken_off_at: datetime | None = None
        # The job's call whose answer is saved, unread; the call that is made; one that may run on.
        self._own: OpenRun | None = None
        self._made: OpenRun | None = None
        self._left: OpenRun | None = None

    @property
    def after(self) -> str | None:
        """The conversation's last message before the call that may run on.

        Empty where there is no such call, or no such message. None: nobody knows.
        """
        return "" if self._left is None else self._left.after

    async def pause(self) -> timedelta | None:
        """Return how long to wait before the first call; None where it can be made.

        Raises:
            HistoryUnknown: The broker does not show the journal now.
            ConnectionError: It does not show it at all.
        """
        match await self._conversations.own_or_wait(self._progress.ticket):
            case OpenRun() as own:
                self._own = own
                return None
            case pause:
                return pause

    def take_own(self) -> OpenRun | None:
        """Return the job's earlier call whose answer is saved, if there is one."""
        self._left = self._own
        return self._own

    async def begin(self) -> None:
        """Record that a call begins, before it does.

        Raises:
            ConnectionError: The journal does not take it.
        """
        progress = self._progress
        self._left = None
        self._made = await self._conversations.begun(
            progress.ticket, progress.calls + 1, progress.attempt.timeout
        )
        await self._conversations.note(self._made)

    async def failed(self, failure: CallFailed) -> None:
        """Record that the call failed.

        Raises:
            ConnectionError: The journal does not take it.
        """
        if failure.request_sent and not failure.run_is_over:
            self.broken_off_at = datetime.now(UTC)
        await self.settle()

    async def settle(self) -> None:
        """Record what became of the call: it may run on if it was broken off, else it is over.

        Raises:
            ConnectionError: The journal does not take it.
        """
        if self._made is None:
            return
        if self.broken_off_at is None:
            await self.over()
            return
        self._left = self._conversations.left(self._made, self.broken_off_at)
        await self._conversations.note(self._left)
        self._progress.chat_pause = self._conversations.pause_after(self._left)
        self._made = self.broken_off_at = None

    async def over(self) -> None:
        """Record that the call, or the one that might have run on, is over.

        Raises:
            ConnectionError: The journal does not take it.
        """
        run = self._made or self._left
        if run is not None:
            # A worker that gets the job again, before its end is written, reads the answer.
            answer = self._progress.attempt.answer.message_id
            await self._conversations.note(run.over(answer))
            self._progress.chat_pause = timedelta()
            # Last: what interrupts the note has it made again.
            self._made = self._left = None
