"""Read and write the messages by which workers tell each other who waits for a chat.

Invariants:

- A message grants nothing: whoever may publish can forge one. What cannot be read is left out.
- Times travel as ages, since the clocks of two workers differ.
"""

import re
from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from aimicromind_worker.core.chats.actions import MOST_TOLD, WaitingJob
from aimicromind_worker.core.chats.return_address import ReturnAddress

TakeMail = Callable[[bytes, ReturnAddress | None], None]
"""Takes the body of a message to the holder of a chat, and where its sender wants the answer."""
LONGEST_BYTES: Final = 64 * 1024
"""The longest message that is read; 50 jobs with the longest ids take half of it."""
_UUID: Final = re.compile("[0-9a-f-]{36}")
_LONGEST_ID: Final = 128
_LONGEST_WAIT_S: Final = 86_400.0


class _Told(msgspec.Struct, rename="camel", omit_defaults=True):
    job_id: str
    worker: str
    submitted_seconds: float
    waited_seconds: float
    after: str = ""


class TurnMessage(msgspec.Struct, rename="camel", omit_defaults=True, tag_field="turn"):
    """A message about a chat; each kind is a class of its own."""

    chat_id: str
    jobs: list[_Told] = []

    def waiting(self, now: float, workers: str) -> list[WaitingJob]:
        """Return the jobs that it names, at most `MOST_TOLD`.

        Args:
            now: The time by the clock of `WaitingJob.came_s`.
            workers: How the queues of all workers begin; jobs in other queues are left out.
        """
        return [
            WaitingJob(
                each.job_id,
                each.worker,
                each.submitted_seconds,
                now - min(max(each.waited_seconds, 0.0), _LONGEST_WAIT_S),
                each.after,
            )
            for each in self.jobs[:MOST_TOLD]
            if len(each.job_id) <= _LONGEST_ID and is_worker(each.worker, workers)
        ]


class Waiting(TurnMessage, tag="waiting"):
    """To the holder of a chat: these jobs wait.

    Attributes:
        worker: The queue that the asking worker is told by.
    """

    worker: str = ""


class Next(TurnMessage, tag="next"):
    """To a worker: one of its jobs is next; these wait, too."""


class AskAgain(TurnMessage, tag="askAgain"):
    """To a worker that asked the holder too late: the holder is another by now."""


_decoder: msgspec.json.Decoder[Waiting | Next | AskAgain] = msgspec.json.Decoder(
    Waiting | Next | AskAgain
)
_encode = msgspec.json.Encoder().encode


def waiting_message(chat_id: str, worker: str, jobs: Iterable[WaitingJob], now: float) -> bytes:
    """Return the message that tells a chat's holder who waits."""
    return _encode(Waiting(chat_id, _told(jobs, now), worker))


def next_message(chat_id: str, jobs: Iterable[WaitingJob], now: float) -> bytes:
    """Return the message that tells a worker that its job is next, and who else waits."""
    return _encode(Next(chat_id, _told(jobs, now)))


def ask_again_message(chat_id: str) -> bytes:
    """Return the message that tells a worker to ask for a chat again."""
    return _encode(AskAgain(chat_id))


def read_message(body: bytes) -> Waiting | Next | AskAgain | None:
    """Parse a message; return None for anything else."""
    if len(body) > LONGEST_BYTES:
        return None
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def is_worker(queue: str, workers: str) -> bool:
    """Return whether a queue is named as that of a worker. Nothing is ever sent to others.

    Args:
        queue: The name of the queue.
        workers: How the queues of all workers begin; a UUID follows.
    """
    return queue.startswith(workers) and _UUID.fullmatch(queue, len(workers)) is not None


def _told(jobs: Iterable[WaitingJob], now: float) -> list[_Told]:
    return [
        _Told(it.job_id, it.worker, it.submitted_s, max(0.0, now - it.came_s), it.after)
        for it in jobs
    ]
