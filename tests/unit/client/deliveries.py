"""Messages of events, as the client holds them."""

from datetime import UTC, datetime

from aimicromind_schemas import EndData, EndEvent, EndStatus, Event, TokenEvent, encode
from aimicromind_schemas.client.delivery import Delivery
from aimicromind_schemas.client.transport.labels import Labels

_ENVELOPE = {"chatflow_id": "flow", "attempt": 1, "time": datetime(2026, 11, 26, tzinfo=UTC)}


def token(job_id: str, seq: int, *, chat_id: str = "chat", data: str = "Once") -> TokenEvent:
    fields = _ENVELOPE | {"job_id": job_id, "chat_id": chat_id, "seq": seq, "event": "token"}
    return TokenEvent.model_validate(fields | {"data": data})


def end(job_id: str, seq: int, *, chat_id: str = "chat") -> EndEvent:
    data = EndData(
        status=EndStatus.COMPLETED,
        attempts=1,
        calls=1,
        events=seq + 1,
        duration_seconds=1.0,
        text="Once",
        recovered=False,
        tags={},
    )
    fields = _ENVELOPE | {"job_id": job_id, "chat_id": chat_id, "seq": seq, "event": "end"}
    return EndEvent.model_validate(fields | {"data": data})


def delivery(event: Event) -> Delivery:
    message = encode(event)
    labels = Labels(event.chat_id, message.properties.message_id, message.properties.type)
    return Delivery(labels, message.body)
