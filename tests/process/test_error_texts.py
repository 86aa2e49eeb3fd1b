"""What the endpoint says about an error reaches the chat, and no log, probe, metric or span."""

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from aimicromind_schemas import Names
from aimicromind_testing import (
    Head,
    PrivateBroker,
    Script,
    Send,
    error_answer,
    json_answer,
    json_error,
    send,
    status_answer,
)
from tests.process.jobs import a_job
from tests.process.stage import set_up
from tests.support.collector import collecting
from tests.support.probes import probe, turns

pytestmark = pytest.mark.timeout(90)

MARK: Final = "s3cr3t"
HTML: Final = f"<html>{MARK}</html>".encode()
JSON: Final = json.dumps({"message": MARK, "error": MARK}).encode()
_JSON_TYPE: Final = "application/json"

TOLD: Final[Mapping[str, Script]] = {
    "frame": error_answer(f"{MARK} did not work"),
    "frame-after-output": error_answer(f"401 Unauthorized {MARK}", tokens=2),
    "frame-of-the-server": error_answer(f"Invalid history format. {MARK}"),
    "frame-object": Script.of(Head(), send("error", {"message": MARK})),
    **{f"json-{status}": json_error(status, MARK) for status in (400, 401, 403, 422, 429, 500)},
}
UNTOLD: Final[Mapping[str, Script]] = {
    "page": status_answer(200, HTML),
    "json-404": json_error(404, MARK),
    "json-413": json_error(413, MARK),
    "page-500": status_answer(500, HTML),
    "page-403": status_answer(403, HTML),
    "text-400": status_answer(400, MARK.encode(), content_type="text/plain"),
    "no-json": status_answer(200, HTML, content_type=_JSON_TYPE),
    "no-answer": json_answer(200, {"text": {MARK: MARK}, "success": False}),
    "other-type": status_answer(200, JSON, content_type="application/x-other"),
    "no-frame": Script.of(Head(), Send(f"data: {MARK}\n\n".encode())),
    "no-gzip": status_answer(
        200, HTML, content_type=_JSON_TYPE, headers=[("Content-Encoding", "gzip")]
    ),
}


def free_port() -> int:
    with socket.socket() as probing:
        probing.bind(("127.0.0.1", 0))
        return int(probing.getsockname()[1])


@pytest.mark.parametrize("form", ["json", "pretty"])
async def test_error_texts_stay_out_of_logs_probes_metrics_and_spans(
    broker: PrivateBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    async with (
        collecting() as collector,
        set_up(broker, Names(f"test-texts-{form}"), tmp_path, "key") as stage,
    ):
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
        for flow, script in {**TOLD, **UNTOLD}.items():
            stage.endpoint.flow(flow, script)
        stage.endpoint.flow("away", json_error(503, MARK))
        jobs = {flow: a_job(flow) for flow in (*TOLD, *UNTOLD)}
        worker = await stage.workers.start(
            LOG_FORMAT=form, LOG_LEVEL="debug", HEALTH_PORT=port, MAX_CALLS=1, RECOVERY_SECONDS=0
        )
        await turns(f"{url}/readyz", 200, 20)

        with stage.listen() as consumer:
            stage.submit(*jobs.values())
            await consumer.ended(*(job.job_id for job in jobs.values()), within_s=30)
            away = [a_job("away") for _ in range(6)]
            stage.submit(*away)
            await consumer.ended(*(job.job_id for job in away))
            ready = await probe(f"{url}/readyz")
            told = {
                flow: MARK in str([event.body for event in consumer.job(job.job_id)])
                for flow, job in jobs.items()
            }

        assert told == {flow: flow in TOLD for flow in jobs}
        assert MARK not in str(ready)
        assert MARK not in str(await probe(f"{url}/metrics"))
        for job in jobs.values():
            await collector.jobs(job.job_id)
        assert not any(MARK.encode() in body for body in collector.bodies)
        await stage.stop_workers()
        assert MARK not in worker.log_path.read_text()
