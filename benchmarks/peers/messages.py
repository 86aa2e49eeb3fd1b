"""The messages of the peers, in pydantic as most people write them."""

from typing import Any

from pydantic import BaseModel


class Job(BaseModel):
    chatflowId: str  # noqa: N815 - the name on the wire
    question: str
    jobId: str  # noqa: N815 - the name on the wire

    @property
    def path(self) -> str:
        return f"/api/v1/prediction/{self.chatflowId}"

    @property
    def request(self) -> dict[str, Any]:
        return {"question": self.question, "chatId": self.jobId, "streaming": True}


class Frame(BaseModel):
    event: str
    data: Any = None


class Out(BaseModel):
    jobId: str  # noqa: N815 - the name on the wire
    seq: int
    event: str
    data: Any

    @property
    def routing_key(self) -> str:
        return f"chat.{self.jobId}.{self.event}"
