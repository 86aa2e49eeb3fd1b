"""AMQP properties and headers of each message, as JSON Schema and as text."""

from typing import Final

from tools.contract.shapes import Shape

_TEXT: Final[Shape] = {"type": "string"}
_COUNT: Final[Shape] = {"type": "integer", "minimum": 0}
_TRACE: Final[Shape] = {
    "traceparent": _TEXT | {"description": "W3C trace context, passed on to the endpoint."},
    "tracestate": _TEXT | {"description": "Its second part."},
}
DEAD_HEADERS: Final[Shape] = {
    "x-aimicromind-kind": {"$ref": "#/components/schemas/FailureKind"},
    "x-aimicromind-message": _TEXT | {"description": "The same for people."},
    "x-aimicromind-attempts": _COUNT | {"description": "Attempts that could publish."},
    "x-aimicromind-failed-at": _TEXT | {"format": "date-time"},
}
JOB_HEADERS: Final[Shape] = {
    **_TRACE,
    "x-aimicromind-submitted-at": _TEXT
    | {
        "format": "date-time",
        "description": "When the job was submitted, if its `timestamp` is too coarse: "
        "cancel requests by chat and the order of a chat's jobs go by it.",
    },
}
EVENT_HEADERS: Final[Shape] = {
    "attempt": _COUNT,
    "seq": _COUNT,
    "chatflowId": _TEXT,
    "x-stream-filter-value": _TEXT | {"description": "The chatId."},
    "traceparent": _TEXT
    | {"description": "W3C trace context: the attempt's if it is traced, else the job's, if any."},
}
EVENT_PROPERTIES: Final = {
    "message_id": "`<jobId>:<attempt>:<seq>`, of an `end` `<jobId>:end`; a repeat has the same",
    "type": "name of the event",
    "correlation_id": "the job's, else its jobId",
    "timestamp": "time of the event, in whole seconds",
    "content_type": "application/json",
    "app_id": "aimicromind-worker",
    "delivery_mode": 2,
}
CATCH_UP_PROPERTIES: Final = {
    "reply_to": "the queue of the answer, bound to the chat already: one that the broker named "
    "(`amq.gen-…`), or any other outside `amq.` and the worker's own",
    "correlation_id": "comes back with each part of the answer",
}
SNAPSHOT_HEADERS: Final[Shape] = {
    "x-stream-filter-value": _TEXT | {"description": "The chatId."},
}
SNAPSHOT_PROPERTIES: Final = {
    "type": "snapshot",
    "correlation_id": "that of the request",
    "content_type": "application/json",
    "app_id": "aimicromind-worker",
    "delivery_mode": 1,
}
STATUS_PROPERTIES: Final = {
    "reply_to": "the queue of the answers: one that the broker named (`amq.gen-…`), or any other "
    "outside `amq.` and the worker's own",
    "correlation_id": "comes back with each answer",
}
REPORT_PROPERTIES: Final = {**SNAPSHOT_PROPERTIES, "type": "workerReport"}
JOB_PROPERTIES: Final = {
    "message_id": "the job's id, where its body has none",
    "correlation_id": "comes back on every event",
    "reply_to": "a queue that gets a copy of every event",
    "content_encoding": "`gzip`, `x-gzip` or `deflate`: how the body is compressed",
    "expiration": "becomes a deadline that counts from the first delivery; 0 sets none",
    "timestamp": "when the job was submitted",
}
