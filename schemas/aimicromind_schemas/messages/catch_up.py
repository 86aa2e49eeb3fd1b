"""Catching up: a request to the worker that runs a chat's job, and its answer, a snapshot.

The request is sent to the queue of the chat lock. The worker answers to the queue in `reply_to`, in
order with the events that it publishes.
"""

from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, Final

import msgspec
from pydantic import ConfigDict, Field, WithJsonSchema
from pydantic.alias_generators import to_camel

from aimicromind_schemas.messages.invalid_job import is_absent
from aimicromind_schemas.messages.job_terms import id_text, is_job_id
from aimicromind_schemas.messages.raw_object import utf8_of
from aimicromind_schemas.routing import chat_fits
from aimicromind_schemas.wire import Count, dump_json, json_of, load_json, whole

LONGEST_REQUEST_BYTES: Final = 4 * 1024
"""Longest request that is read."""
SNAPSHOT: Final = "snapshot"
"""AMQP property `type` of an answer."""

# For JSON Schema: the names in JSON, and the docstrings below.
_DESCRIBED: Final = ConfigDict(alias_generator=to_camel, use_attribute_docstrings=True)
_FromOne = Annotated[int, Field(ge=1)]
_EVENTS: Final = {"type": "array", "items": {"type": "object"}}


class InvalidCatchUp(ValueError):
    """A body is no request to catch up. The text names fields, and quotes no value."""

    def __init__(self, remedy: str) -> None:
        super().__init__(f"Not a valid request to catch up: {remedy}.")


class NotASnapshot(ValueError):
    """A body is no snapshot. The text names members, and quotes no value."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Not a snapshot: {reason}.")


@dataclass(frozen=True, slots=True)
class SeenUpTo:
    """The last event of a job that the asker has."""

    __pydantic_config__: ClassVar = _DESCRIBED

    attempt: Count
    """Its attempt."""

    seq: Count
    """Its place in the attempt."""

    def __post_init__(self) -> None:
        if not (_is_count(self.attempt) and _is_count(self.seq)):
            raise InvalidCatchUp("after takes attempt and seq, whole numbers from 0")


@dataclass(frozen=True, slots=True)
class CatchUpRequest:
    """Asks the worker that runs a job of a chat for the events that it has published of it."""

    __pydantic_config__: ClassVar = _DESCRIBED

    chat_id: str
    """The conversation; that of a job without one is its job id."""

    job_id: str | None = None
    """The job; where absent, whichever of the chat runs."""

    after: SeenUpTo | None = None
    """Leave out this event of the job and all before it. It goes with jobId."""

    def __post_init__(self) -> None:
        if not self.chat_id or not chat_fits(self.chat_id):
            raise InvalidCatchUp("chatId takes 1 to 228 bytes, counted percent-encoded")
        if self.job_id is not None and not is_job_id(self.job_id):
            raise InvalidCatchUp("jobId takes 1 to 128 of A-Z a-z 0-9 _ . -")
        if self.after is not None and self.job_id is None:
            raise InvalidCatchUp("after is a position in a job: name the job by jobId")

    def encode(self) -> bytes:
        """Write the request; `decode_catch_up` gives an equal one."""
        named: dict[str, object] = {"chatId": self.chat_id}
        if self.job_id is not None:
            named["jobId"] = self.job_id
        if self.after is not None:
            named["after"] = {"attempt": self.after.attempt, "seq": self.after.seq}
        return dump_json({"catchUp": named})


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One part of the answer to a request to catch up.

    The answer is whole with the part whose `part` equals `parts`; a part 1 begins it anew. It has
    all events of the attempt that were published before its last part.
    """

    __pydantic_config__: ClassVar = _DESCRIBED

    job_id: str | None
    """The job that the worker runs now in the chat; null: none."""

    chat_id: str
    """The conversation."""

    attempt: Count
    """The attempt that it runs now; 0: it has begun none."""

    events: Annotated[tuple[bytes, ...], WithJsonSchema(_EVENTS)] = field(repr=False)
    """Events of this attempt in their order, as they were published, each an object.

    None where the worker runs no job, or another one than was asked for.
    """

    part: _FromOne
    """Number of the part, from 1."""

    parts: _FromOne
    """How many parts there are, as far as is known: the events may become more meanwhile."""

    complete_from: Count | None = None
    """There where events are missing that the worker no longer has: it has those from this `seq`
    on. `events` is empty then: read the event log."""

    def encode(self) -> bytes:
        """Write the part; `decode_snapshot` gives an equal one."""
        complete_from = (
            b"" if self.complete_from is None else b',"completeFrom":%d' % self.complete_from
        )
        return b'{"jobId":%b,"chatId":%b,"attempt":%d,"part":%d,"parts":%d%b,"events":[%b]}' % (
            dump_json(self.job_id),
            dump_json(self.chat_id),
            self.attempt,
            self.part,
            self.parts,
            complete_from,
            b",".join(self.events),
        )


class _Written(msgspec.Struct, rename="camel"):
    """A snapshot as JSON has it; its events are not built."""

    chat_id: str
    attempt: int
    events: list[msgspec.Raw]
    part: int
    parts: int
    job_id: str | None
    complete_from: int | None = None


_decoder: Final = msgspec.json.Decoder(_Written)


def decode_catch_up(body: bytes) -> CatchUpRequest:
    """Read a request. Null and empty count as absent; unknown members are skipped.

    Args:
        body: One JSON object in UTF-8, UTF-16 or UTF-32, of at most 4 KiB.

    Raises:
        InvalidCatchUp: The body is no request.
    """
    if len(body) > LONGEST_REQUEST_BYTES:
        raise InvalidCatchUp(f"send at most {LONGEST_REQUEST_BYTES} bytes")
    try:
        fields = load_json(utf8_of(body))
    except ValueError:
        raise InvalidCatchUp("send one JSON object in UTF-8") from None
    named = fields.get("catchUp") if isinstance(fields, dict) else None
    if not isinstance(named, dict):
        raise InvalidCatchUp('send an object whose "catchUp" is an object')
    chat_id = _text(named, "chatId")
    if chat_id is None:
        raise InvalidCatchUp("name the conversation by chatId")
    return CatchUpRequest(chat_id, _text(named, "jobId"), _seen_up_to(named.get("after")))


def decode_snapshot(body: bytes) -> Snapshot:
    """Read a part of an answer; its events stay JSON, for `decode`.

    Where msgspec does not read an event, such as one with `1e400` or half an emoji, the events may
    have other bytes, with the same values.

    Raises:
        NotASnapshot: The body is none.
    """
    try:
        written = _decoder.decode(body)
    except msgspec.ValidationError as error:
        # It names the member and the types, as in `Expected `int`, got `str` - at `$.part``.
        raise NotASnapshot(str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        written = _odd(body)
    counts = (written.attempt, written.part - 1, written.parts - written.part)
    if min(*counts, written.complete_from or 0) < 0:
        raise NotASnapshot("attempt, part, parts or completeFrom is out of range")
    return Snapshot(
        written.job_id,
        written.chat_id,
        written.attempt,
        tuple(map(bytes, written.events)),
        written.part,
        written.parts,
        written.complete_from,
    )


def _odd(body: bytes) -> _Written:
    """Read a part that has an event which msgspec does not read.

    Raises:
        NotASnapshot: It is none.
    """
    try:
        fields = load_json(body)
        fields["events"] = [msgspec.Raw(json_of(event)) for event in fields["events"]]
        return msgspec.convert(fields, _Written)
    except msgspec.ValidationError as error:
        raise NotASnapshot(str(error)) from None
    except (ValueError, TypeError, KeyError):
        raise NotASnapshot("the body is no JSON object in UTF-8, or nested too deep") from None


def _text(named: dict[str, Any], name: str) -> str | None:
    value = id_text(named.get(name))
    if is_absent(value):
        return None
    if not isinstance(value, str):
        raise InvalidCatchUp(f"{name} takes a string")
    return value


def _seen_up_to(value: object) -> SeenUpTo | None:
    if is_absent(value):
        return None
    if not isinstance(value, dict):
        raise InvalidCatchUp("after takes an object with attempt and seq")
    attempt, seq = (whole(value.get(name)) for name in ("attempt", "seq"))
    return SeenUpTo(attempt, seq)  # type: ignore[arg-type]  # it checks the types itself


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
