"""Derive the JSON Schema of each message from its type, for all files of the contract."""

import inspect
from collections.abc import Iterable, Mapping
from typing import Any, Final, get_args

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, models_json_schema
from typing_extensions import override

from aimicromind_schemas import (
    ChatCancel,
    ChatEvent,
    GenericEvent,
    JobCancel,
    KnownEvent,
    PredictionJob,
)
from aimicromind_schemas.messages.catch_up import CatchUpRequest, SeenUpTo, Snapshot
from aimicromind_schemas.messages.worker_report import StatusRequest, WorkerReport
from aimicromind_schemas.vocabulary import WORKER_EVENTS

Shape = dict[str, Any]

EXACT_NAMES: Final = sorted(WORKER_EVENTS | {"token"})
"""Events whose data always fits their class. The data of the others is up to the endpoint."""

EVENT_CLASSES: Final[dict[str, type[ChatEvent]]] = {
    each.model_fields["event"].default: each for each in get_args(KnownEvent)
}
"""Classes by the names of their events."""

_MAPS: Final = ("properties", "$defs")
_LISTS: Final = ("anyOf", "oneOf", "allOf")
_ABSENT: Final[Shape] = {
    "title": "Absent",
    "description": "Null and empty count as not sent.",
    "enum": [None, "", [], {}],
}
_FIRST: Final = ("chatflowId", "question", "chatId", "jobId")
_INSTEAD_OF_QUESTION: Final = ("question", "form", "humanInput", "action", "uploads")


class _NoFieldTitles(GenerateJsonSchema):
    @override
    def field_title_should_be_set(self, schema: object) -> bool:
        return False


def all_shapes() -> dict[str, Shape]:
    """Return the shapes by the names of their classes; references have the form `#/$defs/NAME`."""
    models: list[type[BaseModel]] = [
        PredictionJob,
        ChatEvent,
        GenericEvent,
        *EVENT_CLASSES.values(),
    ]
    _, schema = models_json_schema(
        [(model, "validation") for model in models], schema_generator=_NoFieldTitles
    )
    shapes: dict[str, Shape] = {name: tidy(shape) for name, shape in schema["$defs"].items()}
    for event_class in EVENT_CLASSES.values():
        _always_named(shapes[event_class.__name__])
    shapes["GenericEvent"]["properties"]["event"]["not"] = {"enum": EXACT_NAMES}
    _job(shapes["PredictionJob"])
    cancels = _cancels(shapes["PredictionJob"]["properties"])
    catch_ups = _catch_ups(shapes["PredictionJob"]["properties"])
    status = _status(shapes["PredictionJob"]["properties"])
    others = cancels | catch_ups | status | {"Absent": _ABSENT}
    return dict(sorted((shapes | others).items()))


def tidy(shape: Mapping[str, Any]) -> Shape:
    """Return a shape without defaults, and with each description on one line."""
    result: Shape = {}
    for key, value in shape.items():
        if key in _MAPS:
            result[key] = {name: tidy(inner) for name, inner in value.items()}
        elif key in _LISTS:
            result[key] = [tidy(inner) for inner in value]
        elif key == "description":
            result[key] = " ".join(value.split())
        elif key != "default":
            result[key] = tidy(value) if isinstance(value, dict) else value
    return result


def references(shape: object) -> Iterable[str]:
    """Yield the names of the shapes that a shape refers to directly."""
    if isinstance(shape, dict):
        if "$ref" in shape:
            yield shape["$ref"].rpartition("/")[2]
        for value in shape.values():
            yield from references(value)
    elif isinstance(shape, list):
        for value in shape:
            yield from references(value)


def needed(shapes: Mapping[str, Shape], *roots: Shape) -> dict[str, Shape]:
    """Return the shapes that some shapes refer to, directly or through others."""
    found: dict[str, Shape] = {}
    open_names = [name for root in roots for name in references(root)]
    while open_names:
        name = open_names.pop()
        if name not in found:
            found[name] = shapes[name]
            open_names += references(shapes[name])
    return dict(sorted(found.items()))


def _always_named(event: Shape) -> None:
    """Require the name of the event: a default in Python, it is always in the message."""
    envelope = list(event["properties"])
    event["required"] = [name for name in envelope if name in {*event["required"], "event"}]


def _job(job: Shape) -> None:
    absent = {"$ref": "#/$defs/Absent"}
    job["properties"] = {name: job["properties"][name] for name in (*_FIRST, *job["properties"])}
    for name, field in job["properties"].items():
        if field.get("type") == "null":
            field["$ref"] = absent["$ref"]
            del field["type"]
        elif name not in job["required"] and "anyOf" in field:
            field["anyOf"] = [it for it in field["anyOf"] if it != {"type": "null"}] + [absent]
    job["anyOf"] = [
        {"properties": {name: {"not": absent}}, "required": [name]} for name in _INSTEAD_OF_QUESTION
    ]


def _cancels(of_job: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes of cancel requests, nested as in the message, with ids as in jobs."""
    by_job, by_chat = _fields(JobCancel), _fields(ChatCancel)
    absent = {"$ref": "#/$defs/Absent"}
    job_text, number, _ = of_job["jobId"]["anyOf"]
    chat_text = {"type": "string", "minLength": 1}
    job_id = {"anyOf": [job_text, number], "description": by_job["jobId"]["description"]}
    chat_id = {"anyOf": [chat_text, number], "description": by_chat["chatId"]["description"]}
    return {
        "JobCancel": _cancel(
            JobCancel, {"jobId": job_id, "chatId": absent}, required="jobId", beside={}
        ),
        "ChatCancel": _cancel(
            ChatCancel,
            {"chatId": chat_id, "jobId": absent},
            required="chatId",
            beside={"submittedAt": by_chat["submittedAt"]},
        ),
    }


def _cancel(
    request: type, named: Mapping[str, Shape], *, required: str, beside: Mapping[str, Shape]
) -> Shape:
    cancel = {"type": "object", "properties": dict(named), "required": [required]}
    return {
        "title": request.__name__,
        "description": " ".join((inspect.getdoc(request) or "").split()),
        "type": "object",
        "properties": {"cancel": cancel, **beside},
        "required": ["cancel", *beside],
    }


def _catch_ups(of_job: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes of requests to catch up, nested as in the message, and of their answers."""
    fields, absent = _fields(CatchUpRequest), {"$ref": "#/$defs/Absent"}
    job_text, number, _ = of_job["jobId"]["anyOf"]
    named: Shape = {
        "chatId": fields["chatId"] | {"anyOf": [{"type": "string", "minLength": 1}, number]},
        "jobId": fields["jobId"] | {"anyOf": [job_text, number, absent]},
        "after": fields["after"] | {"anyOf": [{"$ref": "#/$defs/SeenUpTo"}, absent]},
    }
    del named["chatId"]["type"]
    inner: Shape = {"type": "object", "properties": named, "required": ["chatId"]}
    # A position belongs to a job.
    inner["if"] = {"properties": {"after": absent}}
    inner["else"] = {"properties": {"jobId": {"not": absent}}, "required": ["jobId"]}
    snapshot = _fields(Snapshot)
    snapshot["events"]["items"] = {"$ref": "#/$defs/ChatEvent"}
    return {
        "CatchUpRequest": _described(CatchUpRequest)
        | {"properties": {"catchUp": inner}, "required": ["catchUp"]},
        "SeenUpTo": _described(SeenUpTo)
        | {"properties": _fields(SeenUpTo), "required": ["attempt", "seq"]},
        "Snapshot": _described(Snapshot)
        | {
            "properties": snapshot,
            "required": ["jobId", "chatId", "attempt", "events", "part", "parts"],
        },
    }


def _status(of_job: Mapping[str, Shape]) -> dict[str, Shape]:
    """Return the shapes of a request for the status, nested as in the message, and its answers."""
    fields = _fields(WorkerReport)
    job_text, number, _ = of_job["jobId"]["anyOf"]
    job_id = {"anyOf": [job_text, number, {"$ref": "#/$defs/Absent"}]}
    asked = {"jobId": _fields(StatusRequest)["jobId"] | job_id}
    status = {"type": "object", "properties": asked}
    optional = {"oldestSeconds", "job"}
    return {
        "StatusRequest": _described(StatusRequest)
        | {"properties": {"status": status}, "required": ["status"]},
        "WorkerReport": _described(WorkerReport)
        | {"properties": fields, "required": [it for it in fields if it not in optional]},
    }


def _described(message: type) -> Shape:
    description = " ".join((inspect.getdoc(message) or "").split())
    return {"title": message.__name__, "description": description, "type": "object"}


def _fields(request: type) -> dict[str, Shape]:
    schema = TypeAdapter(request).json_schema(schema_generator=_NoFieldTitles)
    fields: dict[str, Shape] = tidy(schema)["properties"]
    return fields
