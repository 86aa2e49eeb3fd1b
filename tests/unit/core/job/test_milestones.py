"""The records of events tell a history as much as the events themselves."""

from functools import reduce
from typing import Final

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from aimicromind_schemas import SIDE_EFFECT_EVENTS, EndEvent, Event
from aimicromind_schemas.journal.history import History, read_milestone
from aimicromind_schemas.wire import dump_json
from aimicromind_worker.core.endpoint.frames import EndpointEvent
from aimicromind_worker.core.job.milestones import Recorder, record_of_end
from aimicromind_worker.core.job.numbering import NumberedEvent, Numbering
from tests.support.builders import MODERATE
from tests.unit.schemas.strategies import events

_AT_S: Final = 1_700_000_000.5
_LATER_NAMES: Final = sorted(SIDE_EFFECT_EVENTS | {"retry", "error", "end"})
_later: Final = st.sampled_from(_LATER_NAMES).flatmap(events)
_attempts: Final = st.lists(
    st.builds(lambda first, later: [first, *later], events("start"), st.lists(_later, max_size=4)),
    max_size=3,
)


def written(attempts: list[list[Event]]) -> tuple[list[NumberedEvent], list[NumberedEvent]]:
    """Return the events of a job's attempts as they are published, and their records."""
    whole: list[NumberedEvent] = []
    records: list[NumberedEvent] = []
    for number, told in enumerate(attempts, 1):
        numbering, recorder, acted = Numbering("job", "chat", "flow", number), Recorder(), False
        for event in told:
            data = event.wire()["data"]
            published = EndpointEvent(event.event, dump_json(data))
            acted = acted or (event.event in SIDE_EFFECT_EVENTS and bool(data))
            if isinstance(event, EndEvent):
                record: EndpointEvent | None = record_of_end(event.data.status)
            else:
                record = recorder.record_of(published, acted=acted)
            if record is not None:
                records.append(numbering.record(record, _AT_S))
            whole.append(numbering.stamp(published, _AT_S))
    return whole, records


def folded(messages: list[NumberedEvent]) -> History:
    milestones = [read_milestone(message.body) for message in messages]
    return reduce(History.after, filter(None, milestones), History())


@given(_attempts)
@MODERATE
def test_records_tell_what_whole_events_tell_but_for_texts(attempts: list[list[Event]]) -> None:
    whole, records = written(attempts)

    assert folded(records) == replace(folded(whole), message="")


@given(_attempts)
@MODERATE
def test_record_of_an_event_is_small_whatever_was_said(attempts: list[list[Event]]) -> None:
    _, records = written(attempts)

    assert all(len(record.body) < 256 for record in records)


@given(_attempts)
@MODERATE
def test_record_has_the_identity_of_its_event(attempts: list[list[Event]]) -> None:
    whole, records = written(attempts)

    assert {(it.message_id, it.seq, it.name) for it in records} <= {
        (it.message_id, it.seq, it.name) for it in whole
    }
