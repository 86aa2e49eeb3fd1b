"""Serve a chat to browsers: questions by POST, answers as server-sent events that resume.

Usage: AIMICROMIND_AMQP_URL=amqp://… FLOW_ID=… uvicorn bridge:app
Needs: pip install fastapi sse-starlette uvicorn. It keeps no state: any number of copies may run.
"""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, cast
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, Header, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from pydantic import BaseModel, Field
from sse_starlette import EventSourceResponse, ServerSentEvent

from aimicromind_schemas import Event, PredictionJob, encode
from aimicromind_schemas.client import Client, ClientError, Gap, Position

FLOW = os.environ["FLOW_ID"]
PREFIX = os.environ.get("AIMICROMIND_PREFIX", "aimicromind")
PAGE = Path(__file__).with_name("bridge.html")
CLOCKS_DIFFER = timedelta(minutes=5)
HEARTBEAT_S = 15
STUCK_AFTER_S = 30


@asynccontextmanager
async def connected(_: FastAPI) -> AsyncIterator[dict[str, Client]]:
    """Connect once for all browsers; all followers of answers share one queue."""
    async with Client.open(os.environ["AIMICROMIND_AMQP_URL"], PREFIX) as client:
        yield {"client": client}


async def opened(request: Request) -> Client:
    """Return the client that `connected` opened."""
    return cast("Client", request.state.client)


class Question(BaseModel):
    """A question from the page; without a chat it begins a new one."""

    text: str = Field(min_length=1, max_length=10_000)
    chat: UUID = Field(default_factory=uuid4)


Opened = Annotated[Client, Depends(opened)]
# The `id` of each event is its message id: JOB:ATTEMPT:SEQ, and JOB:end for the last.
LastId = Annotated[str | None, Header(alias="Last-Event-ID", pattern=r"^[^:]+:(\d+:\d+|end)$")]
app = FastAPI(lifespan=connected)


@app.get("/")
async def page() -> FileResponse:
    """Return the page."""
    return FileResponse(PAGE)


@app.post("/questions", status_code=202)
async def ask(question: Question, client: Opened) -> dict[str, str]:
    """Submit the question, and return the address of its answer."""
    since = int((datetime.now(UTC) - CLOCKS_DIFFER).timestamp())
    chat = str(question.chat)
    job = await client.submit(PredictionJob(chatflow_id=FLOW, question=question.text, chat_id=chat))
    return {"chat": chat, "answer": f"/chats/{chat}/answers/{job}?since={since}"}


@app.get("/chats/{chat}/answers/{job}")
async def answer(
    chat: UUID, job: UUID, since: datetime, client: Opened, last_id: LastId = None
) -> Response:
    """Stream an answer from its first event on, or after the event of `Last-Event-ID`."""
    place = last_id.split(":")[1:] if last_id else []
    if place == ["end"]:
        # WHATWG HTML 9.2.3: after 204, a browser does not reconnect.
        return Response(status_code=204)
    after = Position(*map(int, place)) if place else None

    async def events() -> AsyncIterator[ServerSentEvent]:
        follow = client.follow(chat_id=str(chat), job_id=str(job), from_start=since, after=after)
        async with follow as items:
            async for item in items:
                yield _sent(item)

    return EventSourceResponse(events(), ping=HEARTBEAT_S, send_timeout=STUCK_AFTER_S)


@app.delete("/chats/{chat}/answers/{job}", status_code=202)
async def stop(chat: UUID, job: UUID, client: Opened) -> None:
    """Cancel the job; its `end` then has the status `cancelled`."""
    await client.cancel(job_id=str(job))


@app.exception_handler(ClientError)
async def not_now(_: Request, error: ClientError) -> JSONResponse:
    """Return the reason why the broker did not accept a request."""
    return JSONResponse({"detail": str(error)}, 503)


def _sent(item: Event | Gap) -> ServerSentEvent:
    if isinstance(item, Gap):
        gap = {"event": "gap", "attempt": item.attempt, "missing": list(item.missing)}
        return ServerSentEvent(json.dumps(gap))
    message = encode(item)
    return ServerSentEvent(message.body.decode(), id=message.properties.message_id)
