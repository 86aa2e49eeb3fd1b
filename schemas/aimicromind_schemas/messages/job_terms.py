"""The fields of a job that the worker acts on; all others are for the endpoint."""

import re
from typing import Annotated, ClassVar, Final, Literal, LiteralString, Never, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from aimicromind_schemas.messages.invalid_job import is_absent
from aimicromind_schemas.routing import chat_fits
from aimicromind_schemas.shape import Shape
from aimicromind_schemas.wire import Text, UtcTime, json_of, whole

_LEAST_TAG_BYTES: Final = 6  # "":"" and a comma
_MAX_TAGS_BYTES: Final = 16 * 1024
_JOB_ID: Final = r"^[A-Za-z0-9_.-]{1,128}$"
_NUMBERS: Final = range(-(2**63), 2**63)

_Number = Annotated[int, Field(ge=_NUMBERS.start, lt=_NUMBERS.stop)]
_JobIdText = Annotated[str, Field(pattern=_JOB_ID)]
_FlowIdText = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,128}$")]
_Calls = Annotated[int, Field(ge=1)]


def id_text(value: object) -> object:
    """Return the digits of an id that is a whole number of at most 64 bits, others unchanged."""
    number = whole(value)
    is_number = isinstance(number, int) and not isinstance(number, bool)
    return str(number) if is_number and number in _NUMBERS else value


JobId = Annotated[_JobIdText, BeforeValidator(id_text, json_schema_input_type=_JobIdText | _Number)]
ChatId = Annotated[str, BeforeValidator(id_text, json_schema_input_type=str | _Number)]
FlowId = Annotated[
    _FlowIdText, BeforeValidator(id_text, json_schema_input_type=_FlowIdText | _Number)
]


class JobTerms(Shape):
    """What the worker acts on."""

    model_config = ConfigDict(validate_by_alias=True, validate_by_name=True, strict=True)
    shown: ClassVar = ("chatflow_id", "chat_id", "job_id")

    chatflow_id: FlowId
    """The flow to run."""

    chat_id: ChatId | None = None
    """The conversation; names the routing keys of its events. Defaults to the job id."""

    job_id: JobId | None = None
    """Names the job in all its events. Defaults to the `message_id` of the AMQP message."""

    answer: Literal["json"] | None = None
    """`json`: ask without streaming, and put the server's whole JSON into `end.data.answer`."""

    timeout_seconds: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    """Limit of one attempt. Can only lower the worker's own."""

    expires_at: UtcTime | None = None
    """When the whole job expires. Can only lower the worker's own limit."""

    max_calls: Annotated[_Calls, BeforeValidator(whole, json_schema_input_type=_Calls)] | None = (
        None
    )
    """Calls to the endpoint that may be begun. Can only lower the worker's own limit."""

    max_attempts: None = None
    """Retired: use `maxCalls`. A job that sets it is invalid."""

    after: JobId | None = None
    """The id of the job before this one in its chat: this one begins after that one's `end`.

    It also begins while that one waits after a failure, or after 30 s if no worker knows that one.
    """

    idempotent: bool | None = None
    """Whether running the flow twice is harmless. Absent: the worker judges by what it saw."""

    tags: dict[Text, Text] | None = None
    """The producer's own notes, echoed in `start` and `end`. At most 16 KiB as JSON."""

    @field_validator("*", mode="before")
    @classmethod
    def _null_for_empty(cls, value: object) -> object:
        return None if is_absent(value) else value

    @field_validator("tags", mode="before")
    @classmethod
    def _few_tags(cls, tags: object) -> object:
        # Before each is validated: pydantic reports each value that is no string.
        if isinstance(tags, dict) and len(tags) > _MAX_TAGS_BYTES // _LEAST_TAG_BYTES:
            reject("tags", "tags take more than 16 KiB")
        return tags

    @field_validator("tags")
    @classmethod
    def _small_tags(cls, tags: dict[str, str] | None) -> dict[str, str] | None:
        if tags is not None and len(json_of(tags)) > _MAX_TAGS_BYTES:
            reject("tags", "tags take more than 16 KiB")
        return tags

    @model_validator(mode="after")
    def _can_be_routed(self) -> Self:
        if self.chat_id is not None and not chat_fits(self.chat_id):
            reject("chatId", "its routing keys would be too long")
        if self.after is not None and self.after == self.job_id:
            reject("after", "a job cannot come after itself")
        if self.chat_id is None and self.job_id is not None and not chat_fits(self.job_id):
            reject("chatId", "the job id stands in for it, and its routing keys would be too long")
        return self


def reject(field: LiteralString, because: LiteralString) -> Never:
    """Raise pydantic's error for a field; its type is the field's name, for `field_problems`."""
    raise PydanticCustomError(field, because)


def is_job_id(text: str) -> bool:
    """Return whether a text, such as a `message_id`, is a valid job id: 1 to 128 characters."""
    return re.fullmatch(_JOB_ID, text) is not None
