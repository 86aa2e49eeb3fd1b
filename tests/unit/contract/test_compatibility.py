"""Each kind of change that breaks somebody is found, and nothing else is."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from tools.contract.compatibility import breaks
from tools.contract.schema_files import schema_files

Schemas = dict[str, dict[str, Any]]
Change = Callable[[Schemas], object]

NOW = schema_files()


def job(schemas: Schemas, name: str) -> dict[str, Any]:
    """Give the schema of a job's field, without what counts as absent."""
    shape: dict[str, Any] = schemas["job"]["properties"][name]
    return shape["anyOf"][0] if "anyOf" in shape else shape


def data(schemas: Schemas, event: str, shape: str) -> dict[str, Any]:
    found: dict[str, Any] = schemas[f"event.{event}"]["$defs"][shape]
    return found


def after(change: Change) -> list[str]:
    changed = copy.deepcopy(NOW)
    change(changed)
    return breaks(NOW, changed)


def test_no_change_breaks_nothing() -> None:
    assert breaks(NOW, copy.deepcopy(NOW)) == []


BREAKS: dict[str, tuple[Change, str]] = {
    "event gone": (lambda it: it.pop("event.thinking"), "event.thinking"),
    "request gone": (lambda it: it.pop("cancel"), "cancel"),
    "field gone": (lambda it: it["job"]["properties"].pop("tags"), "job.tags: is gone"),
    "field newly required": (
        lambda it: it["job"]["required"].append("jobId"),
        "job.jobId: is newly required",
    ),
    "one way less to ask a question": (lambda it: it["job"]["anyOf"].pop(), "job."),
    "type of a job's field": (
        lambda it: job(it, "question").update(type="object"),
        "job.question: was string, is object",
    ),
    "type of a job's field narrowed": (
        lambda it: job(it, "timeoutSeconds").update(type="integer"),
        "job.timeoutSeconds: was number, is integer",
    ),
    "type of a job's field that took anything": (
        lambda it: it["job"]["properties"]["history"].update(type="array"),
        "job.history: was anything, is array",
    ),
    "pattern changed": (lambda it: job(it, "jobId").update(pattern="^[a-z]+$"), "pattern"),
    "length limited": (lambda it: job(it, "question").update(maxLength=1000), "maxLength"),
    "type of a map's values": (
        lambda it: job(it, "tags").update(additionalProperties={"type": "integer"}),
        "job.tags.*: was string, is integer",
    ),
    "unknown fields refused": (
        lambda it: it["job"].update(additionalProperties=False),
        "job.*: is no longer allowed",
    ),
    "null and empty refused": (
        lambda it: it["job"]["properties"]["question"]["anyOf"].pop(),
        "job.question",
    ),
    "value gone from a list of a job": (
        lambda it: it["job"]["$defs"]["Absent"]["enum"].remove(""),
        '"" is gone',
    ),
    "kind of request gone": (lambda it: it["cancel"]["anyOf"].pop(), "cancel"),
    "field of a request newly required": (
        lambda it: it["cancel"]["$defs"]["JobCancel"]["required"].append("submittedAt"),
        "cancel.submittedAt: is newly required",
    ),
    "member of the envelope gone": (
        lambda it: it["event.end"]["properties"].pop("seq"),
        "event.end.seq: is gone",
    ),
    "field of an event gone": (
        lambda it: data(it, "end", "EndData")["properties"].pop("text"),
        "event.end.data.text: is gone",
    ),
    "field of an event not always there": (
        lambda it: data(it, "end", "EndData")["required"].remove("calls"),
        "event.end.data.calls: is no longer always there",
    ),
    "type of an event's data": (
        lambda it: it["event.token"]["properties"]["data"].update(type="array"),
        "event.token.data: was string, is array",
    ),
    "type of an event's data widened": (
        lambda it: it["event.token"]["properties"]["data"].pop("type"),
        "event.token.data: was string, is anything",
    ),
    "whole number no longer whole": (
        lambda it: data(it, "end", "EndData")["properties"]["calls"].update(type="number"),
        "event.end.data.calls: was integer, is number",
    ),
    "bound gone": (
        lambda it: data(it, "end", "EndData")["properties"]["calls"].pop("minimum"),
        "event.end.data.calls: minimum was 0, is None",
    ),
    "kind of failure gone": (
        lambda it: data(it, "error", "FailureKind")["enum"].remove("timeout"),
        'event.error.data.kind: "timeout" is gone',
    ),
    "value added to a closed list": (
        lambda it: data(it, "end", "EndStatus")["enum"].append("paused"),
        'event.end.data.status: "paused" is new',
    ),
    "event renamed": (
        lambda it: it["event.tool"]["properties"]["event"].update(const="tools"),
        'event.tool.event: "tool" is gone',
    ),
    "another alternative in an event": (
        lambda it: it["event.usedTools"]["properties"]["data"]["items"]["anyOf"].append(
            {"type": "string"}
        ),
        "event.usedTools.data[]",
    ),
    "type within a list": (
        lambda it: data(it, "usedTools", "UsedTool")["properties"]["tool"].update(type="integer"),
        "event.usedTools.data[].tool: was string, is integer",
    ),
    "generic event with the name of another": (
        lambda it: it["event.generic"]["properties"]["event"]["not"]["enum"].remove("end"),
        "event.generic.event: what is excluded has changed",
    ),
}


@pytest.mark.parametrize("case", BREAKS)
def test_break_is_found(case: str) -> None:
    change, found = BREAKS[case]

    assert any(found in each for each in after(change)), after(change)


ADDITIONS: dict[str, Change] = {
    "optional field in a job": lambda it: it["job"]["properties"].update(
        priority={"type": "integer"}
    ),
    "job's field made optional": lambda it: it["job"]["required"].remove("chatflowId"),
    "another type in a job": lambda it: it["job"]["properties"]["question"]["anyOf"].append(
        {"type": "array"}
    ),
    "pattern of a job gone": lambda it: job(it, "jobId").pop("pattern"),
    "another way to ask": lambda it: it["job"]["anyOf"].append({"required": ["leadEmail"]}),
    "field in an event": lambda it: data(it, "end", "EndData")["properties"].update(
        cost={"type": "number"}
    ),
    "field of an event always there": lambda it: data(it, "error", "ErrorData")["required"].append(
        "httpStatus"
    ),
    "bound added": lambda it: it["event.end"]["properties"]["seq"].update(maximum=10),
    "event of a new name": lambda it: it.update({"event.progress": it["event.token"]}),
    "event of a new name, no longer generic": lambda it: it["event.generic"]["properties"]["event"][
        "not"
    ]["enum"].append("progress"),
    "other words": lambda it: it["job"]["properties"]["question"].update(description="Ask."),
}


@pytest.mark.parametrize("case", ADDITIONS)
def test_addition_is_no_break(case: str) -> None:
    assert after(ADDITIONS[case]) == []
