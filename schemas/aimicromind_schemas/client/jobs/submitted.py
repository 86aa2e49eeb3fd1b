"""Memory of the jobs that a client submitted: their chats, when, and which came before which."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Generic, TypeVar

from aimicromind_schemas.client.past.log_place import CLOCK_SLACK
from aimicromind_schemas.messages.job import PredictionJob
from aimicromind_schemas.messages.worker_events import EndEvent

_KEPT: Final = 10_000
_NAMED_FOR: Final = timedelta(hours=1)
"""How long a job is named as the one before: by default, workers know of ended jobs that long."""

_LONG_AGO: Final = datetime.min.replace(tzinfo=UTC)
_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class _Submitted:
    chat_id: str
    at: datetime


@dataclass(slots=True)
class _Chat:
    """The last job of a chat that the broker confirmed, and the one that it named itself."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    job_id: str | None = None
    after: str | None = None
    at: datetime = _LONG_AGO


class _Latest(OrderedDict[str, _Value], Generic[_Value]):
    """A dict of the latest 10,000 keys."""

    def put(self, key: str, value: _Value) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > _KEPT:
            self.popitem(last=False)


class SubmittedJobs:
    """Remembers the latest 10,000 jobs, and the last job of each of the latest 10,000 chats."""

    def __init__(self) -> None:
        self._jobs: _Latest[_Submitted] = _Latest()
        self._chats: _Latest[_Chat] = _Latest()

    @asynccontextmanager
    async def submitting(self, job: PredictionJob, job_id: str) -> AsyncIterator[PredictionJob]:
        """Yield the job to publish, with the job before it in its chat as `after`.

        The jobs of a chat are published one after the other, each once the one before was
        confirmed or failed. One that failed is not named. Neither is one whose `end` was seen, or
        that was submitted over an hour ago. A job that sets `after` itself keeps it.
        """
        self._jobs.put(job_id, _Submitted(job.chat_id or job_id, datetime.now(UTC)))
        if job.chat_id is None:
            # It is alone in its chat.
            yield job.model_copy(update={"job_id": job_id})
            return
        chat = self._chats.get(job.chat_id) or _Chat()
        self._chats.put(job.chat_id, chat)
        async with chat.lock:
            after = job.after or _before(chat, job_id)
            yield job.model_copy(update={"job_id": job_id, "after": after})
            chat.job_id, chat.after, chat.at = job_id, after, datetime.now(UTC)

    def ended(self, end: EndEvent) -> None:
        """Remember that the `end` of a job was seen."""
        chat = self._chats.get(end.chat_id)
        if chat is not None and chat.job_id == end.job_id:
            chat.job_id = chat.after = None

    def chat_of(self, job_id: str | None) -> str | None:
        """Return the chat of a job; None where another client submitted it."""
        known = self._jobs.get(job_id or "")
        return None if known is None else known.chat_id

    def since(self, job_id: str | None) -> datetime | None:
        """Return a time before all events of a job, by any clock; None where it is unknown."""
        known = self._jobs.get(job_id or "")
        return None if known is None else known.at - CLOCK_SLACK


def _before(chat: _Chat, job_id: str) -> str | None:
    """Return the job before; for a job that is submitted again, the one that it named first."""
    if chat.job_id is None or datetime.now(UTC) - chat.at > _NAMED_FOR:
        return None
    return chat.after if chat.job_id == job_id else chat.job_id
