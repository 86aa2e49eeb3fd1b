"""Messages of the peers as plain pydantic models."""

from typing import Any

from pydantic import BaseModel


class PeerJob(BaseModel):
    chatflowId: str  # noqa: N815 - the name on the wire
    question: str
    jobId: str  # noqa: N815 - the name on the wire

    @property
    def path(self) -> str:
        return f"/api/v1/prediction/{self.chatflowId}"

    @property
    def request(self) -> dict[str, Any]:
        return {"question": self.question, "chatId": self.jobId, "streaming": True}


class PeerFrame(BaseModel):
    event: str
    data: Any = None


class PeerEvent(BaseModel):
    jobId: str  # noqa: N815 - the name on the wire
    seq: int
    event: str
    data: Any

    @property
    def routing_key(self) -> str:
        return f"chat.{self.jobId}.{self.event}"
