"""What a worker counts, as Prometheus reads it."""

import asyncio
import re
from pathlib import Path

import aiohttp

from aimicromind_testing import END, Head, Script, answer, error_answer, send
from tests.process.jobs import a_job
from tests.process.stage import Stage
from tests.support.metrics import Samples, samples_of
from tests.support.processes import WorkerProcess

CHART = Path(__file__).parents[2] / "charts/aimicromind-worker"
QUERIES = ("dashboards/aimicromind-worker.json", "templates/prometheusrule.yaml")
# A worker counts the queues after its first page, and at most every 15 s.
COUNTED_WITHIN_S = 30.0


async def scraped(worker: WorkerProcess) -> Samples:
    """Read all numbers, each by its name and labels."""
    url = await worker.health_url() + "/metrics"
    async with asyncio.timeout(10), aiohttp.ClientSession() as session, session.get(url) as got:
        assert got.status == 200
        assert got.content_type == "text/plain"
        text = await got.text()
    return samples_of(text)


async def test_worker_counts_jobs_calls_and_events(stage: Stage) -> None:
    stage.endpoint.flow("well", answer(3))
    stage.endpoint.flow("refused", error_answer("Unauthorized"))
    stage.endpoint.flow("odd", Script.of(Head(), send("my.own-event", 1)), answer(1))
    worker = await stage.ready_worker()
    before = await scraped(worker)
    jobs = [a_job("well"), a_job("well"), a_job("refused"), a_job("odd")]
    with stage.listen() as consumer:
        for job in jobs:
            stage.submit(job)
        await stage.ended(consumer, *jobs)
        await worker.logged("job.ended", count=4)
    now = await scraped(worker)

    def count(name: str, **labels: str) -> float:
        return now.get((name, tuple(sorted(labels.items()))), 0.0)

    assert before["ready", ()] == 1
    assert count("dead_lettered_total", kind="unauthorized") == 1
    assert count("jobs_total", outcome="completed", kind="") == 3
    assert count("jobs_total", outcome="failed", kind="unauthorized") == 1
    assert count("calls_total") == 5
    assert count("calls_failed_total", kind="unauthorized") == 1
    assert count("calls_failed_total", kind="stream_cut") == 1
    assert count("events_total", event="token") == 7
    assert count("events_total", event="end") == 4
    assert count("events_total", event="other") == 1
    assert count("job_seconds_count") == 4
    assert count("confirm_seconds_count") == 4
    assert count("first_output_seconds_count") == 3
    assert (count("running_jobs"), count("waiting_jobs")) == (0, 0)
    assert count("unconfirmed_events") == 0


async def test_labels_are_words_of_ours(stage: Stage) -> None:
    names = [f"made-up-{number}" for number in range(50)]
    events = [send(name, number) for number, name in enumerate(names)]
    ending = send("token", "done"), send("metadata", {"chatId": "chat"}), END
    stage.endpoint.flow("flow", Script.of(Head(), *events, *ending))
    worker, job = await stage.ready_worker(), a_job("flow")
    with stage.listen() as consumer:
        stage.submit(job)
        await stage.ended(consumer, job)

    text = str(await scraped(worker))

    assert "made-up" not in text
    assert job.job_id not in text


async def test_each_number_of_alerts_and_dashboard_is_on_the_page(stage: Stage) -> None:
    text = "".join((CHART / name).read_text() for name in QUERIES)
    wanted = set(re.findall(r"aimicromind_worker_(\w+)", text))
    usage = send("usageMetadata", {"input_tokens": 5, "output_tokens": 2, "total_tokens": 7})
    stage.endpoint.flow("well", answer(3, after=[usage]))
    stage.endpoint.flow("refused", error_answer("Unauthorized"))
    worker = await stage.ready_worker()
    jobs = [a_job("well"), a_job("refused")]
    with stage.listen() as consumer:
        for job in jobs:
            stage.submit(job)
        await stage.ended(consumer, *jobs)

    async with asyncio.timeout(COUNTED_WITHIN_S):
        while missing := wanted - {name for name, _ in await scraped(worker)}:
            assert missing <= {"backlog_jobs", "delayed_jobs", "dead_letters"}
            await asyncio.sleep(0.2)

    assert len(wanted) > 30
