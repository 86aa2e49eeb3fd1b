"""Read a dead letter's facts, choose among dead letters, and rewrite one as a new job."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Final
from uuid import UUID, uuid5

import msgspec

from aimicromind_schemas import SUBMITTED_HEADER, FailureKind, InvalidJob, RawJob
from aimicromind_schemas.messages.job_terms import id_text
from aimicromind_schemas.messages.raw_object import NotAnObject, members_of, utf8_of, values_in
from aimicromind_schemas.wire import json_of

KIND: Final = "x-aimicromind-kind"
MESSAGE: Final = "x-aimicromind-message"
ATTEMPTS: Final = "x-aimicromind-attempts"
FAILED_AT: Final = "x-aimicromind-failed-at"
_NAMES = frozenset({"jobId", "chatId"})
_READ = _NAMES | {"chatflowId"}
_NAMESPACE = UUID("7f3f6a0e-0f0c-4b58-9a55-3c4c7c9a1d11")


class NotReplayable(Exception):
    """A dead letter cannot be replayed, for the reason in the text."""


class NotAJob(NotReplayable):
    """A dead letter is no valid job and cannot be run."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"it is not a valid job ({reason})")


class DeadLetter(msgspec.Struct, frozen=True, rename="camel"):
    """The facts of a dead letter.

    Attributes:
        job_id: The job's id; empty if it had none.
        chat_id: The job's chat; the job id if it had none.
        chatflow_id: The job's flow; empty if it had none.
        kind: The kind of the failure, one of `FailureKind`; `unknown` if no header has it.
        message: The same as a sentence.
        attempts: The number of attempts that were begun.
        failed_at: The time of the failure, aware; None if no header has it.
        size_bytes: The size of the body in bytes.
    """

    job_id: str
    chat_id: str
    chatflow_id: str
    kind: str
    message: str
    attempts: int
    failed_at: datetime | None
    size_bytes: int

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids by which the dead letter can be named."""
        return (self.job_id,)


@dataclass(frozen=True, slots=True)
class Choice:
    """A choice of dead letters: those that match every attribute that is set.

    Attributes:
        job_id: The job's id, or that of an event.
        kind: The kind of the failure.
        flow: The job's flow.
        older_than: The least time since the failure.
        newer_than: The most time since the failure.
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
        """Return whether a dead letter matches; one of unknown age has no match by age.

        Args:
            job: The dead letter.
            now: The time now, aware.
        """
        named = (
            (self.job_id is None or self.job_id in job.ids)
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
    """Read the facts of a dead letter, also if its body is no valid job.

    Args:
        body: The body of the message, or its beginning.
        headers: The headers of the message.
        message_id: The AMQP property of the message.
        whole_bytes: The size of the whole body if `body` is only its beginning.
    """
    values = values_in(body, _READ)
    attempts, message = headers.get(ATTEMPTS), headers.get(MESSAGE)
    kind = headers.get(KIND)
    if kind is None and whole_bytes is not None and _was_rejected(headers):
        kind, message = FailureKind.TOO_LARGE, f"the job has {whole_bytes} bytes"
    job_id = named_in(values, "jobId") or message_id or ""
    return DeadLetter(
        job_id,
        named_in(values, "chatId") or job_id,
        named_in(values, "chatflowId"),
        str(kind or "unknown"),
        message if isinstance(message, str) else "",
        attempts if isinstance(attempts, int) else 0,
        time_of(headers.get(FAILED_AT)),
        len(body) if whole_bytes is None else whole_bytes,
    )


def identity(body: bytes, headers: Mapping[str, object], dead: DeadLetter) -> str:
    """Return a text that all copies of one dead letter share, and no other dead letter has.

    Copies arise if a worker is lost after it dead-lettered a job and before it acknowledged it: the
    next worker dead-letters the job again. Both have the same id, body and time of submission, and
    different times of failure. Without an id, the time of the failure identifies the dead letter.
    """
    submitted = headers.get(SUBMITTED_HEADER) if dead.job_id else dead.failed_at
    return f"{dead.job_id} {submitted or ''} {sha256(body).hexdigest()}"


def replayed(body: bytes, dead: DeadLetter, same: str) -> tuple[str, bytes]:
    """Rewrite a dead letter as a new job of the same chat, under a new id.

    The old id has ended for good. The new id is made from the identity: a replay that is broken off
    and repeated runs the job once.

    Args:
        body: The body of the dead letter.
        dead: The facts of the dead letter.
        same: The identity of the dead letter, see `identity`.

    Returns:
        The new id and the new body.

    Raises:
        NotAJob: The dead letter is no valid job, or only the beginning of its body is there.
    """
    if len(body) < dead.size_bytes:
        raise NotAJob(f"it has {dead.size_bytes} bytes")
    job_id = str(uuid5(_NAMESPACE, same))
    try:
        others = members_of(utf8_of(body), _NAMES).others
        names = b'{"jobId":%b,"chatId":%b' % (json_of(job_id), json_of(dead.chat_id or job_id))
        again = b",".join((names, *others)) + b"}"
        RawJob.read(again)
    except (InvalidJob, NotAnObject) as error:
        raise NotAJob(str(error)) from error
    return job_id, again


def _was_rejected(headers: Mapping[str, object]) -> bool:
    """Return whether the latest reason in `x-death`, which comes first, is a reject."""
    match headers.get("x-death"):
        case [{"reason": "rejected"}, *_]:
            return True
        case _:
            return False


def named_in(values: Mapping[str, object], name: str) -> str:
    """Return an id among the values of a body; empty if it has none."""
    value = id_text(values.get(name))
    return value if isinstance(value, str) else ""


def time_of(value: object) -> datetime | None:
    """Return a header's time, aware; None if it is none."""
    try:
        found = value if isinstance(value, datetime) else datetime.fromisoformat(str(value))
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
