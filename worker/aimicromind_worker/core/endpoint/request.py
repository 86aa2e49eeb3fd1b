"""Job → the body of one prediction call, with an endpoint chatId that no other call has."""

import re
from uuid import UUID, uuid5

from aimicromind_schemas import RawJob
from aimicromind_schemas.messages.raw_job import FOR_ENDPOINT
from aimicromind_schemas.messages.raw_object import Members
from aimicromind_schemas.wire import json_of, load_json
from aimicromind_worker.core.endpoint.exchange import Pieces

_CALLS = UUID("5f0c3f0e-6a37-5d3e-9c0b-0f6a4e6c9d11")
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")
_LONGEST_SESSION_BYTES = 64 * 1024


def call_chat_id(job_id: str, attempt: int, call: int) -> str:
    """Name the endpoint's channel of one call.

    The endpoint mixes up calls of equal chatId, and a call that was cut goes on writing to
    its own. So no two calls may share one: it is made of the job, the attempt and the
    number of the call in that attempt, which a later worker can work out again.
    """
    return str(uuid5(_CALLS, f"{job_id}:{attempt}:{call}"))


def prediction_body(job: RawJob, chat_id: str, endpoint_chat_id: str) -> Pieces:
    """Write the request of one call, from slices of the message.

    The conversation's memory goes by `overrideConfig.sessionId`: the job's own, else the
    chat. Everything the worker does not know goes to the endpoint as it came.
    """
    streaming = b"true" if job.answer is None else b"false"
    pieces: list[bytes | memoryview] = [b'{"streaming":%b' % streaming]
    pieces += (b',"chatId":', json_of(endpoint_chat_id), b',"overrideConfig":{"sessionId":')
    pieces += (_session(job.override) or json_of(chat_id), *_joined(job.override), b"}")
    for name in FOR_ENDPOINT:
        value = job.raw(name)
        if value is not None:
            pieces += (b',"%b":' % name.encode(), value)
    return (*pieces, *_joined(job.members), b"}")


def expected_question(job: RawJob) -> memoryview | None:
    """Return the question that the endpoint's metadata must speak of, as JSON.

    None where it may differ: uploads change it on the server. Speech becomes its text, files are
    put before it.
    """
    return None if job.raw("uploads") is not None else job.raw("question")


def is_question(expected: memoryview, told: bytes) -> bool:
    """Return whether metadata that tells this JSON may speak of the question."""
    if told == expected or not told.startswith(b'"'):
        return True
    asked = _compared(load_json(expected))
    return not asked or _compared(load_json(told)) == asked


def _session(override: Members) -> memoryview | None:
    """Return the job's own session; null, false, 0 and what is empty is none."""
    value = override.named.get("sessionId")
    if value is None or (len(value) <= _LONGEST_SESSION_BYTES and not load_json(value)):
        return None
    return value


def _joined(members: Members) -> list[bytes | memoryview]:
    return [piece for run in members.others for piece in (b",", run)]


def _compared(question: str) -> str:
    """Half an emoji comes back as U+FFFD, and white space around a question may not."""
    return _LONE_SURROGATE.sub("\ufffd", question).strip()
