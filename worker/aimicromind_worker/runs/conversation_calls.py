"""Record in the journal one job's calls under its conversation's own chatId."""

from datetime import UTC, datetime, timedelta

from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.job.open_run import OpenRun
from aimicromind_worker.runs.conversations import Conversations
from aimicromind_worker.runs.progress import Progress


class ConversationCalls:
    """The records of one job's calls. Use it from the job's task.

    Only flows with a conversation's own documents need such calls. Other jobs record nothing.

    Attributes:
        broken_off_at: The time at which the current call was broken off, None if it was not.
    """

    def __init__(self, progress: Progress, conversations: Conversations) -> None:
        self._progress = progress
        self._conversations = conversations
        self.broken_off_at: datetime | None = None
        # The job's earlier call with a saved, unread answer; the current call; a call that was
        # broken off and may still run.
        self._own: OpenRun | None = None
        self._made: OpenRun | None = None
        self._left: OpenRun | None = None

    @property
    def after(self) -> str | None:
        """The id of the conversation's last message before the call that may still run.

        Empty: there is no such call or no such message. None: it is unknown.
        """
        return "" if self._left is None else self._left.after

    async def pause(self) -> timedelta | None:
        """Return how long to wait before the first call; None if it can be made now.

        Raises:
            HistoryUnknown: The journal cannot be read now.
            ConnectionError: The journal does not exist, or the connection is lost.
        """
        match await self._conversations.own_or_wait(self._progress.ticket):
            case OpenRun() as own:
                self._own = own
                return None
            case pause:
                return pause

    def take_own(self) -> OpenRun | None:
        """Return the job's earlier call whose answer is saved; None if there is none."""
        self._left = self._own
        return self._own

    async def begin(self) -> None:
        """Record that a call begins; await this before the call.

        Raises:
            ConnectionError: The broker did not confirm the record.
        """
        progress = self._progress
        self._left = None
        self._made = await self._conversations.begun(
            progress.ticket, progress.calls + 1, progress.attempt.timeout
        )
        await self._conversations.note(self._made)

    async def failed(self, failure: CallFailed) -> None:
        """Record that the call failed, and whether it may still run.

        Raises:
            ConnectionError: The broker did not confirm the record.
        """
        if failure.request_sent and not failure.run_is_over:
            self.broken_off_at = datetime.now(UTC)
        await self.settle()

    async def settle(self) -> None:
        """Record what became of the call: it may still run if it was broken off, else it is over.

        Raises:
            ConnectionError: The broker did not confirm the record.
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
        """Record that the current call, or the one that might still run, is over.

        Raises:
            ConnectionError: The broker did not confirm the record.
        """
        run = self._made or self._left
        if run is not None:
            # A worker that receives the job again before its `end` is confirmed reads this answer.
            answer = self._progress.attempt.answer.message_id
            await self._conversations.note(run.over(answer))
            self._progress.chat_pause = timedelta()
            # Last: if the note is interrupted, it is made again.
            self._made = self._left = None
