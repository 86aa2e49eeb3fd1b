"""The job: a request for a prediction, as a producer publishes it.

Fields for the worker are validated strictly. All others are sent to the endpoint unchanged.
"""

from functools import cache
from typing import Any, Final, Self

from pydantic import ConfigDict, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from aimicromind_schemas.messages.invalid_job import InvalidJob, body_problem, field_problems
from aimicromind_schemas.messages.job_terms import JobTerms, reject
from aimicromind_schemas.messages.raw_job import RawJob
from aimicromind_schemas.odd_json import TooDeep
from aimicromind_schemas.wire import Text, json_of, load_json, time_text

SUBMITTED_HEADER: Final = "x-aimicromind-submitted-at"
"""Header with the time of submission, ISO 8601 with microseconds; an AMQP timestamp has seconds."""

_INSTEAD_OF_QUESTION: Final = ("form", "human_input", "action", "uploads")
_FOR_ENDPOINT: Final = (
    "question",
    "override_config",
    "history",
    "uploads",
    "form",
    "human_input",
    "action",
    "lead_email",
)


class PredictionJob(JobTerms):
    """One request for a prediction. Fields not named here are kept and sent to the endpoint."""

    model_config = ConfigDict(extra="allow")

    question: Text | None = None
    """What the user asks. Required unless form, humanInput, action or uploads is there."""

    override_config: dict[str, Any] | None = None
    """Settings of the flow for this call, as the endpoint takes them."""

    history: Any = None
    """Earlier messages, as the endpoint takes them."""

    uploads: Any = None
    """Files, as the endpoint takes them."""

    form: Any = None
    """Values of the flow's form, in place of a question."""

    human_input: Any = None
    """Answer to a paused agent flow."""

    action: Any = None
    """Answer to an action that the flow asked for."""

    lead_email: Any = None
    """Address the endpoint stores with the conversation."""

    streaming: Any = None
    """Whatever it says, it is sent as the worker asks: true, unless `answer` is `json`."""

    @model_validator(mode="after")
    def _is_asked(self) -> Self:
        substitutes = (getattr(self, name) for name in _INSTEAD_OF_QUESTION)
        if self.question is None and all(value is None for value in substitutes):
            reject("question", "nothing is asked")
        return self

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read a job by the worker's own rules.

        Args:
            body: One JSON object in UTF-8, UTF-16 or UTF-32.

        Raises:
            InvalidJob: The body is no valid job.
        """
        members = RawJob.read(body).members
        fields: dict[str, Any] = {}
        try:
            fields |= {name: load_json(value) for name, value in members.named.items()}
            for run in members.others:
                fields |= load_json(b"{%b}" % bytes(run))
            return cls.model_validate(fields, by_alias=True, by_name=False)
        except ValidationError as error:
            raise InvalidJob(field_problems(error.errors(), fields)) from None
        except TooDeep as error:
            raise InvalidJob((body_problem(str(error)),)) from None

    def encode(self) -> bytes:
        """Return the body of the job's message; `decode` returns an equal job.

        Raises:
            ValueError: A value has no JSON form, such as NaN.
            TypeError: A value has a type that JSON does not have.
        """
        fields = self._present(tuple(type(self).model_fields))
        if self.expires_at is not None:
            fields["expiresAt"] = time_text(self.expires_at)
        return json_of(fields)

    def endpoint_fields(self) -> dict[str, Any]:
        """Return the fields for the endpoint, by their names in JSON, without ids and terms.

        The dict is new. Its values are the job's own: copy a value before changing it.
        """
        return self._present(_FOR_ENDPOINT)

    def _present(self, names: tuple[str, ...]) -> dict[str, Any]:
        known = {_alias(name): getattr(self, name) for name in names}
        present = {name: value for name, value in known.items() if value is not None}
        return present | (self.model_extra or {})


_alias = cache(to_camel)
