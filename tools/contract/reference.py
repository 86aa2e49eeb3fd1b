"""Write the message reference, docs/messages.md."""

from collections.abc import Iterator, Mapping
from textwrap import fill
from typing import Any, Final

from aimicromind_schemas.vocabulary import WORKER_EVENTS
from tools.contract.amqp import (
    CATCH_UP_PROPERTIES,
    EVENT_PROPERTIES,
    JOB_PROPERTIES,
    REPORT_PROPERTIES,
    SNAPSHOT_PROPERTIES,
    STATUS_PROPERTIES,
)
from tools.contract.shapes import EVENT_CLASSES, Shape, all_shapes, needed

_WIDTH: Final = 100
_HEAD: Final = """\
# Messages

<!-- Written by `make contract` from the types in schemas/aimicromind_schemas; do not edit. -->

Every message is a JSON object in UTF-8. Other forms:
[JSON Schema](../schemas/aimicromind_schemas/json), [AsyncAPI](../schemas/asyncapi.yaml) and
[TypeScript](../schemas/typescript/index.ts). One of each message: [examples](../schemas/examples).
"""
_EVENT_TEXT: Final = """
Published to `aimicromind.events` with the routing key `chat.<chatId>.<event>`. **The highest
`attempt` wins (its `start` replaces what was shown), the first `end` of a job ends it.** Ignore
members that are not named here: later versions may add some.
"""
_CATCH_UP_TEXT: Final = """
Published to the queue of the chat lock, `aimicromind.chat.<hash>`, through the default exchange and
`mandatory`. The hash is the first 32 hexadecimal digits of the SHA-256 of `chatId`. If the message
is returned, no worker holds the chat. On RabbitMQ from 4.1 on, send a message that was returned or
nacked to the second lock, too; its hash is the last 32 digits. At most 4 KiB; null and empty count
as not sent. [How to catch up](queues.md#catch-up-with-a-job-that-runs).
"""
_STATUS_TEXT: Final = """
Published to `aimicromind.pool`, a fanout exchange. At most 1 KiB; null and empty count as not sent.
[How to ask](queues.md#ask-the-workers-for-their-status).
"""
_COMPATIBILITY: Final = """
## What may change

In any version:

- a job, a cancel request or a request to catch up has a new optional field;
- an event, a snapshot or a report of a worker has a new field;
- there is an event with a new name.

Never within a major version:

- a message, a field, or a value of a list is removed;
- a field has another type or other bounds;
- a field of a job becomes required, or a valid job is rejected;
- a field of an event is no longer always there;
- a closed list, `status` or `kind`, gets a new value.

`make check` compares with `schemas/baseline`, the contract as it was released last.
"""


def reference() -> str:
    """Return the page."""
    shapes = all_shapes()
    parts = [_HEAD, *_job(shapes), *_cancel(shapes), *_envelope(shapes), *_events(shapes)]
    parts += [*_catch_up(shapes), *_status(shapes)]
    return "\n".join([*parts, *_data(shapes), *_lists(shapes)]) + _COMPATIBILITY


def _job(shapes: Mapping[str, Shape]) -> Iterator[str]:
    job = shapes["PredictionJob"]
    text = f"{job['description']} Null and empty count as not sent."
    yield f"## Job\n\n{_paragraph(text)}\n"
    yield _table(job)
    yield "\nAMQP properties that are honoured:\n"
    yield _properties(JOB_PROPERTIES)


def _cancel(shapes: Mapping[str, Shape]) -> Iterator[str]:
    yield "\n## Cancel request\n"
    yield "Published to `aimicromind.control`. Null and empty count as not sent.\n"
    yield "| member | type | | |\n|---|---|---|---|"
    for name in ("JobCancel", "ChatCancel"):
        members = shapes[name]["properties"]
        cancel = members["cancel"]
        (field,) = cancel["required"]
        yield _row(f"cancel.{field}", cancel["properties"][field], shapes[name]["description"])
        for beside in members.keys() - {"cancel"}:
            yield _row(beside, members[beside], "required with `cancel.chatId`")


def _envelope(shapes: Mapping[str, Shape]) -> Iterator[str]:
    yield "\n## Event\n" + _EVENT_TEXT
    yield _table(shapes["ChatEvent"])
    yield "\nAMQP properties:\n"
    yield _properties(EVENT_PROPERTIES)


def _events(shapes: Mapping[str, Shape]) -> Iterator[str]:
    yield "\n### By name\n"
    yield "| event | data | written by | |\n|---|---|---|---|"
    for name, event_class in EVENT_CLASSES.items():
        shape = shapes[event_class.__name__]
        data = _type(shape["properties"]["data"])
        who = "worker" if name in WORKER_EVENTS else "endpoint"
        yield f"| `{name}` | {data} | {who} | {shape['description']} |"
    yield f"| any other | anything | endpoint | {shapes['GenericEvent']['description']} |"
    yield "\n" + _paragraph(
        "The data of the worker's events and of `token` always has the shape given here. "
        "Other data of the endpoint is passed on as it comes."
    )


def _catch_up(shapes: Mapping[str, Shape]) -> Iterator[str]:
    inner = shapes["CatchUpRequest"]["properties"]["catchUp"]["properties"]
    after = shapes["SeenUpTo"]["properties"]
    yield "\n## Request to catch up\n" + _CATCH_UP_TEXT
    yield "| member | type | | |\n|---|---|---|---|"
    yield _row("catchUp.chatId", inner["chatId"], "required")
    yield _row("catchUp.jobId", inner["jobId"], "required with `catchUp.after`")
    for name, field in after.items():
        yield _row(f"catchUp.after.{name}", field, inner["after"]["description"])
    yield "\nAMQP properties that are honoured:\n"
    yield _properties(CATCH_UP_PROPERTIES)
    yield "\n## Snapshot\n\n" + _paragraph(shapes["Snapshot"]["description"]) + "\n"
    yield _table(shapes["Snapshot"]).replace("[ChatEvent](#chatevent)", "[events](#event)")
    yield "\nAMQP properties:\n"
    yield _properties(SNAPSHOT_PROPERTIES)


def _status(shapes: Mapping[str, Shape]) -> Iterator[str]:
    yield "\n## Request for the status\n" + _STATUS_TEXT
    yield "| member | type | | |\n|---|---|---|---|"
    named = shapes["StatusRequest"]["properties"]["status"]["properties"]
    yield _row("status.jobId", named["jobId"], "")
    yield "\nAMQP properties that are honoured:\n"
    yield _properties(STATUS_PROPERTIES)
    yield "\n## Report of a worker\n\n" + _paragraph(shapes["WorkerReport"]["description"]) + "\n"
    yield _table(shapes["WorkerReport"])
    yield "\nAMQP properties:\n"
    yield _properties(REPORT_PROPERTIES)


def _data(shapes: Mapping[str, Shape]) -> Iterator[str]:
    data = [shapes[event.__name__]["properties"]["data"] for event in EVENT_CLASSES.values()]
    found = needed(shapes, *data, shapes["ChatEvent"]["properties"])
    named = [name for name, shape in found.items() if "properties" in shape]
    yield "\n## Data"
    for name in named:
        more = " Further fields are kept." if shapes[name].get("additionalProperties") else ""
        yield f"\n### {name}\n\n{_paragraph(shapes[name]['description'] + more)}\n"
        yield _table(shapes[name])


def _lists(shapes: Mapping[str, Shape]) -> Iterator[str]:
    yield "\n## Closed lists"
    for name in ("EndStatus", "FailureKind"):
        values = ", ".join(f"`{value}`" for value in shapes[name]["enum"])
        about = _paragraph(shapes[name]["description"])
        yield f"\n### {name}\n\n{about}\n\n{_paragraph(values)}\n"


def _paragraph(text: str) -> str:
    return fill(text, _WIDTH, break_long_words=False, break_on_hyphens=False)


def _properties(properties: Mapping[str, object]) -> str:
    rows = [f"| `{name}` | {meaning} |" for name, meaning in properties.items()]
    return "\n".join(["| property | |", "|---|---|", *rows])


def _table(shape: Shape) -> str:
    required = shape.get("required", [])
    rows = [
        _row(name, field, "required" if name in required else "")
        for name, field in shape["properties"].items()
    ]
    return "\n".join(["| member | type | | |", "|---|---|---|---|", *rows])


def _row(name: str, field: Shape, remark: str) -> str:
    return f"| `{name}` | {_type(field)} | {remark} | {field.get('description', '')} |"


def _type(shape: Mapping[str, Any]) -> str:
    match shape:
        case {"$ref": "#/$defs/Absent"}:
            return "none"
        case {"$ref": reference}:
            name = str(reference).rpartition("/")[2]
            return f"[{name}](#{name.lower()})"
        case {"anyOf": alternatives}:
            kept = [it for it in alternatives if it != {"$ref": "#/$defs/Absent"}]
            return " or ".join(_type(it) for it in kept)
        case {"type": "array", "items": items}:
            inner = _type(items)
            return "list" if inner == "anything" else f"list of {inner}"
        case {"type": "string", "format": "date-time"}:
            return "RFC 3339 time"
        case {"type": "integer"}:
            return "whole number"
        case {"type": scalar}:
            return str(scalar)
        case _:
            return "anything"
