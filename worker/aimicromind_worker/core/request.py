"""Job → the body of one prediction call, with an endpoint chatId that no other call has."""

import json
from typing import Any
from uuid import UUID, uuid5

from aimicromind_schemas import PredictionJob

_CALLS = UUID("5f0c3f0e-6a37-5d3e-9c0b-0f6a4e6c9d11")


def call_chat_id(job_id: str, attempt: int, call: int) -> str:
    """Name the endpoint's channel of one call.

    The endpoint mixes up calls of equal chatId, and a call that was cut goes on writing to
    its own. So no two calls may share one: it is made of the job, the attempt and the
    number of the call in that attempt, which a later worker can work out again.
    """
    return str(uuid5(_CALLS, f"{job_id}:{attempt}:{call}"))


def prediction_body(job: PredictionJob, chat_id: str, endpoint_chat_id: str) -> bytes:
    """Write the request of one call.

    The conversation's memory goes by `overrideConfig.sessionId`: the job's own, else the
    chat. Everything the worker does not know goes to the endpoint as it came.
    """
    body: dict[str, Any] = job.endpoint_fields()
    override = dict(body.get("overrideConfig") or {})
    override["sessionId"] = override.get("sessionId") or chat_id
    streaming = job.answer is None
    body |= {"overrideConfig": override, "chatId": endpoint_chat_id, "streaming": streaming}
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


def expected_question(job: PredictionJob) -> str | None:
    """Say which question the endpoint's metadata must speak of, None where it may differ.

    Uploads change it on the server: speech becomes its text, files are put before it.
    """
    return None if job.uploads else job.question
