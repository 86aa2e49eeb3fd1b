"""A collector of spans: OTLP over HTTP, read with OpenTelemetry's own message types."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.common.v1.common_pb2 import KeyValue
from opentelemetry.proto.trace.v1 import trace_pb2

_PROTOBUF = "application/x-protobuf"


@dataclass(frozen=True)
class CollectedSpan:
    """One span as it came; ids are hexadecimal, times are in nanoseconds since 1970.

    Attributes:
        kind: In OpenTelemetry's words, without what all have in common.
        parent_id: Empty for a root.
        events: Names and attributes of what was noted, in order.
        failed: Whether its status is an error.
        resource: Attributes of the process that sent it.
    """

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    began: int
    ended: int
    facts: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    failed: bool
    resource: dict[str, Any]

    @classmethod
    def of(cls, span: trace_pb2.Span, resource: dict[str, Any]) -> Self:
        return cls(
            name=span.name,
            kind=trace_pb2.Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
            trace_id=span.trace_id.hex(),
            span_id=span.span_id.hex(),
            parent_id=span.parent_span_id.hex(),
            began=span.start_time_unix_nano,
            ended=span.end_time_unix_nano,
            facts=_facts(span.attributes),
            events=[(event.name, _facts(event.attributes)) for event in span.events],
            failed=span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
            resource=resource,
        )

    @property
    def traceparent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"

    def noted(self, name: str) -> dict[str, Any]:
        """Give the attributes of the only event of this name."""
        (facts,) = [facts for noted, facts in self.events if noted == name]
        return facts


class Collector:
    """Keeps all that it gets.

    Attributes:
        url: What `OTEL_EXPORTER_OTLP_ENDPOINT` must be.
        spans: In the order in which they came.
        bodies: The requests, not compressed.
    """

    def __init__(self) -> None:
        self.url = ""
        self.spans: list[CollectedSpan] = []
        self.bodies: list[bytes] = []
        self._news = asyncio.Event()

    async def until(self, holds: Callable[[], bool], within_s: float = 15.0) -> None:
        """Wait until something holds of the spans."""
        try:
            async with asyncio.timeout(within_s):
                while not holds():
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError as error:
            came = [span.name for span in self.spans]
            raise TimeoutError(f"not within {within_s:g} s; what came: {came}") from error

    async def jobs(self, job_id: str, count: int = 1) -> list[CollectedSpan]:
        """Wait for so many ended spans of a job itself, and give them."""

        def found() -> list[CollectedSpan]:
            return [span for span in self.of(job_id) if span.kind == "CONSUMER"]

        await self.until(lambda: len(found()) >= count)
        return found()

    def of(self, job_id: str) -> list[CollectedSpan]:
        """Give all spans of a job."""
        return [span for span in self.spans if span.facts.get("aimicromind.job.id") == job_id]

    def parts(self, whole: CollectedSpan) -> list[CollectedSpan]:
        """Give the spans right below one, in the order in which they began."""
        below = [span for span in self.spans if span.parent_id == whole.span_id]
        return sorted(below, key=lambda span: span.began)

    async def take(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("Content-Encoding") == "gzip" and body[:2] == b"\x1f\x8b":
            body = gzip.decompress(body)
        self.bodies.append(body)
        self.spans += _spans(ExportTraceServiceRequest.FromString(body))
        self._news.set()
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type=_PROTOBUF)


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    """Run a collector on a free port."""
    collector = Collector()
    app = web.Application()
    app.router.add_post("/v1/traces", collector.take)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        collector.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield collector
    finally:
        await runner.cleanup()


def _spans(request: ExportTraceServiceRequest) -> Iterator[CollectedSpan]:
    for of_process in request.resource_spans:
        resource = _facts(of_process.resource.attributes)
        for of_library in of_process.scope_spans:
            for span in of_library.spans:
                yield CollectedSpan.of(span, resource)


def _facts(attributes: Any) -> dict[str, Any]:  # noqa: ANN401 - protobuf's own sequence
    return {it.key: _value(it) for it in attributes}


def _value(fact: KeyValue) -> Any:  # noqa: ANN401 - text or a number
    return getattr(fact.value, fact.value.WhichOneof("value") or "string_value")
