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


@pytest.mark.parametrize(
    ("change", "found"),
    [
        pytest.param(lambda it: it.pop("event.thinking"), "event.thinking", id="event gone"),
        pytest.param(lambda it: it.pop("cancel"), "cancel", id="request gone"),
        pytest.param(
            lambda it: it["job"]["properties"].pop("tags"), "job.tags: is gone", id="field gone"
        ),
        pytest.param(
            lambda it: it["job"]["required"].append("jobId"),
            "job.jobId: is newly required",
            id="field newly required",
        ),
        pytest.param(
            lambda it: it["job"]["anyOf"].pop(), "job.", id="one way less to ask a question"
        ),
        pytest.param(
            lambda it: job(it, "question").update(type="object"),
            "job.question: was string, is object",
            id="type of a job's field",
        ),
        pytest.param(
            lambda it: job(it, "timeoutSeconds").update(type="integer"),
            "job.timeoutSeconds: was number, is integer",
            id="type of a job's field narrowed",
        ),
        pytest.param(
            lambda it: it["job"]["properties"]["history"].update(type="array"),
            "job.history: was anything, is array",
            id="type of a job's field that took anything",
        ),
        pytest.param(
            lambda it: job(it, "jobId").update(pattern="^[a-z]+$"), "pattern", id="pattern changed"
        ),
        pytest.param(
            lambda it: job(it, "question").update(maxLength=1000), "maxLength", id="length limited"
        ),
        pytest.param(
            lambda it: job(it, "tags").update(additionalProperties={"type": "integer"}),
            "job.tags.*: was string, is integer",
            id="type of a map's values",
        ),
        pytest.param(
            lambda it: it["job"].update(additionalProperties=False),
            "job.*: is no longer allowed",
            id="unknown fields refused",
        ),
        pytest.param(
            lambda it: it["job"]["properties"]["question"]["anyOf"].pop(),
            "job.question",
            id="null and empty refused",
        ),
        pytest.param(
            lambda it: it["job"]["$defs"]["Absent"]["enum"].remove(""),
            '"" is gone',
            id="value gone from a list of a job",
        ),
        pytest.param(lambda it: it["cancel"]["anyOf"].pop(), "cancel", id="kind of request gone"),
        pytest.param(
            lambda it: it["cancel"]["$defs"]["JobCancel"]["required"].append("submittedAt"),
            "cancel.submittedAt: is newly required",
            id="field of a request newly required",
        ),
        pytest.param(
            lambda it: it["event.end"]["properties"].pop("seq"),
            "event.end.seq: is gone",
            id="member of the envelope gone",
        ),
        pytest.param(
            lambda it: data(it, "end", "EndData")["properties"].pop("text"),
            "event.end.data.text: is gone",
            id="field of an event gone",
        ),
        pytest.param(
            lambda it: data(it, "end", "EndData")["required"].remove("calls"),
            "event.end.data.calls: is no longer always there",
            id="field of an event not always there",
        ),
        pytest.param(
            lambda it: it["event.token"]["properties"]["data"].update(type="array"),
            "event.token.data: was string, is array",
            id="type of an event's data",
        ),
        pytest.param(
            lambda it: it["event.token"]["properties"]["data"].pop("type"),
            "event.token.data: was string, is anything",
            id="type of an event's data widened",
        ),
        pytest.param(
            lambda it: data(it, "end", "EndData")["properties"]["calls"].update(type="number"),
            "event.end.data.calls: was integer, is number",
            id="whole number no longer whole",
        ),
        pytest.param(
            lambda it: data(it, "end", "EndData")["properties"]["calls"].pop("minimum"),
            "event.end.data.calls: minimum was 0, is None",
            id="bound gone",
        ),
        pytest.param(
            lambda it: data(it, "error", "FailureKind")["enum"].remove("timeout"),
            'event.error.data.kind: "timeout" is gone',
            id="kind of failure gone",
        ),
        pytest.param(
            lambda it: data(it, "end", "EndStatus")["enum"].append("paused"),
            'event.end.data.status: "paused" is new',
            id="value added to a closed list",
        ),
        pytest.param(
            lambda it: it["event.tool"]["properties"]["event"].update(const="tools"),
            'event.tool.event: "tool" is gone',
            id="event renamed",
        ),
        pytest.param(
            lambda it: it["event.usedTools"]["properties"]["data"]["items"]["anyOf"].append(
                {"type": "string"}
            ),
            "event.usedTools.data[]",
            id="another alternative in an event",
        ),
        pytest.param(
            lambda it: data(it, "usedTools", "UsedTool")["properties"]["tool"].update(
                type="integer"
            ),
            "event.usedTools.data[].tool: was string, is integer",
            id="type within a list",
        ),
        pytest.param(
            lambda it: it["event.generic"]["properties"]["event"]["not"]["enum"].remove("end"),
            "event.generic.event: what is excluded has changed",
            id="generic event with the name of another",
        ),
    ],
)
def test_break_is_found(change: Change, found: str) -> None:
    assert any(found in each for each in after(change)), after(change)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda it: it["job"]["properties"].update(priority={"type": "integer"}),
            id="optional field in a job",
        ),
        pytest.param(
            lambda it: it["job"]["required"].remove("chatflowId"), id="job's field made optional"
        ),
        pytest.param(
            lambda it: it["job"]["properties"]["question"]["anyOf"].append({"type": "array"}),
            id="another type in a job",
        ),
        pytest.param(lambda it: job(it, "jobId").pop("pattern"), id="pattern of a job gone"),
        pytest.param(
            lambda it: it["job"]["anyOf"].append({"required": ["leadEmail"]}),
            id="another way to ask",
        ),
        pytest.param(
            lambda it: data(it, "end", "EndData")["properties"].update(cost={"type": "number"}),
            id="field in an event",
        ),
        pytest.param(
            lambda it: data(it, "error", "ErrorData")["required"].append("httpStatus"),
            id="field of an event always there",
        ),
        pytest.param(
            lambda it: it["event.end"]["properties"]["seq"].update(maximum=10), id="bound added"
        ),
        pytest.param(
            lambda it: it.update({"event.progress": it["event.token"]}), id="event of a new name"
        ),
        pytest.param(
            lambda it: it["event.generic"]["properties"]["event"]["not"]["enum"].append("progress"),
            id="event of a new name, no longer generic",
        ),
        pytest.param(
            lambda it: it["job"]["properties"]["question"].update(description="Ask."),
            id="other words",
        ),
    ],
)
def test_addition_is_no_break(change: Change) -> None:
    assert after(change) == []
