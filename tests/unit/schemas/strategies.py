"""Hypothesis strategies for jobs and for events of every class."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final

from hypothesis import settings
from hypothesis import strategies as st

from aimicromind_schemas import (
    EVENT_NAMES,
    EndStatus,
    Event,
    FailureKind,
    PredictionJob,
    event_from,
)

Strategy = st.SearchStrategy[Any]

UNHURRIED: Final = settings(deadline=None)
"""For properties: however busy the machine is."""

texts: Final = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
ids: Final = st.text("abcXYZ019_-.", min_size=1, max_size=20)
counts: Final = st.integers(0, 2**40)
seconds: Final = st.floats(0, 1e9)
tags: Final = st.dictionaries(texts, texts, max_size=3)
json_values: Final = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
objects: Final = st.dictionaries(texts, json_values, max_size=3)


def _shape(extra: Strategy | None = None, /, **required: Strategy) -> Strategy:
    """An object with these members; an endpoint's shape has others beside them."""
    exact = st.fixed_dictionaries(required)
    return exact if extra is None else st.builds(lambda more, own: more | own, extra, exact)


_foreign: Final = st.dictionaries(st.text("xyz", min_size=1, max_size=3), json_values, max_size=2)
_documents: Final = _shape(_foreign, pageContent=texts, metadata=objects)
_tools: Final = _shape(_foreign, tool=texts, toolInput=objects, toolOutput=json_values)
_agents: Final = _shape(
    _foreign,
    agentName=texts,
    messages=st.lists(texts, max_size=2),
    usedTools=st.none() | st.lists(st.none() | _tools, max_size=2),
    sourceDocuments=st.lists(_documents, max_size=2),
)
_nodes: Final = _shape(
    _foreign,
    nodeId=ids,
    nodeLabel=texts,
    data=objects,
    previousNodeIds=st.lists(ids, max_size=2),
    status=texts,
)

DATA: Final[dict[str, Strategy]] = {
    "start": _shape(tags=tags, redelivered=st.booleans(), upstream=json_values),
    "token": texts,
    "sourceDocuments": st.lists(_documents, max_size=2),
    "usedTools": st.lists(st.none() | _tools, max_size=2),
    "calledTools": st.lists(st.none() | _tools, max_size=2),
    "metadata": _shape(_foreign, chatId=ids, question=st.none() | texts, sessionId=ids),
    "thinking": texts,
    "agentReasoning": st.lists(_agents, max_size=2),
    "nextAgent": json_values,
    "agentFlowEvent": texts,
    "nextAgentFlow": _shape(_foreign, nodeId=ids, nodeLabel=texts, status=texts, error=texts),
    "agentFlowExecutedData": st.lists(_nodes, max_size=2),
    "artifacts": st.lists(json_values, max_size=2),
    "fileAnnotations": json_values,
    "action": _shape(_foreign, id=ids, mapping=objects, elements=st.lists(objects, max_size=2)),
    "usageMetadata": _shape(_foreign, input_tokens=counts, total_tokens=counts),
    "tool": json_values,
    "abort": json_values,
    "tts_start": json_values,
    "tts_data": json_values,
    "tts_end": json_values,
    "agent_trace": _shape(_foreign, step=texts),
    "retry": _shape(
        kind=st.sampled_from(FailureKind),
        message=texts,
        nextAttempt=counts,
        delaySeconds=seconds,
    ),
    "error": st.fixed_dictionaries(
        {"kind": st.sampled_from(FailureKind), "message": texts},
        optional={"httpStatus": st.integers(100, 599)},
    ),
    "end": _shape(
        status=st.sampled_from(EndStatus),
        attempts=counts,
        calls=counts,
        events=counts,
        durationSeconds=seconds,
        text=texts,
        recovered=st.booleans(),
        tags=tags,
    ),
    "other": _shape(name=texts, data=json_values),
}
"""What the data of each event of the contract looks like on the wire."""

times: Final = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - the zone is beside it
unknown_names: Final = texts.filter(lambda name: name not in EVENT_NAMES)


def events(name: str) -> st.SearchStrategy[Event]:
    """Events of one name, typed where the contract knows it."""
    members = {
        "jobId": ids,
        "chatId": ids,
        "chatflowId": ids,
        "attempt": counts,
        "seq": counts,
        "time": times,
        "event": st.just(name),
        "data": DATA.get(name, json_values),
    }
    build: Callable[[dict[str, Any]], Event] = event_from
    if name == "thinking":
        return st.fixed_dictionaries(members, optional={"duration": seconds}).map(build)
    return st.fixed_dictionaries(members).map(build)


_FIELDS: Final = {field.alias for field in PredictionJob.model_fields.values()}


def jobs() -> Strategy:
    """Bodies of valid jobs, as objects."""
    return st.builds(
        lambda unknown, known: unknown | known,
        st.dictionaries(texts.filter(lambda name: name not in _FIELDS), json_values, max_size=2),
        st.fixed_dictionaries(
            {"chatflowId": st.text("aZ09_-", min_size=1, max_size=128), "question": st.just("?")},
            optional={
                "chatId": texts,
                "jobId": st.text("aZ09_-", min_size=1, max_size=128),
                "overrideConfig": objects,
                "history": json_values,
                "uploads": json_values,
                "form": json_values,
                "humanInput": json_values,
                "action": json_values,
                "leadEmail": json_values,
                "streaming": st.booleans(),
                "timeoutSeconds": st.floats(0.001, 1e9) | st.integers(1, 1000),
                "expiresAt": times.map(datetime.isoformat),
                "maxCalls": st.integers(1, 100),
                "answer": st.just("json"),
                "after": st.just("the-one-before"),
                "idempotent": st.booleans(),
                "tags": tags,
            },
        ),
    )
