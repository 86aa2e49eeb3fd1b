"""The status of workers: a request to all of them, and the answer of one, its report.

The request is sent to the exchange `pool`. Each worker answers to the queue in `reply_to`.
"""

from dataclasses import asdict, dataclass
from typing import Annotated, ClassVar, Final, Literal

from pydantic import BeforeValidator, ConfigDict, Field, Strict, TypeAdapter, ValidationError
from pydantic.alias_generators import to_camel

from aimicromind_schemas.messages.invalid_job import is_absent
from aimicromind_schemas.messages.job_terms import id_text, is_job_id
from aimicromind_schemas.messages.raw_object import utf8_of
from aimicromind_schemas.wire import Seconds, dump_json, load_json, whole

WORKER_REPORT: Final = "workerReport"
"""AMQP property `type` of an answer."""
LONGEST_STATUS_REQUEST_BYTES: Final = 1024
"""Longest request that is read."""
LONGEST_REPORT_BYTES: Final = 16 * 1024
"""Longest answer that is read."""

# For JSON Schema: the names in JSON, and the docstrings below.
_DESCRIBED: Final = ConfigDict(alias_generator=to_camel, use_attribute_docstrings=True)
_Name = Annotated[str, Field(min_length=1, max_length=255, strict=True)]
_Reason = Annotated[str, Field(max_length=500, strict=True)]
_MOST_REASONS: Final = 16
# Whoever may publish can forge a report: no number is wider than a screen.
_Bounded = Annotated[int, Field(ge=0, le=2**53)]
_Number = Annotated[_Bounded, Strict(), BeforeValidator(whole, json_schema_input_type=_Bounded)]
_Time = Annotated[Seconds, Field(le=1e10)]


class InvalidStatusRequest(ValueError):
    """A body is no request for the status. The text quotes no value."""

    def __init__(self, remedy: str) -> None:
        super().__init__(f"Not a valid request for the status: {remedy}.")


class NotAReport(ValueError):
    """A body is no report of a worker. The text names members, and quotes no value."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"Not a report of a worker: {reason}.")


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """Asks each worker for a report."""

    __pydantic_config__: ClassVar = _DESCRIBED

    job_id: str | None = None
    """A job: the report tells whether the worker has it."""

    def __post_init__(self) -> None:
        if self.job_id is not None and not is_job_id(self.job_id):
            raise InvalidStatusRequest("jobId takes 1 to 128 of A-Z a-z 0-9 _ . -")

    def encode(self) -> bytes:
        """Write the request; `decode_status_request` gives an equal one."""
        return dump_json({"status": {} if self.job_id is None else {"jobId": self.job_id}})


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerReport:
    """What one worker does, by its own count. Counters begin at zero with its process."""

    __pydantic_config__: ClassVar = _DESCRIBED

    worker: _Name
    """Id of the worker's session; it has another one after a lost connection."""

    host: _Name
    """Name of its machine, container or pod."""

    pid: _Number
    """Number of its process there."""

    version: _Name
    """Version of its program."""

    up_seconds: _Time
    """Time since its process began."""

    ready: Annotated[bool, Strict()]
    """Whether it takes jobs."""

    obstacles: Annotated[tuple[_Reason, ...], Field(max_length=_MOST_REASONS)]
    """Why it takes none; empty if it is ready."""

    slots: _Number
    """Most jobs that it runs at a time."""

    running: _Number
    """Jobs that it runs."""

    waiting: _Number
    """Jobs that it holds and has not begun: they wait for their chat, a slot or the endpoint."""

    waiting_for_chat: _Number
    """Those of them that wait for their chat."""

    consumers: _Number
    """Its consumers of the queue of jobs, cancelled ones included until their jobs are settled."""

    ended: _Number
    """Jobs that it has ended."""

    events: _Number
    """Events that it has published, copies for a `reply_to` included."""

    oldest_seconds: _Time | None = None
    """Time since the oldest job that it holds was submitted; null: it holds none, or none tells."""

    job: Literal["running", "waiting"] | None = None
    """What it does with the job that was asked for; null: it does not have it, or none was."""

    def encode(self) -> bytes:
        """Write the report; `decode_report` gives an equal one."""
        return dump_json({to_camel(name): value for name, value in asdict(self).items()})


_REPORT: Final = TypeAdapter(WorkerReport)


def decode_status_request(body: bytes) -> StatusRequest:
    """Read a request. Null and empty count as absent; unknown members are skipped.

    Args:
        body: One JSON object in UTF-8, UTF-16 or UTF-32, of at most 1 KiB.

    Raises:
        InvalidStatusRequest: The body is no request.
    """
    if len(body) > LONGEST_STATUS_REQUEST_BYTES:
        raise InvalidStatusRequest(f"send at most {LONGEST_STATUS_REQUEST_BYTES} bytes")
    try:
        fields = load_json(utf8_of(body))
    except ValueError:
        raise InvalidStatusRequest("send one JSON object in UTF-8") from None
    named = fields.get("status") if isinstance(fields, dict) else None
    if not isinstance(named, dict):
        raise InvalidStatusRequest('send an object whose "status" is an object')
    job_id = id_text(named.get("jobId"))
    if is_absent(job_id):
        return StatusRequest()
    if not isinstance(job_id, str):
        raise InvalidStatusRequest("jobId takes a string")
    return StatusRequest(job_id)


def decode_report(body: bytes) -> WorkerReport:
    """Read a report; unknown members are skipped.

    Raises:
        NotAReport: The body is none.
    """
    if len(body) > LONGEST_REPORT_BYTES:
        raise NotAReport(f"it has more than {LONGEST_REPORT_BYTES} bytes")
    try:
        return _REPORT.validate_python(load_json(body))
    except ValidationError as error:
        (first, *_) = error.errors(include_input=False, include_url=False)
        where = ".".join(map(str, first["loc"])) or "the body"
        raise NotAReport(f"{where} is missing, or has another type or size") from None
    except ValueError:
        raise NotAReport("the body is no JSON object in UTF-8") from None
