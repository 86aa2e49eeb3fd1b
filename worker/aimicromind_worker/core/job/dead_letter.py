"""Read what is known of a dead letter, choose among dead letters, and write one as a job again."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from uuid import UUID, uuid5

import msgspec

from aimicromind_schemas import SUBMITTED_HEADER, FailureKind, InvalidJob, RawJob
from aimicromind_schemas.messages.job_terms import id_text
from aimicromind_schemas.messages.raw_object import NotAnObject, members_of, utf8_of, values_in
from aimicromind_schemas.wire import json_of

_KIND = "x-aimicromind-kind"
_MESSAGE = "x-aimicromind-message"
_ATTEMPTS = "x-aimicromind-attempts"
_FAILED_AT = "x-aimicromind-failed-at"
_NAMES = frozenset({"jobId", "chatId"})
_READ = _NAMES | {"chatflowId"}
_NAMESPACE = UUID("7f3f6a0e-0f0c-4b58-9a55-3c4c7c9a1d11")


class NotReplayable(Exception):
    """A dead letter is no valid job, so that it cannot be run."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"it is not a valid job ({reason})")


class DeadLetter(msgspec.Struct, frozen=True, rename="camel"):
    """What is known of a dead letter.

    Attributes:
        job_id: Its name; empty where it had none.
        chat_id: Its conversation; its job id where it named none.
        chatflow_id: Its flow; empty where it named none.
        kind: Why it failed, one of `FailureKind`; `unknown` where nobody wrote it down.
        message: The same as a sentence.
        attempts: How many were begun.
        failed_at: When; None where nobody wrote it down.
        size_bytes: Of its body.
    """

    job_id: str
    chat_id: str
    chatflow_id: str
    kind: str
    message: str
    attempts: int
    failed_at: datetime | None
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Choice:
    """Which dead letters are meant: those for which all holds that is set.

    Attributes:
        job_id: Its name.
        kind: Why it failed.
        flow: Its flow.
        older_than: It failed at least so long ago.
        newer_than: It failed at most so long ago.
    """

    job_id: str | None = None
    kind: str | None = None
    flow: str | None = None
    older_than: timedelta | None = None
    newer_than: timedelta | None = None

    @property
    def is_all(self) -> bool:
        """Whether nothing is set."""
        return self == Choice()

    def fits(self, job: DeadLetter, now: datetime) -> bool:
        """Return whether a job is meant; one of unknown age is neither old nor new."""
        named = (
            self.job_id in {None, job.job_id}
            and self.kind in {None, job.kind}
            and self.flow in {None, job.chatflow_id}
        )
        if self.older_than is None and self.newer_than is None:
            return named
        if job.failed_at is None:
            return False
        age = now - job.failed_at
        old_enough = self.older_than is None or age >= self.older_than
        new_enough = self.newer_than is None or age <= self.newer_than
        return named and old_enough and new_enough


def read_dead_job(
    body: bytes,
    headers: Mapping[str, object],
    message_id: str | None,
    whole_bytes: int | None = None,
) -> DeadLetter:
    """Read what is known, whatever the message is.

    Args:
        body: Of the message, or its beginning.
        headers: Of the message.
        message_id: Of the message.
        whole_bytes: Size of the body, where only its beginning is there.
    """
    values = values_in(body, _READ)

    def field(name: str) -> str:
        value = id_text(values.get(name))
        return value if isinstance(value, str) else ""

    attempts, message = headers.get(_ATTEMPTS), headers.get(_MESSAGE)
    kind = headers.get(_KIND)
    if kind is None and whole_bytes is not None and _was_rejected(headers):
        kind, message = FailureKind.TOO_LARGE, f"the job has {whole_bytes} bytes"
    job_id = field("jobId") or message_id or ""
    return DeadLetter(
        job_id,
        field("chatId") or job_id,
        field("chatflowId"),
        str(kind or "unknown"),
        message if isinstance(message, str) else "",
        attempts if isinstance(attempts, int) else 0,
        _time(headers.get(_FAILED_AT)),
        len(body) if whole_bytes is None else whole_bytes,
    )


def identity(body: bytes, headers: Mapping[str, object], dead: DeadLetter) -> str:
    """Return what all copies of one dead letter share, and no other has.

    A worker that is lost after it dead-lettered a job leaves the job on its queue, too: the next
    one dead-letters it again. Both copies have the job's id and body, and the time when it was
    submitted, if that is known; not the time of the failure. Without an id, that time is all
    there is.
    """
    submitted = headers.get(SUBMITTED_HEADER) if dead.job_id else dead.failed_at
    return f"{dead.job_id} {submitted or ''} {sha256(body).hexdigest()}"


def replayed(body: bytes, dead: DeadLetter, same: str) -> tuple[str, bytes]:
    """Write a dead letter as a new job: its id has ended for good, so that it gets another one.

    The same dead letter always gets the same id, so that a replay which is cut off and done again
    runs it once. It stays in its chat.

    Args:
        body: Of the dead letter.
        dead: What is known of it.
        same: Its identity.

    Returns:
        The new id, and the body.

    Raises:
        NotReplayable: It is no valid job, or too large to be one.
    """
    if len(body) < dead.size_bytes:
        raise NotReplayable(f"it has {dead.size_bytes} bytes")
    job_id = str(uuid5(_NAMESPACE, same))
    try:
        others = members_of(utf8_of(body), _NAMES).others
        names = b'{"jobId":%b,"chatId":%b' % (json_of(job_id), json_of(dead.chat_id or job_id))
        again = b",".join((names, *others)) + b"}"
        RawJob.read(again)
    except (InvalidJob, NotAnObject) as error:
        raise NotReplayable(str(error)) from error
    return job_id, again


def _was_rejected(headers: Mapping[str, object]) -> bool:
    """Return whether a worker had the broker dead-letter the job; the latest reason comes first."""
    match headers.get("x-death"):
        case [{"reason": "rejected"}, *_]:
            return True
        case _:
            return False


def _time(text: object) -> datetime | None:
    try:
        found = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
