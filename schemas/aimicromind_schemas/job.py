"""The job: what a producer puts on the queue to have a prediction made.

Reading is strict about what the worker acts on, and leaves the rest to the endpoint as it came.
Ids that a job lacks are filled in by whoever knows the message it came in.
"""

import json
import re
from functools import cache
from typing import Annotated, Any, ClassVar, Final, Literal, LiteralString, Never, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic.alias_generators import to_camel
from pydantic_core import PydanticCustomError, from_json

from aimicromind_schemas.invalid_job import (
    InvalidJob,
    body_problem,
    field_problems,
    is_absent,
    json_problem,
)
from aimicromind_schemas.routing import chat_fits
from aimicromind_schemas.wire import Quiet, UtcTime, dump_json, time_text

SUBMITTED_HEADER: Final = "x-aimicromind-submitted-at"
"""Tells when a job was submitted, ISO 8601 with microseconds: an AMQP timestamp has seconds."""

_LEAST_TAG_BYTES: Final = 6  # "":"" and a comma
_MAX_TAGS_BYTES: Final = 16 * 1024
_JOB_ID: Final = r"^[A-Za-z0-9_.-]{1,128}$"
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


class PredictionJob(Quiet, BaseModel):
    """One request for a prediction. Fields not named here are kept and sent to the endpoint."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        validate_by_alias=True,
        validate_by_name=True,
        extra="allow",
        frozen=True,
        strict=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )
    shown: ClassVar = ("chatflow_id", "chat_id", "job_id")

    chatflow_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
    """The flow to run."""

    question: str | None = None
    """What the user asks. Required unless form, humanInput, action or uploads is there."""

    chat_id: str | None = None
    """The conversation; names the routing keys of its events. Defaults to the job id."""

    job_id: Annotated[str, Field(pattern=_JOB_ID)] | None = None
    """Names the job in all its events. Defaults to the `message_id` of the AMQP message."""

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

    streaming: bool | None = None
    """Accepted for compatibility and sent as the worker asks: true, unless `answer` is `json`."""

    answer: Literal["json"] | None = None
    """`json`: ask without streaming, and put the server's whole JSON into `end.data.answer`."""

    timeout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Limit of one attempt. Can only lower the worker's own."""

    expires_at: UtcTime | None = None
    """When the whole job is given up. Can only lower the worker's own limit."""

    max_calls: Annotated[int, Field(ge=1)] | None = None
    """Calls to the endpoint that may be begun. Can only lower the worker's own limit."""

    max_attempts: None = None
    """Retired: use `maxCalls`. A job that sets it is invalid."""

    after: Annotated[str, Field(pattern=_JOB_ID)] | None = None
    """The job before this one in its chat, by its id. It has no effect yet."""

    idempotent: bool | None = None
    """Whether running the flow twice is harmless. Absent: the worker judges by what it saw."""

    tags: dict[str, str] | None = None
    """The producer's own notes, echoed in `start` and `end`. At most 16 KiB as JSON."""

    @field_validator("*", mode="before")
    @classmethod
    def _null_for_empty(cls, value: object) -> object:
        return None if is_absent(value) else value

    @field_validator("tags", mode="before")
    @classmethod
    def _few_tags(cls, tags: object) -> object:
        # Before they are looked at one by one: each that is no string costs a report of its own.
        if isinstance(tags, dict) and len(tags) > _MAX_TAGS_BYTES // _LEAST_TAG_BYTES:
            _refuse("tags", "tags take more than 16 KiB")
        return tags

    @field_validator("tags")
    @classmethod
    def _small_tags(cls, tags: dict[str, str] | None) -> dict[str, str] | None:
        if tags is not None and len(dump_json(tags)) > _MAX_TAGS_BYTES:
            _refuse("tags", "tags take more than 16 KiB")
        return tags

    @model_validator(mode="after")
    def _can_be_asked_and_routed(self) -> Self:
        substitutes = (getattr(self, name) for name in _INSTEAD_OF_QUESTION)
        if self.question is None and all(value is None for value in substitutes):
            _refuse("question", "nothing is asked")
        if self.chat_id is not None and not chat_fits(self.chat_id):
            _refuse("chatId", "its routing keys would be too long")
        if self.after is not None and self.after == self.job_id:
            _refuse("after", "a job cannot come after itself")
        if self.chat_id is None and self.job_id is not None and not chat_fits(self.job_id):
            _refuse("chatId", "the job id stands in for it, and its routing keys would be too long")
        return self

    @classmethod
    def decode(cls, body: bytes) -> Self:
        """Read a job from the queue.

        Raises:
            InvalidJob: The body is anything but a valid job.
        """
        try:
            fields = from_json(body, allow_inf_nan=False)
            dump_json(fields)  # A number such as 1e999 is read as infinity and cannot be sent on.
        except ValueError as error:
            raise InvalidJob((json_problem(error),)) from None
        if not isinstance(fields, dict):
            raise InvalidJob((body_problem("JSON, but no object"),))
        try:
            return cls.model_validate(fields, by_alias=True, by_name=False)
        except ValidationError as error:
            raise InvalidJob(field_problems(error.errors(), fields)) from None

    def encode(self) -> bytes:
        """Write the job for the queue; `decode` gives an equal one.

        Raises:
            ValueError: A value that UTF-8 JSON cannot hold: a lone surrogate, NaN, infinity.
            TypeError: A value that JSON does not know.
        """
        fields = self._present(tuple(type(self).model_fields))
        if self.expires_at is not None:
            fields["expiresAt"] = time_text(self.expires_at)
        return dump_json(fields)

    def endpoint_fields(self) -> dict[str, Any]:
        """What the endpoint is sent, without the ids and what is meant for the worker.

        The dict is new, the values are the job's own: copy one before changing it.
        """
        return self._present(_FOR_ENDPOINT)

    def _present(self, names: tuple[str, ...]) -> dict[str, Any]:
        known = {_alias(name): getattr(self, name) for name in names}
        present = {name: value for name, value in known.items() if value is not None}
        return present | (self.model_extra or {})


_alias = cache(to_camel)


def _refuse(field: LiteralString, because: LiteralString) -> Never:
    """Blame a field: the type of the error is its name, as `field_problems` expects."""
    raise PydanticCustomError(field, because)


def is_job_id(text: str) -> bool:
    """Tell whether a text, such as the `message_id` of a message, can be a job's id."""
    return re.fullmatch(_JOB_ID, text) is not None


def readable_ids(body: bytes) -> tuple[str | None, str | None]:
    """Find chat id and job id in a body that is no valid job, so that its chat can be told.

    Never raises. An id that cannot be read, or could not be used, is None. A body that breaks off
    is read as far as it goes.
    """
    try:
        fields = from_json(body, allow_partial=True)
    except ValueError:
        fields = _lenient(body)
    if not isinstance(fields, dict):
        return None, None
    chat_id, job_id = fields.get("chatId"), fields.get("jobId")
    return (
        chat_id if isinstance(chat_id, str) and chat_id and chat_fits(chat_id) else None,
        job_id if isinstance(job_id, str) and is_job_id(job_id) else None,
    )


def _lenient(body: bytes) -> object:
    """Read JSON that the strict parser refuses, such as deeper nesting or half an emoji.

    Bytes that are no UTF-8 become lone surrogates, and an id that holds one is not used.
    """
    try:
        return json.loads(body.decode(errors="surrogateescape"))
    except (ValueError, RecursionError):
        return None
