"""How tracing is switched on, what it needs, and what becomes of spans when a worker ends."""

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
import pytest_asyncio

from aimicromind_testing import Head, Script, Stall, answer, send
from tests.process.jobs import Job, a_job
from tests.process.stage import Stage
from tests.support.collector import Collector, collecting

pytestmark = pytest.mark.timeout(60)

TRACE: Final = "0af7651916cd43dd8448eb211c80319c"
PRODUCER: Final = "b7ad6b7169203331"
SHOWS_A_WORD: Final = Script.of(Head(), send("token", "Once "), Stall())


def traced() -> Job:
    return a_job("flow", {"headers": {"traceparent": f"00-{TRACE}-{PRODUCER}-01"}})


@pytest_asyncio.fixture
async def collector(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Collector]:
    """Every worker that is started now exports to it, soon."""
    async with collecting() as ready:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", ready.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        yield ready


async def test_job_of_a_killed_worker_goes_on_in_the_same_trace(
    stage: Stage, collector: Collector
) -> None:
    stage.endpoint.flow("flow", SHOWS_A_WORD, answer(3))
    killed = await stage.ready_worker()
    job = traced()
    with stage.listen() as consumer:
        stage.submit(job)
        await consumer.saw(job.job_id, "token")
        killed.signal(signal.SIGKILL)
        await killed.exits()
        await stage.ready_worker()
        await consumer.ended(job.job_id)
        came = consumer.job(job.job_id)
    (whole,) = await collector.jobs(job.job_id)
    (attempt,) = collector.parts(whole)
    (call,) = collector.parts(attempt)

    assert (whole.trace_id, whole.parent_id) == (TRACE, PRODUCER)
    assert attempt.facts["aimicromind.attempt"] == 2
    contexts = [message.properties["headers"]["traceparent"] for message in came]
    assert {context.split("-")[1] for context in contexts} == {TRACE}
    assert contexts[-1] == attempt.traceparent
    assert contexts[0] != contexts[-1]
    assert stage.endpoint.calls[-1].headers["traceparent"] == call.traceparent


async def test_job_that_is_handed_back_leaves_its_span_before_the_worker_ends(
    stage: Stage, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "chats")
    stage.endpoint.flow("flow", SHOWS_A_WORD)
    leaving = await stage.ready_worker(DRAIN_SECONDS=3)
    job = traced()
    with stage.listen() as consumer:
        stage.submit(job)
        await consumer.saw(job.job_id, "token")
        leaving.signal(signal.SIGTERM)
        assert await leaving.exits() == 0

    (whole,) = await collector.jobs(job.job_id)
    (attempt,) = collector.parts(whole)
    assert "job.requeued" in dict(attempt.events)
    assert whole.resource["service.name"] == "chats"
    assert not leaving.log("drain.overran")


async def test_header_that_cannot_be_read_is_in_no_log(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "api-key: s3cr3t")
    worker = await stage.ready_worker()

    trouble = await worker.logged("tracing.trouble")

    assert "OTEL_EXPORTER_OTLP_HEADERS" in trouble["reason"]
    assert "s3cr3t" not in worker.stderr


@pytest.mark.parametrize("answers", [False, True], ids=["refuses", "never answers"])
async def test_collector_that_is_down_costs_a_line(
    answers: bool,  # noqa: FBT001 - a parameter of the test
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(say_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    if not answers:
        server.close()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    stage.endpoint.flow("flow", answer(3))
    worker = await stage.ready_worker(DRAIN_SECONDS=3)
    jobs = [traced() for _ in range(5)]
    with stage.listen() as consumer:
        stage.submit(*jobs)
        await consumer.ended(*(job.job_id for job in jobs))

    told_to_stop = time.monotonic()
    worker.signal(signal.SIGTERM)
    assert await worker.exits() == 0
    took_s = time.monotonic() - told_to_stop
    server.close()

    assert took_s < 3.0
    assert worker.log("spans.dropped")
    assert not worker.log("drain.overran")
    assert len(worker.log("tracing.trouble")) == (not answers)
    assert all(line.startswith("{") for line in worker.stderr.splitlines())


@pytest.mark.parametrize(
    ("variables", "traced"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}, True),
        ({"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
        ({"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, False),
    ],
)
async def test_sdk_of_opentelemetry_is_only_imported_where_it_is_asked_for(
    variables: dict[str, str],
    traced: bool,  # noqa: FBT001 - a parameter of the test
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPROFILEIMPORTTIME", "1")
    stage.endpoint.flow("flow", answer(1))
    worker = await stage.ready_worker(DRAIN_SECONDS=1)
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        await consumer.ended(job.job_id)
    await stage.stop_workers()

    imported = {
        line.rpartition("|")[2].strip()
        for line in worker.stderr.splitlines()
        if line.startswith("import time:")
    }
    assert "aimicromind_worker" in imported
    assert ("opentelemetry.sdk.trace" in imported) == traced
    assert ("google.protobuf" in imported) == traced


async def test_worker_without_the_extra_says_what_to_install_and_works(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden = "import sys; sys.modules['opentelemetry.sdk'] = None"
    (tmp_path / "missing").mkdir()
    (tmp_path / "missing" / "sitecustomize.py").write_text(hidden)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "missing"))
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    stage.endpoint.flow("flow", answer(1))
    worker = await stage.ready_worker()
    job = a_job()
    with stage.listen() as consumer:
        stage.submit(job)
        await stage.ended(consumer, job)
    await stage.stop_workers()

    (said,) = worker.log("tracing.unavailable")
    assert "aimicromind-worker[otel]" in said["remedy"]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("OTEL_TRACES_EXPORTER", "zipkin", "zipkin"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "-1", "max_queue_size"),
    ],
)
async def test_worker_that_cannot_trace_as_asked_says_why_and_works(
    name: str, value: str, reason: str, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setenv(name, value)
    worker = await stage.ready_worker()
    await stage.stop_workers()

    (said,) = worker.log("tracing.unavailable")
    assert reason in said["reason"]
