"""Answers beyond every limit: each costs its own job, little memory, and no neighbour."""

import zlib

import pytest

from aimicromind_testing import (
    END,
    Head,
    Script,
    Send,
    answer,
    send,
)
from tests.process.jobs import a_job
from tests.process.stage import Stage
from tests.support.consumer import Consumer

pytestmark = pytest.mark.timeout(120)

_MB = 1024 * 1024
_PIECE = Send(b"x" * (_MB // 4))
_JSON = "application/json"
_STREAM = "text/event-stream"
_BEGUN = b'data:{"event":"token","data":"'
# Beside what a worker takes that has carried such a job within its limits.
_MOST_GROWTH_MB = 80


def packed(size_mb: int, begin: bytes, content_type: str, encoding: str) -> Script:
    """Send so many megabytes of one letter, compressed."""
    packer = zlib.compressobj(1, wbits=31 if encoding == "gzip" else 15)
    pieces = [packer.compress(begin), *(packer.compress(b"x" * _MB) for _ in range(size_mb))]
    body = b"".join([*pieces, packer.flush()])
    headers = (
        ("Content-Type", content_type),
        ("Content-Encoding", encoding),
        ("Content-Length", str(len(body))),
    )
    return Script.of(Head(200, headers), Send(body))


def plain(size_mb: int, begin: bytes, content_type: str = _STREAM) -> Script:
    """Send so many megabytes of one letter."""
    headers = (("Content-Type", content_type), ("Transfer-Encoding", "chunked"))
    return Script.of(Head(200, headers), Send(begin), *[_PIECE] * (4 * size_mb))


def many_tokens(size_mb: int) -> Script:
    """Send tokens, each within its limit, whose text is longer than an answer may be."""
    return Script.of(Head(), *[Send(_BEGUN + b"x" * (_MB // 2) + b'"}\n\n')] * (2 * size_mb))


def giants() -> dict[str, tuple[Script, str]]:
    """Give answers and how each must fail."""
    return {
        "event of 5 MB": (plain(5, _BEGUN), "too_large"),
        "event of 128 MB": (plain(128, _BEGUN), "too_large"),
        "line without end": (plain(128, b":"), "too_large"),
        "json of 128 MB": (plain(128, b'{"text":"', _JSON), "too_large"),
        "text of 16 MB": (many_tokens(16), "too_large"),
        "bomb in a stream, gzip": (packed(256, _BEGUN, _STREAM, "gzip"), "too_large"),
        "bomb in a stream, deflate": (packed(256, _BEGUN, _STREAM, "deflate"), "too_large"),
        "bomb in json": (packed(256, b'{"text":"', _JSON, "gzip"), "too_large"),
        "bomb on a page": (packed(256, b"", "text/plain", "gzip"), "configuration"),
    }


async def test_giant_answer_fails_its_own_job_and_fills_no_memory(stage: Stage) -> None:
    worker = await stage.ready_worker()
    neighbour, warm = a_job("neighbour"), a_job("warm")
    stage.endpoint.flow("neighbour", answer(30, rate=4))
    stage.endpoint.flow("warm", answer(1, token=lambda _: "x" * (3 * _MB)))
    failed = {}
    with stage.listen() as consumer:
        stage.submit(warm)
        await stage.ended(consumer, warm)
        before_mb = worker.largest_mb
        stage.submit(neighbour)
        for name, (script, kind) in giants().items():
            stage.endpoint.flow("giant", script)
            job = a_job("giant")
            stage.submit(job)
            (seen,) = await stage.ended(consumer, job, within_s=30)
            failed[name] = (seen.only("error")["kind"], kind)
        (beside,) = await stage.ended(consumer, neighbour, within_s=30)

    assert [name for name, (seen_kind, kind) in failed.items() if seen_kind != kind] == []
    assert beside.end["status"] == "completed"
    assert worker.largest_mb - before_mb < _MOST_GROWTH_MB


async def test_giant_event_is_left_out_and_the_answer_goes_on(stage: Stage) -> None:
    worker = await stage.ready_worker()
    tools, run = 5 * _MB, 64 * _MB
    begun = b'data:{"event":"agentFlowExecutedData","data":"'
    stage.endpoint.flow("warm", answer(1, token=lambda _: "x" * (3 * _MB)))
    stage.endpoint.flow(
        "giant",
        Script.of(
            Head(),
            send("start", ""),
            send("token", "Once "),
            send("usedTools", ["x" * tools]),
            send("token", "upon"),
            Send(begun),
            *[_PIECE] * (4 * run // _MB),
            Send(b'"}\n\n'),
            send("token", " a time"),
            send("metadata", {"chatMessageId": "m"}),
            END,
        ),
    )
    warm, job = a_job("warm"), a_job("giant")
    with stage.listen() as consumer:
        stage.submit(warm)
        await stage.ended(consumer, warm)
        before_mb = worker.largest_mb
        stage.submit(job)
        (seen,) = await stage.ended(consumer, job, within_s=60)
        events = [message.event for message in consumer.job(job.job_id)]

    assert (seen.end["status"], seen.end["text"]) == ("completed", "Once upon a time")
    assert seen.end["calls"] == 1
    assert [(it["event"], it.get("truncated")) for it in events] == [
        ("start", None),
        ("token", None),
        ("usedTools", {"bytes": tools + 4}),
        ("token", None),
        ("agentFlowExecutedData", {"bytes": run + 2}),
        ("token", None),
        ("metadata", None),
        ("end", None),
    ]
    assert worker.largest_mb - before_mb < _MOST_GROWTH_MB


async def test_very_many_tiny_tokens_fill_no_memory(stage: Stage) -> None:
    few, many = 2_000, 100_000
    worker = await stage.ready_worker()
    stage.endpoint.flow("few", answer(few, token=lambda _: "x"))
    stage.endpoint.flow("many", answer(many, token=lambda _: "x"))
    warm, job = a_job("few"), a_job("many")
    with Consumer(stage.broker.url, stage.names.events, "chat.*.end") as consumer:
        stage.submit(warm)
        await consumer.ended(warm.job_id)
        before_mb = worker.largest_mb
        stage.submit(job)
        await consumer.ended(job.job_id, within_s=many / 1000)
        (end,) = consumer.job(job.job_id)

    assert (end.data["status"], end.data["text"]) == ("completed", "x" * many)
    assert end.data["events"] == many + 3
    assert worker.largest_mb - before_mb < _MOST_GROWTH_MB
