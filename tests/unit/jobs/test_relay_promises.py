"""What holds for every job, whatever the endpoint does."""

import asyncio
import json
from itertools import groupby, pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from aimicromind_schemas import SIDE_EFFECT_EVENTS
from aimicromind_testing import frame
from aimicromind_worker.core.endpoint import errors
from aimicromind_worker.core.job.message_facts import MessageFacts
from aimicromind_worker.core.job.state import JobState
from aimicromind_worker.jobs.gates import Gates
from aimicromind_worker.jobs.registry import JobRegistry
from aimicromind_worker.jobs.relay import Relay
from aimicromind_worker.jobs.turns import Turns
from tests.support.builders import (
    BRIEF,
    END,
    ENDED_WELL,
    LIFETIME,
    METADATA,
    NAMES,
    SLOTS,
    USED_TOOLS,
    a_job,
    an_intake,
    dependencies,
    tokens,
)
from tests.support.fakes import (
    CUT,
    UNSENT,
    FakeChats,
    FakeDelivery,
    FakeJournal,
    RecordingPublisher,
    ScriptedPredictions,
)
from tests.unit.jobs.test_relay import facts_after

MOST_CALLS = 4

steps = st.sampled_from(
    [
        *(tokens("a"), tokens("b", "😀\n"), tokens(""), tokens("cut")[:-9], b":heartbeat\n\n"),
        *(frame("start", ""), frame("start", "copy"), frame("calledTools", []), USED_TOOLS),
        *(frame("retry", "flow's own"), frame("x" * 300, 1), frame("token", 5), b"data: {\n\n"),
        *(METADATA, frame("metadata", {"question": "Who?"}), END, ENDED_WELL, ENDED_WELL),
        *(frame("error", "429"), frame("error", "whatever"), frame("error", "Unauthorized")),
        *(b"x" * 70_000, CUT, errors.RateLimited("x"), ZeroDivisionError("ours")),
    ]
)
answers = st.lists(steps, max_size=6) | st.sampled_from([CUT, UNSENT, errors.BadRequest("x")])
jobs = st.fixed_dictionaries(
    {},
    optional={"idempotent": st.booleans(), "maxCalls": st.integers(1, 9)},
)
facts_before = st.builds(
    MessageFacts,
    carried=st.builds(
        JobState,
        attempt=st.integers(0, 3),
        calls=st.integers(0, 3),
        side_effect=st.booleans(),
    ),
    redelivered=st.booleans(),
)


class Carried:
    """One job, carried to its end, by one worker after the other if need be."""

    def __init__(
        self, scripts: list[Any], job: dict[str, Any], facts: MessageFacts | None = None
    ) -> None:
        self.predictions = ScriptedPredictions(*scripts)
        self.publisher = RecordingPublisher()
        facts = facts or MessageFacts()
        while True:
            delivery = FakeDelivery(a_job(**job), facts, self.publisher.history)
            asyncio.run(self._carry(delivery))
            if self.publisher.history[-1] != "requeue":
                break
            facts = facts_after(delivery)
        self.events = [json.loads(event.body) for event in self.publisher.published]

    async def _carry(self, delivery: FakeDelivery) -> None:
        shared = dependencies(self.predictions, self.publisher, max_calls=MOST_CALLS)
        intake = an_intake(shared, FakeJournal())
        turns = Turns(FakeChats(), intake.is_behind, SLOTS, LIFETIME)
        gates = Gates(shared, intake, turns, JobRegistry())
        await Relay(shared, intake, gates, JobRegistry(), NAMES).carry(delivery)

    def attempts(self) -> list[list[dict[str, Any]]]:
        return [list(events) for _, events in groupby(self.events, lambda it: it["attempt"])]


@BRIEF
@given(scripts=st.lists(answers, min_size=9, max_size=9), job=jobs, facts=facts_before)
def test_job_ends_once_and_is_settled_after_that_was_confirmed(
    scripts: list[Any], job: dict[str, Any], facts: MessageFacts
) -> None:
    carried = Carried(scripts, job, facts)

    history = carried.publisher.history
    last_worker = max((at for at, it in enumerate(history) if it == "requeue"), default=-1) + 1
    assert "end" not in history[:last_worker]
    *before, confirmed, settled = history[last_worker:]
    assert settled in {"ack", "dead-letter"}
    assert confirmed.endswith(" confirmed")
    assert before.count("end") == 1
    assert not {"ack", "dead-letter"} & set(before)
    end = carried.publisher.end()
    assert (settled == "ack") == (end.data.status == "completed")
    assert carried.predictions.open_calls == 0


@BRIEF
@given(scripts=st.lists(answers, min_size=9, max_size=9), job=jobs, facts=facts_before)
def test_attempts_are_whole_and_in_order(
    scripts: list[Any], job: dict[str, Any], facts: MessageFacts
) -> None:
    carried = Carried(scripts, job, facts)

    attempts = carried.attempts()
    for events in attempts:
        names = [event["event"] for event in events]
        assert [event["seq"] for event in events] == list(range(len(events)))
        assert names.count("start") == (0 if names[0] in {"retry", "error", "end"} else 1)
        assert "start" not in names[1:]
    for earlier, later in pairwise(attempts):
        assert earlier[-1]["event"] == "retry"
        assert earlier[-1]["data"]["nextAttempt"] == later[0]["attempt"]
        assert later[0]["attempt"] == earlier[0]["attempt"] + 1


@BRIEF
@given(scripts=st.lists(answers, min_size=9, max_size=9), job=jobs)
def test_end_tells_the_truth(scripts: list[Any], job: dict[str, Any]) -> None:
    carried = Carried(scripts, job)

    winner = carried.attempts()[-1]
    end = winner[-1]["data"]
    assert end["text"] == "".join(it["data"] for it in winner if it["event"] == "token")
    assert end["events"] == len(winner)
    assert end["attempts"] == winner[-1]["attempt"]
    assert end["calls"] == len(carried.predictions.seen)
    if end["status"] == "completed":
        assert winner[-2]["event"] != "error"
        assert any(it["event"] == "metadata" for it in winner)
    else:
        assert winner[-2]["event"] == "error"


@BRIEF
@given(scripts=st.lists(answers, min_size=9, max_size=9), job=jobs, facts=facts_before)
def test_nothing_is_called_too_often_or_again_after_it_acted(
    scripts: list[Any], job: dict[str, Any], facts: MessageFacts
) -> None:
    carried = Carried(scripts, job, facts)

    calls = len(carried.predictions.seen)
    most = min(job.get("maxCalls", MOST_CALLS), MOST_CALLS)
    assert calls <= max(most - facts.carried.calls, 1)
    assert len({call.endpoint_chat_id for call in carried.predictions.seen}) == calls
    if job.get("idempotent"):
        return
    acted = [
        any(it["event"] in SIDE_EFFECT_EVENTS and it["data"] for it in events)
        for events in carried.attempts()
    ]
    assert not any(acted[:-1])
    if facts.carried.side_effect:
        assert calls == 0
