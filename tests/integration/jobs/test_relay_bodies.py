"""Bodies as producers really write them, on a real broker."""

import asyncio
import gzip
import json
import zlib

from aimicromind_testing import answer
from tests.integration.stage import Stage
from tests.support.amqp import first_in
from tests.support.builders import a_job
from tests.support.consumer import publish

# The message names it.
JOB = a_job(jobId=None)
READABLE: dict[str, tuple[bytes, str | None]] = {
    "byte order mark": (b"\xef\xbb\xbf" + JOB, None),
    "byte order mark and space": (b"\xef\xbb\xbf \r\n" + JOB, None),
    "UTF-16": (JOB.decode().encode("utf-16"), None),
    "UTF-32, big end first": (JOB.decode().encode("utf-32-be"), None),
    "zeros at the end": (JOB + b" \0\0", None),
    "gzip": (gzip.compress(JOB), "gzip"),
    "gzip, capitals": (gzip.compress(JOB), "X-GZIP"),
    "gzip in two parts": (gzip.compress(JOB[:9]) + gzip.compress(JOB[9:]), "gzip"),
    "gzip that nobody tells of": (gzip.compress(JOB), None),
    "deflate": (zlib.compress(JOB), "deflate"),
    "Celery's encoding": (JOB, "utf-8"),
    "half an emoji": (a_job(jobId=None, question="Why? \ud83d"), None),
    "streaming as text": (a_job(jobId=None, streaming="true"), None),
    "whole number with a point": (a_job(jobId=None, maxCalls=3.0), None),
}


async def test_job_completes_however_it_is_written(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(2))
    ended = {}
    async with stage.working() as chats:
        for number, (name, (body, encoding)) in enumerate(READABLE.items()):
            await stage.put(body, content_encoding=encoding, message_id=f"job-{number}")
            ended[name] = (await chats.end_of(f"job-{number}"))["status"]

    assert ended == dict.fromkeys(READABLE, "completed")
    assert {event["chatId"] for event in chats.inbox.bodies()} == {"chat"}
    questions = [call.json["question"] for call in stage.endpoint.calls]
    assert [question[:4] for question in questions] == ["Why?"] * len(READABLE)


async def test_tags_of_any_text_come_back(stage: Stage) -> None:
    stage.endpoint.flow("flow", answer(1))
    tags = {"half \ud83d": "\ude00", "ä": "\x00"}
    async with stage.working() as chats:
        await stage.put(a_job(tags=tags))
        end = await chats.end_of("job")

    assert end["tags"] == tags
    assert chats.data("job", "start")[0]["tags"] == tags


NO_JOB = a_job(jobId=None, question=None)
UNREADABLE: dict[str, tuple[bytes, str | None]] = {
    "byte order mark": (b"\xef\xbb\xbf" + NO_JOB, None),
    "UTF-16": (NO_JOB.decode().encode("utf-16"), None),
    "broken off": (JOB[:-1], None),
    "UTF-16, broken off": (JOB.decode().encode("utf-16")[:-2], None),
    "NaN": (JOB[:-1] + b',"x":NaN}', None),
    "bytes that are no UTF-8": (JOB[:-1] + b',"x":"\xff"}', None),
    "nested without end": (JOB[:-1] + b',"x":' + b"[" * 50_000, None),
    "gzip, broken off": (gzip.compress(JOB + b" " * 99)[:-8], "gzip"),
    "gzip of no job": (gzip.compress(NO_JOB), "gzip"),
    "another compression": (NO_JOB, "br"),
}


async def test_job_that_cannot_be_read_ends_in_the_chat_it_names(stage: Stage) -> None:
    ended = {}
    async with stage.working() as chats:
        for number, (name, (body, encoding)) in enumerate(UNREADABLE.items()):
            await stage.put(body, content_encoding=encoding, message_id=f"job-{number}")
            ended[name] = (await chats.end_of(f"job-{number}"))["status"]
            dead = await first_in(stage.connection, stage.names.jobs_dead)
            assert (dead.body, dead.content_encoding) == (body, encoding)

    assert ended == dict.fromkeys(UNREADABLE, "rejected")
    assert {event["chatId"] for event in chats.inbox.bodies()} == {"chat"}


async def test_job_that_is_published_again_keeps_its_encoding(stage: Stage) -> None:
    body = gzip.compress(a_job(jobId=None))
    stage.endpoint.flow("flow", answer(1))
    async with stage.working() as chats:
        # Without a name it is published once more, with one.
        job = (body, {"content_encoding": "gzip"})
        await asyncio.to_thread(publish, stage.broker.url, "", stage.names.jobs, job)
        end = await chats.end_of_only_job()

    assert end["status"] == "completed"
    assert json.loads(stage.endpoint.calls[0].body)["question"] == "Why?"
