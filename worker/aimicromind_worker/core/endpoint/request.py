"""Write the body of a prediction call, and derive a chatId that no other call has."""

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
    """Return the chatId of one call at the endpoint.

    The endpoint mixes the streams of calls with equal chatId, and a call that was cut goes on
    writing to its own. Thus no two calls share one. Another worker can derive it again.

    Args:
        job_id: The job.
        attempt: Number of the attempt, from 1.
        call: Number of the call in that attempt, from 1.
    """
    return str(uuid5(_CALLS, f"{job_id}:{attempt}:{call}"))


def prediction_body(job: RawJob, chat_id: str, endpoint_chat_id: str) -> Pieces:
    """Return the body of one call, made of slices of the job's message.

    The endpoint finds the conversation's memory by `overrideConfig.sessionId`: that of the job,
    else the chat. Unknown fields go to the endpoint unchanged.
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
    """Return the question that the endpoint's metadata must name, as JSON.

    Returns:
        None for a job with uploads, which change the question on the server: speech becomes text,
        and files are put before it.
    """
    return None if job.raw("uploads") is not None else job.raw("question")


def is_question(expected: memoryview, told: bytes) -> bool:
    """Return whether the question in metadata, as JSON, may be the expected one."""
    if told == expected or not told.startswith(b'"'):
        return True
    asked = _compared(load_json(expected))
    return not asked or _compared(load_json(told)) == asked


def _session(override: Members) -> memoryview | None:
    """Return the `sessionId` of the job; null, false, 0 and empty values count as none."""
    value = override.named.get("sessionId")
    if value is None or (len(value) <= _LONGEST_SESSION_BYTES and not load_json(value)):
        return None
    return value


def _joined(members: Members) -> list[bytes | memoryview]:
    return [piece for run in members.others for piece in (b",", run)]


def _compared(question: str) -> str:
    """Return a question without what the endpoint changes: lone surrogates, outer white space."""
    return _LONE_SURROGATE.sub("\ufffd", question).strip()
