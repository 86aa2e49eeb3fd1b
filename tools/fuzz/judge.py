"""Compare the published events of a case with what its bytes must lead to."""

from collections.abc import Iterator, Sequence
from typing import Any

from tools.fuzz.mutations import MAX_ANSWER_BYTES, MAX_FRAME_BYTES, Case
from tools.fuzz.oracle import Expected, expected


def ending_of(events: Sequence[dict[str, Any]]) -> str:
    """Return the kind of the job's error; without an error, the status of its `end`."""
    kinds = [event["data"]["kind"] for event in events if event["event"] == "error"]
    statuses = [event["data"]["status"] for event in events if event["event"] == "end"]
    return str((kinds or statuses or ["nothing"])[0])


def violations(case: Case, chat_id: str, events: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yield what is wrong with the published events of a case, as sentences."""
    names = [event["event"] for event in events]
    if [event["seq"] for event in events] != list(range(len(events))):
        yield "seq has a gap"
    if {event["attempt"] for event in events} != {1}:
        yield "there is another attempt than 1"
    if names.count("end") != 1 or names[-1] != "end":
        yield f"there are {names.count('end')} ends"
        return
    end = events[-1]["data"]
    failed = "error" in names
    if names.count("error") > 1 or (failed and names[-2] != "error"):
        yield "error is not published once, before the end"
    if end["status"] != ("failed" if failed else "completed"):
        yield f"the status is {end['status']}"
    if end["events"] != len(events):
        yield f"the end counts {end['events']} events instead of {len(events)}"
    tokens = [event["data"] for event in events if event["event"] == "token"]
    if end["text"] != "".join(tokens):
        yield "the text differs from the tokens"
    wanted = expected(case.body, chat_id, case.question, MAX_FRAME_BYTES, MAX_ANSWER_BYTES)
    yield from _against(wanted, events)


def _without_the_call(event: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Return the data of an event without `endpointChatId`, which the worker adds."""
    data = event["data"]
    if event["event"] != "metadata" or not isinstance(data, dict):
        return data
    return {name: value for name, value in data.items() if name != "endpointChatId"}


def _against(wanted: Expected, events: Sequence[dict[str, Any]]) -> Iterator[str]:
    ending = ending_of(events)
    shown = [
        (event["event"], _without_the_call(event))
        for event in events
        if event["event"] not in {"start", "error", "end"}
    ]
    starts = [event["seq"] for event in events if event["event"] == "start"]
    if starts not in ([], [0]) or (shown and not starts):
        yield "start is not first"
    if not wanted.sure and ending == "too_large":
        if shown != wanted.events[: len(shown)]:
            yield "the events are not the first of those expected"
        return
    if ending not in wanted.endings:
        yield f"it ended as {ending} instead of {sorted(wanted.endings)}"
    if shown != wanted.events:
        yield f"{len(shown)} events differ from the {len(wanted.events)} expected"
    if events[-1]["data"]["text"] != wanted.text:
        yield "the text differs from the expected one"
