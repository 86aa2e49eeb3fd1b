"""Compare what came of a case with what its bytes said."""

from collections.abc import Iterator, Sequence
from typing import Any

from tools.fuzz.mutations import MAX_ANSWER_BYTES, MAX_FRAME_BYTES, Case
from tools.fuzz.oracle import Expected, expected


def ending_of(events: Sequence[dict[str, Any]]) -> str:
    """Give the status of a job that went well, else the kind of its error."""
    kinds = [event["data"]["kind"] for event in events if event["event"] == "error"]
    statuses = [event["data"]["status"] for event in events if event["event"] == "end"]
    return str((kinds or statuses or ["nothing"])[0])


def violations(case: Case, chat_id: str, events: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Say what is wrong with the events of a case, as they were published."""
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
        yield "error is not once, before the end"
    if end["status"] != ("failed" if failed else "completed"):
        yield f"the status is {end['status']}"
    if end["events"] != len(events):
        yield "the events are not counted"
    tokens = [event["data"] for event in events if event["event"] == "token"]
    if end["text"] != "".join(tokens):
        yield "the text is not that of the tokens"
    wanted = expected(case.body, chat_id, case.question, MAX_FRAME_BYTES, MAX_ANSWER_BYTES)
    yield from _against(wanted, events)


def _without_the_call(event: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
    """Leave out of metadata the chatId of the call, which no byte of the case says."""
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
            yield "what was shown is not the beginning of what was said"
        return
    if ending not in wanted.endings:
        yield f"it ended as {ending} instead of {sorted(wanted.endings)}"
    if shown != wanted.events:
        yield f"{len(shown)} events were shown, {len(wanted.events)} were said, or others"
    if events[-1]["data"]["text"] != wanted.text:
        yield "the text is another one"
