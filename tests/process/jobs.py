"""Jobs as a producer writes them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4


@dataclass(frozen=True, slots=True)
class Job:
    """A job and the AMQP properties it goes out with."""

    fields: Mapping[str, Any]
    properties: Mapping[str, Any] = field(default_factory=dict)

    @property
    def job_id(self) -> str:
        return str(self.fields["jobId"])

    @property
    def chat_id(self) -> str:
        return str(self.fields["chatId"])

    @property
    def flow(self) -> str:
        return str(self.fields["chatflowId"])

    @property
    def message(self) -> tuple[bytes, Mapping[str, Any]]:
        return json.dumps(self.fields).encode(), {"delivery_mode": 2, **self.properties}


def a_job(flow: str = "flow", properties: Mapping[str, Any] | None = None, **fields: object) -> Job:
    """Write a job with ids of its own; a field that is None is left out."""
    unique = uuid4().hex[:12]
    usual = {
        "chatflowId": flow,
        "question": "Why?",
        "chatId": f"chat-{unique}",
        "jobId": f"job-{unique}",
    }
    written = {name: value for name, value in (usual | fields).items() if value is not None}
    return Job(written, properties or {})
