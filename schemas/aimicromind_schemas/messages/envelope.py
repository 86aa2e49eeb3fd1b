"""The envelope of each event, and the generic event for unknown names and shapes."""

from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict, StrictStr

from aimicromind_schemas.shape import Shape
from aimicromind_schemas.wire import Count, UtcTime, time_text


class Truncated(Shape):
    """Stands beside `data: null` where the endpoint's event was too large to be published."""

    model_config = ConfigDict(extra="ignore")
    shown: ClassVar = ("bytes",)

    bytes: Count
    """Size of the data that was left out."""


class ChatEvent(Shape):
    """One message of a job to its chat.

    The highest `attempt` of a job wins, its `start` replaces what was shown before; the first
    `end` ends the job. Members of the envelope not named here are skipped.
    """

    model_config = ConfigDict(validate_by_alias=True, validate_by_name=True, extra="ignore")
    shown: ClassVar = ("job_id", "attempt", "seq", "event")

    job_id: StrictStr
    """The job this event belongs to."""

    chat_id: StrictStr
    """The conversation."""

    chatflow_id: StrictStr
    """The flow that runs."""

    attempt: Count
    """Counts from 1. 0 only in the `error` and `end` of a job that never ran."""

    seq: Count
    """Position within the attempt, from 0, without gaps."""

    time: UtcTime
    """When the worker made the event."""

    event: StrictStr
    """Name of the event; last word of its routing key, there percent-encoded."""

    data: Any
    """What the event says; the shape goes by the name. Null where `truncated` is there."""

    truncated: Truncated | None = None
    """There where the data was too large to be published: its size."""

    def wire(self) -> dict[str, Any]:
        """Return the JSON object of this event, its members in the order of the contract."""
        fields = {
            "jobId": self.job_id,
            "chatId": self.chat_id,
            "chatflowId": self.chatflow_id,
            "attempt": self.attempt,
            "seq": self.seq,
            "time": time_text(self.time),
            "event": self.event,
            "data": self._wire_data(),
        }
        if self.truncated is not None:
            fields["truncated"] = self.truncated.model_dump()
        return fields

    def _wire_data(self) -> Any:  # noqa: ANN401 - data goes by the name
        return _plain(self.data)


class GenericEvent(ChatEvent):
    """An event whose name has no class here, or whose data has not the shape expected for it.

    So a flow's own events and those of a newer worker arrive, with their data untouched.
    """


def _plain(value: Any) -> Any:  # noqa: ANN401 - data goes by the name
    """Return a value without models. Values inside stay: pydantic writes 255 levels at most."""
    match value:
        case tuple():
            return [_plain(item) for item in value]
        case BaseModel(model_fields_set=present, model_extra=extra):
            fields = type(value).model_fields.items()
            named = {
                field.alias or name: _plain(getattr(value, name))
                for name, field in fields
                if name in present
            }
            return named | (extra or {})
        case _:
            return value
