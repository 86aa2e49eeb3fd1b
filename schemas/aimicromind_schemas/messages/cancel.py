"""Cancel requests: messages on the exchange `control` that stop jobs, by job or by chat."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Final, TypeAlias

from pydantic import ConfigDict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from aimicromind_schemas.messages.invalid_job import is_absent
from aimicromind_schemas.messages.job_terms import id_text, is_job_id
from aimicromind_schemas.messages.raw_object import utf8_of
from aimicromind_schemas.routing import chat_fits
from aimicromind_schemas.wire import UtcTime, dump_json, load_json, time_text

# Far more than ids and a time need. A longer body is not built as Python objects.
_MAX_BYTES: Final = 64 * 1024
_TIME: Final[TypeAdapter[datetime]] = TypeAdapter(UtcTime)

# For JSON Schema: the names in JSON, and the docstrings below.
_DESCRIBED: Final = ConfigDict(alias_generator=to_camel, use_attribute_docstrings=True)


class InvalidCancel(ValueError):
    """A body is no cancel request. The text names fields, and quotes no value."""

    def __init__(self, remedy: str) -> None:
        super().__init__(f"Not a valid cancel request: {remedy}.")


@dataclass(frozen=True, slots=True)
class JobCancel:
    """Stops one job."""

    __pydantic_config__: ClassVar = _DESCRIBED

    job_id: str
    """The job; it need not have been submitted yet."""

    def __post_init__(self) -> None:
        if not is_job_id(self.job_id):
            raise InvalidCancel("jobId takes 1 to 128 of A-Z a-z 0-9 _ . -")

    def encode(self) -> bytes:
        """Write the request; `decode_cancel` gives an equal one."""
        return dump_json({"cancel": {"jobId": self.job_id}})


@dataclass(frozen=True, slots=True)
class ChatCancel:
    """Stops the jobs of a chat that were submitted at a time or before."""

    __pydantic_config__: ClassVar = _DESCRIBED

    chat_id: str
    """The conversation; that of a job without one is its job id."""

    submitted_at: UtcTime
    """When the request was made, by the clock of those who submit jobs."""

    def __post_init__(self) -> None:
        if not self.chat_id or not chat_fits(self.chat_id):
            raise InvalidCancel("chatId takes at most 228 bytes, counted percent-encoded")
        object.__setattr__(self, "submitted_at", _moment(self.submitted_at))

    def encode(self) -> bytes:
        """Write the request; `decode_cancel` gives an equal one."""
        fields = {"cancel": {"chatId": self.chat_id}, "submittedAt": time_text(self.submitted_at)}
        return dump_json(fields)


CancelRequest: TypeAlias = JobCancel | ChatCancel


def decode_cancel(body: bytes) -> CancelRequest:
    """Read a cancel request. Null and empty count as absent; unknown members are skipped.

    Args:
        body: One JSON object in UTF-8, UTF-16 or UTF-32, of at most 64 KiB.

    Raises:
        InvalidCancel: The body is no cancel request.
    """
    if len(body) > _MAX_BYTES:
        raise InvalidCancel(f"send at most {_MAX_BYTES} bytes")
    try:
        fields = load_json(utf8_of(body))
    except ValueError:
        raise InvalidCancel("send one JSON object in UTF-8") from None
    named = fields.get("cancel") if isinstance(fields, dict) else None
    if not isinstance(named, dict):
        raise InvalidCancel('send an object whose "cancel" is an object')
    match _text(named, "jobId"), _text(named, "chatId"):
        case str(job_id), None:
            return JobCancel(job_id)
        case None, str(chat_id):
            return ChatCancel(chat_id, _moment(fields.get("submittedAt")))
        case _:
            raise InvalidCancel("name either jobId or chatId")


def _text(named: dict[str, Any], field: str) -> str | None:
    value = id_text(named.get(field))
    if is_absent(value):
        return None
    if not isinstance(value, str):
        raise InvalidCancel(f"{field} takes a string")
    return value


def _moment(value: object) -> datetime:
    try:
        return _TIME.validate_python(value)
    except ValidationError:
        remedy = "with chatId goes submittedAt, an RFC 3339 time such as 2026-11-22T13:20:00.123Z"
        raise InvalidCancel(remedy) from None
