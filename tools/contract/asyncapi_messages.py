"""Write the messages and the schemas of the AsyncAPI document."""

from collections.abc import Mapping
from typing import Any, Final

from aimicromind_schemas import encode, event_from
from tools.contract.amqp import (
    CATCH_UP_PROPERTIES,
    DEAD_HEADERS,
    EVENT_HEADERS,
    EVENT_PROPERTIES,
    JOB_HEADERS,
    JOB_PROPERTIES,
    REPORT_PROPERTIES,
    SNAPSHOT_HEADERS,
    SNAPSHOT_PROPERTIES,
    STATUS_PROPERTIES,
)
from tools.contract.places import examples
from tools.contract.schema_files import schema_name, schema_of_example
from tools.contract.shapes import EVENT_CLASSES, Shape, all_shapes

BINDING: Final = "0.3.0"
"""Version of the AMQP bindings of AsyncAPI."""


def messages() -> Shape:
    """Return all messages by name, with headers, examples and AMQP bindings."""
    shapes = all_shapes()
    events = {
        schema_name(name): _message(schema_name(name), each.__name__, shapes)
        for name, each in EVENT_CLASSES.items()
    }
    return {
        "job": _message("job", "PredictionJob", shapes),
        "deadJob": {
            "title": "DeadJob",
            "description": "A PredictionJob as it was put in, or a body that was refused as none.",
            "headers": _headers(DEAD_HEADERS),
            "payload": {"description": "Whatever was put in."},
            "bindings": _message_binding(None),
        },
        "cancel": {
            "title": "CancelRequest",
            "payload": {
                "anyOf": [
                    {"$ref": "#/components/schemas/JobCancel"},
                    {"$ref": "#/components/schemas/ChatCancel"},
                ]
            },
            "examples": _examples("cancel"),
        },
        **_of_catching_up(),
        **_of_status(),
        **events,
        "event.generic": _message("event.generic", "GenericEvent", shapes),
    }


def _of_catching_up() -> Shape:
    return {
        "catchUp": {
            "title": "CatchUpRequest",
            "payload": {"$ref": "#/components/schemas/CatchUpRequest"},
            "examples": _examples("catchUp"),
            "x-amqp-properties": CATCH_UP_PROPERTIES,
        },
        "snapshot": {
            "title": "Snapshot",
            "headers": _headers(SNAPSHOT_HEADERS),
            "payload": {"$ref": "#/components/schemas/Snapshot"},
            "bindings": _message_binding("snapshot"),
            "examples": _examples("snapshot"),
            "x-amqp-properties": SNAPSHOT_PROPERTIES,
        },
    }


def _of_status() -> Shape:
    return {
        "status": {
            "title": "StatusRequest",
            "payload": {"$ref": "#/components/schemas/StatusRequest"},
            "examples": _examples("status"),
            "x-amqp-properties": STATUS_PROPERTIES,
        },
        "workerReport": {
            "title": "WorkerReport",
            "payload": {"$ref": "#/components/schemas/WorkerReport"},
            "bindings": _message_binding("workerReport"),
            "examples": _examples("workerReport"),
            "x-amqp-properties": REPORT_PROPERTIES,
        },
    }


def _message(schema: str, shape: str, shapes: Mapping[str, Shape]) -> Shape:
    event = schema.startswith("event.")
    return {
        "title": shape,
        "description": shapes[shape]["description"],
        "headers": _headers(EVENT_HEADERS if event else JOB_HEADERS, required=event),
        "payload": {"$ref": f"#/components/schemas/{shape}"},
        "bindings": _message_binding(schema.rpartition(".")[2] if event else None),
        "examples": _examples(schema),
        "x-amqp-properties": EVENT_PROPERTIES if event else JOB_PROPERTIES,
    }


def _headers(properties: Shape, *, required: bool = False) -> Shape:
    headers = {"type": "object", "properties": properties}
    always = [name for name in properties if name != "traceparent"]
    return headers | {"required": always} if required else headers


def _message_binding(event: str | None) -> Shape:
    binding: Shape = {"contentEncoding": "utf-8"} if event is None else {}
    if event not in {None, "generic"}:
        binding["messageType"] = event
    return {"amqp": binding | {"bindingVersion": BINDING}}


def _examples(schema: str) -> list[Shape]:
    return [
        {"name": name} | _headers_of(schema, example) | {"payload": example}
        for name, example in examples().items()
        if schema_of_example(name) == schema
    ]


def _headers_of(schema: str, example: Mapping[str, Any]) -> Shape:
    """Return the AMQP headers of an event, as the codec writes them."""
    if not schema.startswith("event."):
        return {}
    return {"headers": dict(encode(event_from(dict(example))).properties.headers)}


def schemas() -> Shape:
    """Return the schemas of all payloads by name."""
    return {name: _elsewhere(shape) for name, shape in all_shapes().items()}


def _elsewhere(value: Any) -> Any:  # noqa: ANN401 - JSON
    """Return a schema whose references lead to the schemas of the AsyncAPI document."""
    if isinstance(value, dict):
        return {
            key: inner.replace("#/$defs/", "#/components/schemas/")
            if key == "$ref"
            else _elsewhere(inner)
            for key, inner in value.items()
        }
    return [_elsewhere(it) for it in value] if isinstance(value, list) else value
