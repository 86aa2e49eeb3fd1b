import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import EndStatus, Event, FailureKind
from aimicromind_schemas.journal.history import History, read_milestone
from aimicromind_schemas.messages.events import event_from
from aimicromind_testing import Recording, frame, recording_names
from aimicromind_worker.core.endpoint.call_failed import CallFailed
from aimicromind_worker.core.endpoint.errors import AttemptOverdue, FrameTooLarge, StreamCut
from aimicromind_worker.core.endpoint.exchange import Address, EventStream, WholeAnswer
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.worker_events import error_event, retry_event
from aimicromind_worker.runs.attempt import Attempt
from aimicromind_worker.runs.idle_timeout import IdleTimeout
from tests.support.builders import (
    BRIEF,
    ENDED_WELL,
    SECRET,
    USED_TOOLS,
    a_ticket,
    limits,
    tokens,
    untraced,
)
from tests.support.fakes import FakeBody, RecordingPublisher
from tests.unit.core.endpoint.streams import cut

PATIENT = IdleTimeout(timedelta(hours=1))
TRACEPARENT = f"00-{'a' * 32}-{'b' * 16}-01"


def an_attempt(
    publisher: RecordingPublisher,
    facts: MessageFacts | None = None,
    *,
    number: int = 1,
    timeout: timedelta = timedelta(seconds=10),
    max_frame_bytes: int = 64 * 1024,
    **fields: Any,  # noqa: ANN401 - see a_job
) -> Attempt:
    ticket = a_ticket(facts, **fields)
    bounds = limits(attempt_timeout=timeout, max_frame_bytes=max_frame_bytes)
    return Attempt(ticket, number, publisher, bounds, untraced(ticket.facts.trace))


async def chunks_of(chunks: Iterable[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def show(attempt: Attempt, *chunks: bytes) -> None:
    await attempt.show(EventStream(FakeBody(chunks_of(chunks))), PATIENT)


async def test_stream_is_shown_up_to_the_endpoints_own_ending() -> None:
    publisher = RecordingPublisher()
    attempt = an_attempt(publisher)

    await show(attempt, tokens("Once ", "upon") + ENDED_WELL + tokens("never"), tokens("nor"))

    assert publisher.shown() == [
        (1, 0, "start"),
        (1, 1, "token"),
        (1, 2, "token"),
        (1, 3, "metadata"),
    ]
    assert attempt.answer.complete
    assert attempt.next_seq == 4


@pytest.mark.parametrize("last", [b"", tokens("cut")[:-1], frame("metadata", {})])
async def test_stream_that_stops_before_its_end_is_cut(last: bytes) -> None:
    publisher = RecordingPublisher()

    with pytest.raises(StreamCut):
        await show(an_attempt(publisher), tokens("Once"), last)

    assert publisher.data("token") == ["Once"]


async def test_whole_answer_is_shown_like_a_stream() -> None:
    publisher = RecordingPublisher()
    attempt = an_attempt(publisher)

    await attempt.show(WholeAnswer(b'{"text":"Once","chatId":"c"}'), PATIENT)

    assert publisher.shown() == [(1, 0, "start"), (1, 1, "token"), (1, 2, "metadata")]
    assert attempt.answer.complete


async def test_frame_beyond_the_limit_fails_the_attempt() -> None:
    with pytest.raises(FrameTooLarge):
        await show(an_attempt(RecordingPublisher()), *[b"x" * 1024] * 65)


async def test_frame_beyond_the_limit_hides_nothing_that_came_with_it() -> None:
    publisher = RecordingPublisher()
    giant = b"x" * 65 * 1024

    with pytest.raises(FrameTooLarge):
        await show(an_attempt(publisher), tokens("Once") + giant)
    await show(an_attempt(publisher), tokens("Once") + ENDED_WELL + giant)

    assert publisher.data("token") == ["Once", "Once"]


GIANT = "x" * 70_000


@pytest.mark.parametrize(
    ("name", "output", "side_effect"),
    [
        ("usedTools", True, True),
        ("calledTools", True, True),
        ("action", True, True),
        ("agent_trace", False, True),
        ("sourceDocuments", True, False),
        ("artifacts", True, False),
        ("agentFlowExecutedData", False, False),
        ("usageMetadata", False, False),
        ("of-a-flow", False, False),
    ],
)
async def test_event_that_is_too_large_goes_out_without_its_data(
    name: str, *, output: bool, side_effect: bool
) -> None:
    publisher = RecordingPublisher()
    attempt = an_attempt(publisher)

    with suppress(StreamCut):
        await show(attempt, frame(name, [GIANT]))
    assert (attempt.answer.output, attempt.answer.side_effect) == (output, side_effect)
    assert attempt.answer.waits_for_human == (name == "action")
    await show(attempt, tokens("Once") + frame(name, [GIANT]) + tokens(" upon") + ENDED_WELL)

    shown = [json.loads(event.body) for event in publisher.published]
    kinds = ["start", name, "token", name, "token", "metadata"]
    assert [(it["event"], it["seq"]) for it in shown] == [(it, n) for n, it in enumerate(kinds)]
    for left_out in (shown[1], shown[3]):
        assert left_out["data"] is None
        assert left_out["truncated"] == {"bytes": len(GIANT) + 4}
        assert isinstance(event_from(left_out), Event)
    assert all("truncated" not in shown[place] for place in (0, 2, 4, 5))
    assert json.loads(attempt.answer.text) == "Once upon"


async def test_start_that_is_too_large_begins_an_attempt_all_the_same() -> None:
    publisher = RecordingPublisher()

    await show(an_attempt(publisher), frame("start", [GIANT]) + tokens("Once") + ENDED_WELL)

    assert publisher.shown()[:2] == [(1, 0, "start"), (1, 1, "token")]
    assert publisher.data("start")[0]["upstream"] is None


async def test_event_that_may_not_keep_its_name_is_left_out_as_other() -> None:
    publisher = RecordingPublisher()

    await show(an_attempt(publisher), frame("retry", [GIANT]) + ENDED_WELL)

    other = json.loads(publisher.published[1].body)
    assert (other["event"], other["data"]) == ("other", None)
    assert other["truncated"]["bytes"] == len(GIANT) + 4


@pytest.mark.parametrize("name", ["token", "metadata", "error", "end"])
async def test_event_that_an_answer_needs_fails_it_where_it_is_too_large(name: str) -> None:
    publisher = RecordingPublisher()

    with pytest.raises(FrameTooLarge):
        await show(an_attempt(publisher), tokens("Once") + frame(name, GIANT) + ENDED_WELL)

    assert publisher.data("token") == ["Once"]


async def test_part_of_a_json_answer_that_is_too_large_is_left_out() -> None:
    publisher = RecordingPublisher()
    attempt = an_attempt(publisher)
    whole = {"text": "Once", "usedTools": [GIANT], "sourceDocuments": []}

    await attempt.show(WholeAnswer(json.dumps(whole).encode()), PATIENT)

    shown = [json.loads(event.body) for event in publisher.published]
    assert [it["event"] for it in shown] == [
        *("start", "token", "sourceDocuments", "usedTools", "metadata"),
    ]
    assert (shown[3]["data"], shown[3]["truncated"]) == (None, {"bytes": len(GIANT) + 4})
    assert attempt.answer.side_effect
    assert attempt.answer.complete


async def test_text_of_a_json_answer_may_be_larger_than_a_frame() -> None:
    publisher = RecordingPublisher()
    attempt = an_attempt(publisher, max_frame_bytes=1024)

    await attempt.show(WholeAnswer(json.dumps({"text": "x" * 2000}).encode()), PATIENT)

    assert publisher.data("token") == ["x" * 2000]


@pytest.mark.parametrize("name", ["token", "agent_trace", "metadata", "error", "x"])
async def test_data_nested_to_any_depth_is_an_event_or_a_failure(name: str) -> None:
    for depth in range(sys.getrecursionlimit() - 150, sys.getrecursionlimit() + 20):
        data = b"[" * depth + b"]" * depth
        said = b'data:{"event":"%b","data":{"a":%b}}\n\n' % (name.encode(), data)

        with pytest.raises(CallFailed):
            await show(an_attempt(RecordingPublisher()), said)


async def test_own_events_are_numbered_with_those_of_the_endpoint() -> None:
    publisher = RecordingPublisher()
    attempt = an_attempt(publisher, number=4)
    with suppress(StreamCut):
        await show(attempt, tokens("Once"))

    attempt.publish(retry_event(FailureKind.STREAM_CUT, "cut", 5, timedelta()))

    assert publisher.shown() == [(4, 0, "start"), (4, 1, "token"), (4, 2, "retry")]


def recorded(publisher: RecordingPublisher) -> list[tuple[bytes, object]]:
    """Return message id and data of each record."""
    return [(it.message_id, json.loads(it.body)["data"]) for it in publisher.records]


async def test_milestones_are_recorded_under_the_number_of_their_event() -> None:
    publisher = RecordingPublisher()
    attempt = an_attempt(publisher)

    with suppress(StreamCut):
        await show(attempt, tokens("Once") + USED_TOOLS + tokens("upon"))
    attempt.publish(error_event(FailureKind.TIMEOUT, SECRET))
    attempt.record_end(EndStatus.FAILED)

    assert recorded(publisher) == [
        (b"job:1:0", None),
        (b"job:1:2", True),
        (b"job:1:4", {"kind": "timeout"}),
        (b"job:end", {"status": "failed"}),
    ]
    assert attempt.next_seq == 5


@pytest.mark.parametrize(
    ("said", "names"),
    [
        (frame("calledTools", []), ["start"]),
        (frame("usedTools", []) + USED_TOOLS + USED_TOOLS, ["start", "usedTools"]),
        (frame("action", {"id": "a"}), ["start", "action"]),
        (frame("tool", {"tool": "mail"}), ["start", "tool"]),
        (frame("agent_trace", {"step": "tool_start"}), ["start", "agent_trace"]),
        (frame("agent_trace", {"step": "chain_start"}), ["start"]),
        (frame("usedTools", ["x" * 70_000]), ["start", "usedTools"]),
    ],
)
async def test_first_event_that_shows_a_tool_is_recorded_whatever_its_name(
    said: bytes, names: list[str]
) -> None:
    publisher = RecordingPublisher()

    with suppress(StreamCut):
        await show(an_attempt(publisher), said)

    history = History()
    for record in publisher.records:
        milestone = read_milestone(record.body)
        assert milestone is not None
        history = history.after(milestone)
    assert [it.name for it in publisher.records] == names
    assert history.side_effect == (len(names) == 2)


async def test_events_are_addressed_as_the_job_says() -> None:
    publisher = RecordingPublisher()
    facts = MessageFacts(
        correlation_id="c-1", reply_to="replies", trace={"traceparent": TRACEPARENT}
    )

    an_attempt(publisher, facts, number=3, chatId="räum")
    an_attempt(publisher)

    assert publisher.addresses == [
        Address("räum", "flow", 3, "c-1", "replies", TRACEPARENT),
        Address("chat", "flow", 1, "job", None, None),
    ]


@pytest.mark.parametrize(
    ("own", "worker_s", "limit"), [(None, 0.02, "0.02"), (0.01, 5, "0.01"), (60, 0.02, "0.02")]
)
async def test_job_can_only_lower_the_attempts_time(
    own: float | None, worker_s: float, limit: str
) -> None:
    attempt = an_attempt(
        RecordingPublisher(), timeout=timedelta(seconds=worker_s), timeoutSeconds=own
    )

    with pytest.raises(AttemptOverdue, match=f"within {limit} s"):
        async with attempt.deadline():
            await asyncio.Event().wait()


async def test_calls_of_an_attempt_share_its_time() -> None:
    attempt = an_attempt(RecordingPublisher(), timeout=timedelta(seconds=2))
    began = time.monotonic()
    async with attempt.deadline():
        await asyncio.sleep(1)

    with pytest.raises(AttemptOverdue):
        async with attempt.deadline():
            await asyncio.Event().wait()
    # With two seconds anew it would be three.
    assert time.monotonic() - began < 2.9


async def test_time_before_the_first_call_does_not_count() -> None:
    attempt = an_attempt(RecordingPublisher(), timeout=timedelta(seconds=0.2))
    await asyncio.sleep(0.3)

    async with attempt.deadline():
        await asyncio.sleep(0)


async def test_error_within_the_deadline_stays_what_it_is() -> None:
    attempt = an_attempt(RecordingPublisher())

    with pytest.raises(TimeoutError, match="of its own"):
        async with attempt.deadline():
            raise TimeoutError("of its own")


async def test_reading_waits_while_the_broker_is_slow() -> None:
    publisher = RecordingPublisher()
    publisher.has_room.clear()
    read: list[bytes] = []

    async def noted() -> AsyncIterator[bytes]:
        for chunk in (tokens("a"), tokens("b"), ENDED_WELL):
            read.append(chunk)
            yield chunk

    showing = asyncio.create_task(
        an_attempt(publisher).show(EventStream(FakeBody(noted())), PATIENT)
    )
    await publisher.waits_for_room.wait()
    before = len(read)
    publisher.has_room.set()
    await showing

    assert before == 1
    assert publisher.data("token") == ["a", "b"]


async def test_what_came_at_once_is_published_as_far_as_there_is_room() -> None:
    publisher = RecordingPublisher()
    publisher.room_for = 3
    showing = asyncio.create_task(show(an_attempt(publisher), tokens(*"abcdef") + ENDED_WELL))
    await publisher.waits_for_room.wait()
    before = len(publisher.published)
    publisher.room_for = None
    publisher.has_room.set()
    await showing

    assert before == 3
    assert publisher.data("token") == list("abcdef")


async def test_waiting_for_the_broker_is_no_silence_of_the_endpoint() -> None:
    publisher = RecordingPublisher()
    publisher.has_room.clear()
    watch = IdleTimeout(timedelta(milliseconds=50))
    watching = asyncio.create_task(watch.run())
    stream = EventStream(FakeBody(chunks_of([tokens("a"), ENDED_WELL])))

    showing = asyncio.create_task(an_attempt(publisher).show(stream, watch))
    await asyncio.sleep(0.15)
    publisher.has_room.set()
    await showing
    watching.cancel()

    assert publisher.data("token") == ["a"]


async def test_waiting_for_the_broker_takes_no_time_from_the_attempt() -> None:
    publisher = RecordingPublisher()
    publisher.has_room.clear()
    attempt = an_attempt(publisher, timeout=timedelta(milliseconds=100))

    async def run() -> None:
        async with attempt.deadline():
            await show(attempt, tokens("a"), ENDED_WELL)

    running = asyncio.create_task(run())
    await publisher.waits_for_room.wait()
    await asyncio.sleep(0.3)
    publisher.has_room.set()
    await running

    assert attempt.answer.complete


async def test_time_that_is_left_after_waiting_for_the_broker_is_kept_to() -> None:
    publisher = RecordingPublisher()
    publisher.room_for = 1
    attempt = an_attempt(publisher, timeout=timedelta(milliseconds=200))
    running = asyncio.create_task(overdue(attempt))
    await publisher.waits_for_room.wait()
    await asyncio.sleep(0.3)
    publisher.room_for = None
    publisher.has_room.set()
    began = time.monotonic()

    await running

    assert time.monotonic() - began < 5


async def overdue(attempt: Attempt) -> None:
    with pytest.raises(AttemptOverdue):
        async with attempt.deadline():
            await attempt.show(EventStream(FakeBody(endless())), PATIENT)


async def endless() -> AsyncIterator[bytes]:
    yield tokens("a")
    await asyncio.Event().wait()


STREAMS = [it for it in map(Recording.load, recording_names()) if it.frames()]
# Their ending speaks of another run's question, or was cut off.
MIXED = {"same-chat-a-conversation-second", "same-chat-after-cut"}
FAILED = {
    "err-key-missing-stream",
    "flowise2-err-key-missing-stream",
    "model-401",
    "model-429",
    "model-midstream-err",
}
CUT = {"server-sigkill", "same-chat-a-conversation-first", "abort-d-agentflow-llm"} | FAILED
QUESTIONS = {
    "same-chat-a-conversation-second": "BBB [[n=100 rate=20]]",
    "same-chat-after-cut": "TWO [[n=60 rate=20]]",
}


def expected_data(recording: Recording) -> list[object]:
    """Give what consumers see of a recording: neither its start nor how it ended."""
    unseen = {"start", "error", "end"} | ({"metadata"} if recording.name in MIXED else set())
    named = {"chatId": "chat", "endpointChatId": ""}
    return [
        it["data"] | named if it["event"] == "metadata" else it["data"]
        for it in recording.frames()
        if it["event"] not in unseen
    ]


def played(recording: Recording, places: list[int]) -> tuple[Attempt, RecordingPublisher]:
    publisher = RecordingPublisher()
    question = QUESTIONS.get(recording.name)
    attempt = Attempt(
        a_ticket(question=question, form=None if question else {"a": 1}),
        1,
        publisher,
        limits(max_frame_bytes=4 << 20, max_answer_bytes=4 << 20),
        untraced(),
    )
    with suppress(CallFailed):
        asyncio.run(show(attempt, *cut(recording.body, places)))
    return attempt, publisher


@pytest.mark.parametrize("recording", STREAMS, ids=lambda it: it.name)
def test_recording_is_shown_whole_and_ends_as_it_did(recording: Recording) -> None:
    attempt, publisher = played(recording, [])

    bodies = [json.loads(event.body) for event in publisher.published]
    assert [it["data"] for it in bodies if it["event"] != "start"] == expected_data(recording)
    assert attempt.answer.complete == (recording.name not in MIXED | CUT)
    assert [seq for _, seq, _ in publisher.shown()] == list(range(len(publisher.published)))
    told = [it["data"] for it in recording.frames() if it["event"] == "token"]
    assert json.loads(attempt.answer.text) == "".join(told)


@BRIEF
@given(recording=st.sampled_from(STREAMS), places=st.lists(st.integers(0, 1 << 20), max_size=9))
def test_any_cut_of_a_recording_shows_the_same(recording: Recording, places: list[int]) -> None:
    whole, whole_sink = played(recording, [])
    attempt, publisher = played(recording, places)

    assert publisher.shown() == whole_sink.shown()
    assert attempt.answer.text == whole.answer.text
    assert attempt.answer.complete == whole.answer.complete


async def test_time_to_the_first_output_is_counted_from_the_first_call() -> None:
    called, uncalled = an_attempt(RecordingPublisher()), an_attempt(RecordingPublisher())

    async with called.deadline():
        await show(called, tokens("a") + ENDED_WELL)
    await show(uncalled, tokens("a") + ENDED_WELL)

    assert called.first_output_after is not None
    assert called.first_output_after < timedelta(seconds=5)
    assert uncalled.first_output_after is None
