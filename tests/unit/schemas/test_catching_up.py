"""The client's half of catching up, with a worker and a broker that are played."""

import json

from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import Event, Gap, Reader, TokenEvent, encode, event_from
from aimicromind_schemas.client.past.catching_up import CatchUp, CatchUpState
from aimicromind_schemas.messages.catch_up import CatchUpRequest, Snapshot
from tests.support.builders import MODERATE


def token(seq: int, attempt: int = 1, job_id: str = "job") -> Event:
    fields = {"jobId": job_id, "chatId": "chat", "chatflowId": "flow", "attempt": attempt}
    more = {"seq": seq, "time": "2026-11-22T13:20:00.123456Z", "event": "token", "data": str(seq)}
    return event_from(fields | more)


def bodies(first: int, end: int) -> tuple[bytes, ...]:
    return tuple(encode(token(seq)).body for seq in range(first, end))


def part(first: int, end: int, number: int = 1, parts: int = 1) -> bytes:
    return Snapshot("job", "chat", 1, bodies(first, end), number, parts).encode()


def asked(job_id: str | None = "job", most_held: int = 100) -> CatchUp:
    return CatchUp(CatchUpRequest("chat", job_id), most_held)


def seqs(events: list[Event]) -> list[int]:
    return [event.seq for event in events]


@MODERATE
@given(st.data())
def test_answer_and_live_events_are_all_events_once_whenever_it_was_asked(
    data: st.DataObject,
) -> None:
    count, bound = 30, data.draw(st.integers(0, 30))
    edges = data.draw(st.lists(st.integers(bound, count), min_size=1, max_size=5).map(sorted))
    catch_up, reader = asked(), Reader()
    items: list[Event | Gap] = []

    def read(events: list[Event]) -> None:
        for event in events:
            items.extend(reader.take(event))

    # The worker publishes 0 to 29. The queue was bound at `bound`, and part n sent at `edges[n]`.
    begin = 0
    for seq in range(bound, count + 1):
        while edges and edges[0] == seq:
            edges.pop(0)
            number = asked_parts(catch_up) + 1
            read(catch_up.take(part(begin, seq, number, number + len(edges))))
            begin = seq
            if catch_up.state is CatchUpState.WHOLE:
                read(catch_up.rest())
        if seq == count:
            break
        if catch_up.state is CatchUpState.WAITING:
            catch_up.hold(token(seq))
        else:
            read([token(seq)])

    assert catch_up.state is CatchUpState.WHOLE
    assert items == [token(seq) for seq in range(count)]


def asked_parts(catch_up: CatchUp) -> int:
    return catch_up._next_part - 1  # noqa: SLF001


def test_job_that_does_not_run_is_told_apart_and_its_live_events_are_kept() -> None:
    idle, other = asked(), asked()
    for catch_up in (idle, other):
        catch_up.hold(token(7))

    idle.take(Snapshot(None, "chat", 0, (), 1, 1).encode())
    other.take(Snapshot("another", "chat", 2, (), 1, 1).encode())

    assert {idle.state, other.state} == {CatchUpState.NOT_RUNNING}
    assert (idle.running, other.running) == (None, "another")
    assert seqs(idle.rest()) == [7]


def test_chat_is_caught_up_with_whichever_job_runs() -> None:
    catch_up = asked(job_id=None)

    events = catch_up.take(part(0, 3))

    assert (catch_up.state, catch_up.running, seqs(events)) == (
        CatchUpState.WHOLE,
        "job",
        [0, 1, 2],
    )


def test_answer_with_missing_events_is_incomplete() -> None:
    catch_up = asked()

    events = catch_up.take(Snapshot("job", "chat", 1, (), 1, 1, complete_from=9).encode())

    assert (catch_up.state, events) == (CatchUpState.INCOMPLETE, [])


def test_first_part_begins_the_answer_anew() -> None:
    catch_up = asked()
    catch_up.take(part(0, 2, 1, 3))

    again = catch_up.take(part(0, 3, 1, 1))

    assert (catch_up.state, seqs(again)) == (CatchUpState.WHOLE, [0, 1, 2])


def test_part_that_is_not_expected_is_left_out() -> None:
    catch_up = asked()
    catch_up.take(part(0, 2, 1, 4))

    assert catch_up.take(part(4, 6, 3, 4)) == []
    assert catch_up.state is CatchUpState.WAITING
    assert catch_up.take(Snapshot("job", "other", 1, (), 1, 1).encode()) == []


def test_repeated_answer_changes_nothing() -> None:
    catch_up = asked()
    catch_up.take(part(0, 2))

    assert catch_up.take(part(0, 9)) == []


def test_too_many_live_events_before_the_answer_lead_to_the_event_log() -> None:
    catch_up = asked(most_held=2)

    for seq in range(3):
        catch_up.hold(token(seq))

    assert catch_up.state is CatchUpState.INCOMPLETE
    assert catch_up.rest() == []


def test_answer_that_cannot_be_read_leads_to_the_event_log() -> None:
    catch_up = asked()

    assert catch_up.take(b"{}") == []
    assert catch_up.state is CatchUpState.INCOMPLETE


def test_event_that_cannot_be_read_costs_itself_alone() -> None:
    good = encode(token(1)).body
    body = Snapshot("job", "chat", 1, (json.dumps({"seq": 0}).encode(), good), 1, 1).encode()

    (event,) = asked().take(body)

    assert isinstance(event, TokenEvent)
