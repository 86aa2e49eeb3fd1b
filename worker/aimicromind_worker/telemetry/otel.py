"""Spans of jobs → OpenTelemetry's, exported as its own variables say.

Nothing here is imported unless those ask for it. Attributes hold ids and facts, never content.
"""

import asyncio
import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from importlib.metadata import entry_points, version
from time import monotonic
from urllib.parse import urlsplit

import structlog
from opentelemetry import trace
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from typing_extensions import override

from aimicromind_worker.core.endpoint.call_failed import CallFailed

log = structlog.get_logger()

_NAME = "aimicromind-worker"
_JOB, _CHAT = "aimicromind.job.id", "aimicromind.chat.id"
_FLOW, _ATTEMPT = "aimicromind.chatflow.id", "aimicromind.attempt"
_OK = 200
_COMPLAINS_EVERY_S = 60.0
_OTLP = {"http/protobuf": "otlp_proto_http", "grpc": "otlp_proto_grpc"}
_W3C = TraceContextTextMapPropagator()


class NoSuchExporter(Exception):
    """OpenTelemetry's variables ask for an exporter that is not installed."""

    def __init__(self, name: str) -> None:
        super().__init__(f"there is no exporter {name}: install the package that has it")


class Traces:
    """One for the process; its spans are exported by a thread of their own."""

    def __init__(self, environment: Mapping[str, str], url_template: str) -> None:
        """Begin to keep spans.

        Args:
            environment: Names the exporters; the rest OpenTelemetry reads by itself.
            url_template: Where calls go, with `{chatflowId}` in it.

        Raises:
            NoSuchExporter: One that is named is not installed.
            ValueError: A variable makes no sense to the library.
        """
        library = logging.getLogger("opentelemetry")
        library.addHandler(_Complaints())
        library.propagate = False
        # It quotes the headers that it cannot read, which hold keys.
        logging.getLogger("opentelemetry.util.re").addFilter(_without_headers)
        exporters = [_exporter(name, environment) for name in _names(environment)]
        own = Resource({"service.name": _NAME, "service.version": version(_NAME)})
        # What the operator names goes before our own name, and that before the library's default.
        resource = Resource.create().merge(own).merge(OTELResourceDetector().detect())
        self._provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for exporter in exporters:
            self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer(_NAME, version(_NAME))
        # What stands after a `?` may be a key.
        self._url_template = url_template.partition("?")[0]

    @contextmanager
    def job(
        self, queue: str, job_id: str, chat_id: str, chatflow_id: str, trace: Mapping[str, str]
    ) -> Iterator["_Span"]:
        """Trace a job in the body."""
        named = {_JOB: job_id, _CHAT: chat_id, _FLOW: chatflow_id}
        ids = {name: value for name, value in named.items() if value}
        facts = {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": queue,
            **ids,
        }
        began = self._tracer.start_span(
            f"process {queue}", _W3C.extract(trace), SpanKind.CONSUMER, facts
        )
        with _ending(_Span(self._tracer, began, ids, self._url_template)) as span:
            yield span

    def close(self, within: timedelta) -> None:
        """Export what is left, and block for so long at most."""
        # A collector that is down holds the library for longer than anybody may wait.
        closing = threading.Thread(target=self._provider.shutdown, daemon=True)
        closing.start()
        closing.join(max(0.0, within.total_seconds()))
        if closing.is_alive():
            log.warning("spans.dropped", waited_s=within.total_seconds())


class _Span:
    """One span; its parts are made of it. Use it from the job's task."""

    def __init__(
        self, tracer: trace.Tracer, span: trace.Span, ids: Mapping[str, str | int], url: str
    ) -> None:
        self.context: dict[str, str] = {}
        self._tracer = tracer
        self._span = span
        self._ids = ids
        self._url = url
        self._parts: list[_Span] = []
        self._within = trace.set_span_in_context(span)
        _W3C.inject(self.context, self._within)

    def attempt(self, number: int) -> "_Span":
        """Begin an attempt of this job."""
        ids = {**self._ids, _ATTEMPT: number}
        return self._part(f"attempt {number}", SpanKind.INTERNAL, ids, {})

    @contextmanager
    def call(self, number: int) -> Iterator["_Span"]:
        """Trace a call of this attempt in the body."""
        url = self._url.replace("{chatflowId}", str(self._ids[_FLOW]))
        where, path = urlsplit(url), urlsplit(self._url).path
        facts: dict[str, str | int] = {
            "http.request.method": "POST",
            "url.full": url,
            "url.template": path,
            "server.address": where.hostname or "",
            "server.port": where.port or (443 if where.scheme == "https" else 80),
        }
        if number > 1:
            facts["http.request.resend_count"] = number - 1
        with _ending(self._part(f"POST {path}", SpanKind.CLIENT, self._ids, facts)) as span:
            yield span

    def note(self, name: str, **facts: str | float) -> None:
        """Record what happens now."""
        # A cancel may come when the job has just ended.
        if self._span.is_recording():
            self._span.add_event(name, facts)

    def answered(self) -> None:
        """Record that an answer to this call begins."""
        self._span.set_attribute("http.response.status_code", _OK)
        self._span.add_event("answered")

    def failed(self, error: BaseException) -> None:
        """End this by what was raised in it."""
        if isinstance(error, asyncio.CancelledError):
            # Cancelled, drained, or lost with the broker: no fault of this work.
            self.note("broken_off")
            self.end()
        elif isinstance(error, CallFailed):
            if error.http_status is not None:
                self._span.set_attribute("http.response.status_code", error.http_status)
            self.end(error.kind)
        else:
            self.end(type(error).__name__)

    def end(self, kind: str = "") -> None:
        """End this, and what has not ended in it."""
        if not self._span.is_recording():
            return
        for part in self._parts:
            part.end(kind)
        if kind:
            self._span.set_attribute("error.type", kind)
            self._span.set_status(StatusCode.ERROR, kind)
        self._span.end()

    def _part(
        self,
        name: str,
        kind: SpanKind,
        ids: Mapping[str, str | int],
        facts: Mapping[str, str | int],
    ) -> "_Span":
        began = self._tracer.start_span(name, self._within, kind, {**ids, **facts})
        part = _Span(self._tracer, began, ids, self._url)
        self._parts.append(part)
        return part


class _Complaints(logging.Handler):
    """Tells what the library complains of, a line a minute at most: it does so for each batch."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._silent_until = 0.0

    @override
    def emit(self, record: logging.LogRecord) -> None:
        if monotonic() >= self._silent_until:
            self._silent_until = monotonic() + _COMPLAINS_EVERY_S
            log.warning("tracing.trouble", reason=record.getMessage())


def _without_headers(record: logging.LogRecord) -> bool:
    record.msg, record.args = "a header of OTEL_EXPORTER_OTLP_HEADERS is not NAME=VALUE", ()
    return True


@contextmanager
def _ending(span: _Span) -> Iterator[_Span]:
    try:
        yield span
    except BaseException as error:
        span.failed(error)
        raise
    span.end()


def _names(environment: Mapping[str, str]) -> list[str]:
    named = environment.get("OTEL_TRACES_EXPORTER") or "otlp"
    return [name.strip() for name in named.split(",")]


def _exporter(name: str, environment: Mapping[str, str]) -> SpanExporter:
    if name == "otlp":
        protocol = (
            environment.get("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
            or environment.get("OTEL_EXPORTER_OTLP_PROTOCOL")
            or "http/protobuf"
        )
        name = _OTLP.get(protocol, protocol)
    for found in entry_points(group="opentelemetry_traces_exporter", name=name):
        exporter: SpanExporter = found.load()()
        return exporter
    raise NoSuchExporter(name)
