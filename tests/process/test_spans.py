"""What one traced worker tells a collector of jobs of all kinds."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import pytest
import pytest_asyncio

from aimicromind_schemas import Names
from aimicromind_testing import (
    Call,
    Head,
    PrivateBroker,
    Script,
    Stall,
    answer,
    error_answer,
    json_error,
    send,
    too_many_requests,
)
from tests.process.jobs import Job, a_job
from tests.process.stage import Stage, set_up
from tests.support.collector import CollectedSpan, Collector, collecting
from tests.support.consumer import Message, publish
from tests.support.processes import WorkerProcess

pytestmark = [pytest.mark.timeout(60), pytest.mark.asyncio(loop_scope="module")]

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
PRODUCER: Final = "b7ad6b7169203331"
STATE: Final = "vendor=1"
MARK: Final = "s3cr3t"
TEMPLATE: Final = "/api/v1/prediction/{chatflowId}"
TOOL: Final = send("usedTools", [{"tool": MARK, "toolInput": {"q": MARK}, "toolOutput": MARK}])


def spoken(number: int) -> str:
    return f"{MARK}-{number} "


def traced(flow: str, flags: str = "01", **fields: object) -> Job:
    """Write a job of a traced producer, full of what must not be told."""
    headers = {"traceparent": f"00-{TRACE}-{PRODUCER}-{flags}", "tracestate": STATE, "note": MARK}
    secrets = {"question": MARK, "tags": {"a": MARK}, "leadEmail": f"{MARK}@example.org"}
    return a_job(flow, {"headers": headers, "type": MARK}, **(secrets | fields))


@dataclass(frozen=True)
class Watched:
    """A worker, and the collector that it exports to."""

    stage: Stage
    worker: WorkerProcess
    collector: Collector

    async def run(self, job: Job) -> list[Message]:
        """Have a job run to its end, and give its events."""
        with self.stage.listen() as consumer:
            self.stage.submit(job)
            await consumer.ended(job.job_id, within_s=25)
            return consumer.job(job.job_id)

    async def span(self, job: Job) -> CollectedSpan:
        """Have a job run to its end, and give the one span of the job itself."""
        await self.run(job)
        (span,) = await self.collector.jobs(job.job_id)
        return span

    def parts(self, *wholes: CollectedSpan) -> list[CollectedSpan]:
        """Give the spans right below these."""
        return [part for whole in wholes for part in self.collector.parts(whole)]

    def calls(self, flow: str) -> list[Call]:
        return [call for call in self.stage.endpoint.calls if call.flow == flow]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def watched(
    broker: PrivateBroker, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Watched]:
    names, folder = Names("test-spans"), tmp_path_factory.mktemp("spans")
    async with collecting() as collector, set_up(broker, names, folder, f"{MARK}-key") as stage:
        with pytest.MonkeyPatch.context() as environment:
            environment.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
            environment.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
            worker = await stage.ready_worker(
                RECOVERY_SECONDS=1, LOG_LEVEL="debug", PREDICTION_PATH=f"{TEMPLATE}?key={MARK}"
            )
        yield Watched(stage, worker, collector)
        await stage.stop_workers()


async def test_job_attempt_and_call_are_a_tree_below_the_producers_span(watched: Watched) -> None:
    watched.stage.endpoint.flow("tree", answer(5, token=spoken, after=[TOOL]))
    job = traced("tree")

    whole = await watched.span(job)
    (attempt,) = watched.parts(whole)
    (call,) = watched.parts(attempt)

    queue = watched.stage.names.jobs
    assert [whole.name, whole.kind] == [f"process {queue}", "CONSUMER"]
    assert [attempt.name, attempt.kind] == ["attempt 1", "INTERNAL"]
    assert [call.name, call.kind] == [f"POST {TEMPLATE}", "CLIENT"]
    assert {span.trace_id for span in (whole, attempt, call)} == {TRACE}
    assert whole.parent_id == PRODUCER
    assert whole.began <= attempt.began <= call.began < call.ended <= attempt.ended <= whole.ended
    assert not any(span.failed for span in (whole, attempt, call))
    ids = {
        "aimicromind.job.id": job.job_id,
        "aimicromind.chat.id": job.chat_id,
        "aimicromind.chatflow.id": "tree",
    }
    assert whole.facts == ids | {
        "messaging.system": "rabbitmq",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": queue,
    }
    assert attempt.facts == ids | {"aimicromind.attempt": 1}
    url = watched.stage.endpoint.url
    assert call.facts == attempt.facts | {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "url.full": f"{url}/api/v1/prediction/tree",
        "url.template": TEMPLATE,
        "server.address": "127.0.0.1",
        "server.port": int(url.rpartition(":")[2]),
    }
    assert attempt.noted("first_output") == call.noted("answered") == {}
    assert whole.resource["service.name"] == "aimicromind-worker"


async def test_events_carry_the_attempts_context_and_the_endpoint_gets_the_calls(
    watched: Watched,
) -> None:
    watched.stage.endpoint.flow("contexts", answer(5))
    job = traced("contexts")

    came = await watched.run(job)
    (attempt,) = watched.parts(*await watched.collector.jobs(job.job_id))
    (call,) = watched.parts(attempt)

    assert len(came) == 8
    assert {it.properties["headers"]["traceparent"] for it in came} == {attempt.traceparent}
    (asked,) = watched.calls("contexts")
    assert asked.headers["traceparent"] == call.traceparent
    assert asked.headers["tracestate"] == STATE


async def test_job_without_a_trace_begins_one_that_its_log_lines_name(watched: Watched) -> None:
    watched.stage.endpoint.flow("root", answer(1))
    job = a_job("root")

    whole = await watched.span(job)

    assert not whole.parent_id
    assert watched.calls("root")[0].headers["traceparent"].split("-")[1] == whole.trace_id
    lines = watched.worker.log(job_id=job.job_id)
    assert {"job.started", "job.ended"} <= {line["event"] for line in lines}
    assert {line["trace_id"] for line in lines} == {whole.trace_id}


async def test_job_that_its_producer_does_not_sample_is_passed_on_and_not_exported(
    watched: Watched,
) -> None:
    watched.stage.endpoint.flow("sampled", answer(1))
    unsampled = traced("sampled", flags="00")

    came = await watched.run(unsampled)
    await watched.span(traced("sampled"))

    assert not watched.collector.of(unsampled.job_id)
    contexts = [message.properties["headers"]["traceparent"] for message in came]
    contexts.append(watched.calls("sampled")[0].headers["traceparent"])
    for context in contexts:
        assert (context.split("-")[1], context.split("-")[3]) == (TRACE, "00")


async def test_retries_are_events_and_every_call_has_a_span(watched: Watched) -> None:
    cut = answer(5, token=spoken).cut(after_sends=3).forgotten()
    watched.stage.endpoint.flow("retries", json_error(503, MARK), cut, answer(5))

    whole = await watched.span(traced("retries"))
    first, second = watched.parts(whole)
    calls = unanswered, broken, _ = watched.parts(first, second)

    silent, announced = [facts for name, facts in first.events if name == "retry.scheduled"]
    assert (silent["kind"], announced["kind"]) == ("endpoint_unavailable", "stream_cut")
    assert first.noted("retry") == {"kind": "stream_cut", "next_attempt": 2}
    assert [span.failed for span in (whole, first, second)] == [False, True, False]
    assert [span.failed for span in calls] == [True, True, False]
    assert first.facts["error.type"] == broken.facts["error.type"] == "stream_cut"
    assert unanswered.facts["http.response.status_code"] == 503
    assert broken.facts["http.response.status_code"] == 200
    assert [call.facts.get("http.request.resend_count") for call in calls] == [None, 1, 2]
    sent = [call.headers["traceparent"] for call in watched.calls("retries")]
    assert sent == [call.traceparent for call in calls]


async def test_job_that_fails_is_an_error_of_its_kind(watched: Watched) -> None:
    watched.stage.endpoint.flow("fails", error_answer(f"{MARK} words", tokens=1))

    whole = await watched.span(traced("fails"))
    (attempt,) = watched.parts(whole)

    for span in (whole, attempt, *watched.parts(attempt)):
        assert (span.failed, span.facts["error.type"]) == (True, "endpoint_error")


async def test_message_that_is_no_job_is_an_error_in_its_producers_trace(watched: Watched) -> None:
    whole = await watched.span(traced("none", question=[MARK]))

    assert (whole.trace_id, whole.parent_id) == (TRACE, PRODUCER)
    assert "aimicromind.chatflow.id" not in whole.facts
    assert (whole.failed, whole.facts["error.type"]) == (True, "invalid_job")


async def test_recovery_is_an_event(watched: Watched) -> None:
    watched.stage.endpoint.flow("recovers", answer(5, token=spoken).cut(after_sends=3))

    whole = await watched.span(traced("recovers"))
    (attempt,) = watched.parts(whole)

    assert attempt.noted("answer.recovered") == {}
    assert [whole.failed, attempt.failed] == [False, False]


async def test_delay_is_an_event_and_the_job_comes_again_in_the_same_trace(
    watched: Watched,
) -> None:
    watched.stage.endpoint.flow("delayed", too_many_requests("6"), answer(1))
    job = traced("delayed")

    await watched.run(job)
    first, second = await watched.collector.jobs(job.job_id, count=2)
    delayed, attempt = watched.parts(first, second)

    assert delayed.noted("job.delayed") == {"kind": "rate_limited", "delay_s": 10.0}
    assert [first.failed, second.failed] == [True, False]
    assert [first.parent_id, second.parent_id] == [PRODUCER] * 2
    assert attempt.facts["aimicromind.attempt"] == 2


async def test_cancellation_is_an_event(watched: Watched) -> None:
    stalls = Script.of(Head(), send("token", spoken(0)), Stall()).stopped_by_abort()
    watched.stage.endpoint.flow("cancelled", stalls)
    job = traced("cancelled")

    stage = watched.stage
    with stage.listen() as consumer:
        stage.submit(job)
        await consumer.saw(job.job_id, "token")
        request = f'{{"cancel": {{"jobId": "{job.job_id}"}}}}'.encode()
        publish(stage.broker.url, stage.names.control, "", (request, {"delivery_mode": 2}))
        await consumer.ended(job.job_id)
    (whole,) = await watched.collector.jobs(job.job_id)
    (attempt,) = watched.parts(whole)
    (call,) = watched.parts(attempt)

    assert whole.noted("job.cancelled") == call.noted("broken_off") == {}
    assert not any(span.failed for span in (whole, attempt, call))


async def test_nothing_that_was_said_or_kept_secret_is_in_any_span(watched: Watched) -> None:
    watched.stage.endpoint.flow("secret", answer(3, token=spoken, before=[TOOL]))

    await watched.span(traced("secret"))

    assert b"aimicromind.job.id" in b"".join(watched.collector.bodies)
    assert not [body for body in watched.collector.bodies if MARK.encode() in body]
