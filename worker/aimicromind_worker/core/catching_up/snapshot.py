"""Write the answer to a follower that comes late: the events of the attempt that runs, in parts.

Each part is written when it is sent, and the last one has all events until then. Thus an event that
is published between two parts is in a later part, too. An attempt that begins meanwhile begins the
answer anew.
"""

from dataclasses import dataclass

from aimicromind_schemas.messages.catch_up import CatchUpRequest, Snapshot
from aimicromind_worker.core.catching_up.kept_events import KeptEvents


@dataclass(frozen=True, slots=True)
class RunningJob:
    """What a worker runs now in a chat.

    Attributes:
        job_id: The job.
        attempt: The number of its attempt, 0 if it has begun none.
        kept: The events of that attempt; None if it has begun none.
    """

    job_id: str
    attempt: int = 0
    kept: KeptEvents | None = None


class SnapshotWriter:
    """The answer to one request, part by part.

    Attributes:
        is_whole: Whether the last part was written.
    """

    def __init__(self, request: CatchUpRequest) -> None:
        self.is_whole = False
        self._request = request
        self._of: RunningJob | None = None
        self._part = 0
        self._next_seq = 0

    def next_part(self, running: RunningJob | None, most_bytes: int) -> bytes:
        """Return the body of the next part; the caller sends it before any other event.

        Args:
            running: What runs now; None: nothing.
            most_bytes: About the most bytes of a part; a single event may have more.
        """
        kept = running.kept if running is not None and self._is_wanted(running) else None
        if running is None or kept is None:
            return self._without_events(running)
        if running != self._of:
            self._of, self._part = running, 0
            self._next_seq = self._first_seq(running, kept)
        if self._next_seq < kept.first_seq:
            return self._without_events(running, kept.first_seq)
        return self._with_events(running, kept, most_bytes)

    def _with_events(self, running: RunningJob, kept: KeptEvents, most_bytes: int) -> bytes:
        begin = min(self._next_seq, kept.next_seq)
        end = kept.end_of(begin, most_bytes) if begin < kept.next_seq else begin
        self._part += 1
        self._next_seq = end
        left_bytes = kept.body_bytes(end, kept.next_seq)
        self.is_whole = end == kept.next_seq
        return Snapshot(
            running.job_id,
            self._request.chat_id,
            running.attempt,
            kept.bodies(begin, end),
            self._part,
            self._part + -(-left_bytes // most_bytes),
        ).encode()

    def _without_events(
        self, running: RunningJob | None, complete_from: int | None = None
    ) -> bytes:
        self.is_whole = True
        return Snapshot(
            None if running is None else running.job_id,
            self._request.chat_id,
            0 if running is None else running.attempt,
            events=(),
            part=1,
            parts=1,
            complete_from=complete_from,
        ).encode()

    def _is_wanted(self, running: RunningJob) -> bool:
        return self._request.job_id in {None, running.job_id}

    def _first_seq(self, running: RunningJob, kept: KeptEvents) -> int:
        after = self._request.after
        if after is None or after.attempt < running.attempt:
            return 0
        return after.seq + 1 if after.attempt == running.attempt else kept.next_seq
