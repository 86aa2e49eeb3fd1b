"""Write the job that answers a question of a flow to a person.

Invariants:

- All answers to a question are one job: its id follows from the question and the job that asked. Of
  two jobs with one id, one runs. Thus the first answer counts, whoever gives it and however often.
- An answer to one job is never the answer to another, whatever ids the endpoint gives to questions.
- The job expires with the question.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final

from aimicromind_schemas.client.errors import CannotAnswer
from aimicromind_schemas.messages.endpoint_events import ActionEvent
from aimicromind_schemas.messages.job import PredictionJob
from aimicromind_schemas.messages.worker_events import EndEvent

_HUMAN: Final = "human"
_DECISION: Final = "decision"


@dataclass(frozen=True, slots=True)
class HumanAnswer:
    """A person's answer to a question of a flow.

    Attributes:
        question: The event `action` with the question.
        approve: Whether the flow goes on with what it asked for.
        feedback: What the person says beside; only flows of version 2 take it.
        expires_after: How long after the question it may be answered.
        override_config: That of the job that asked.
    """

    question: ActionEvent
    approve: bool
    feedback: str | None
    expires_after: timedelta
    override_config: dict[str, Any] | None

    def job(self, now: datetime) -> PredictionJob:
        """Return the job to submit.

        Raises:
            CannotAnswer: The question has expired, or it does not say how it is answered.
            ValueError: There is feedback, and the flow takes none.
        """
        expires_at = self.question.time + self.expires_after
        if now >= expires_at:
            raise CannotAnswer(self.question.job_id, "its question has expired")
        return PredictionJob(
            chatflow_id=self.question.chatflow_id,
            chat_id=self.question.chat_id,
            job_id=self._job_id(),
            after=self.question.job_id,
            expires_at=expires_at.astimezone(UTC),
            override_config=self.override_config,
            tags={_DECISION: "approved" if self.approve else "rejected"},
            **self._decision(),
        )

    def check(self, end: EndEvent) -> None:
        """Check that a job which has ended waits for this answer.

        Raises:
            CannotAnswer: It does not.
        """
        if end.data.waits_for != _HUMAN:
            raise CannotAnswer(end.job_id, f"it ended as {end.data.status}, and waits for nobody")
        if end.attempt != self.question.attempt:
            raise CannotAnswer(end.job_id, "its question is of an attempt that was superseded")

    def _job_id(self) -> str:
        """Return the id of all answers to the question."""
        asked = f"{self.question.job_id}\n{self.question.data.id}"
        return f"answer-{sha256(asked.encode()).hexdigest()}"

    def _decision(self) -> dict[str, Any]:
        """Return the fields for the endpoint, as the vendor's own chat sends them."""
        asked = self.question.data
        node = (asked.data or {}).get("nodeId")
        if isinstance(node, str):
            decision = {"type": "proceed" if self.approve else "reject", "startNodeId": node}
            said = {} if self.feedback is None else {"feedback": self.feedback}
            return {"human_input": decision | said}
        # Sequential agents compare the question with the label of the button.
        label = (asked.mapping or {}).get("approve" if self.approve else "reject")
        if not isinstance(label, str) or not label:
            raise CannotAnswer(self.question.job_id, "its question names neither a node nor labels")
        if self.feedback is not None:
            raise ValueError("feedback: this flow takes none; leave it out, or send it afterwards")
        return {
            "question": label,
            "action": asked.model_dump(mode="json", by_alias=True, exclude_unset=True),
        }
