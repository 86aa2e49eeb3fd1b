"""Trace jobs, attempts and calls with OpenTelemetry's API, which records nothing without its SDK.

Invariants:

- A span is opened for a job, an attempt and a call, never for an event.
- Attributes and span events hold ids and facts: no question, no answer, no key.
- Without an exporter the headers of the job's producer travel on byte for byte.
"""

import asyncio
from collections.abc import Mapping
from importlib.metadata import version
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from opentelemetry import trace
from opentelemetry.trace import SpanKind, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from aimicromind_worker.core.endpoint.call_failed import CallFailed

_NAME = "aimicromind-worker"
_JOB, _CHAT = "aimicromind.job.id", "aimicromind.chat.id"
_FLOW, _ATTEMPT = "aimicromind.chatflow.id", "aimicromind.attempt"
_OK = 200
_W3C = TraceContextTextMapPropagator()


class Span:
    """A job, an attempt or a call while it lasts. Use it from the job's task.

    As a context manager it ends with the body, by what the body raises.

    Attributes:
        context: Headers `traceparent` and `tracestate` for what this work causes; may be empty.
    """

    __slots__ = ("_ids", "_parts", "_span", "_tracer", "_url", "context")

    def __init__(
        self,
        tracer: trace.Tracer,
        span: trace.Span,
        ids: Mapping[str, str | int],
        url: str,
        context: Mapping[str, str],
    ) -> None:
        self.context = context
        self._tracer = tracer
        self._span = span
        self._ids = ids
        self._url = url
        self._parts: list[Span] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if error is None:
            self.end()
        else:
            self._failed(error)

    def attempt(self, number: int) -> "Span":
        """Begin an attempt of this job; it ends with the job, if not before."""
        ids = {**self._ids, _ATTEMPT: number}
        return self._part(f"attempt {number}", SpanKind.INTERNAL, ids, {})

    def call(self, number: int) -> "Span":
        """Begin a call of this attempt.

        Args:
            number: Of the job's calls, from 1.
        """
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
        return self._part(f"POST {path}", SpanKind.CLIENT, self._ids, facts)

    def note(self, name: str, **facts: str | float) -> None:
        """Add a span event, without anything that a job or an answer says."""
        # A cancel may come when the job has just ended.
        if self._span.is_recording():
            self._span.add_event(name, facts)

    def answered(self) -> None:
        """Record that an answer to this call begins."""
        self._span.set_attribute("http.response.status_code", _OK)
        self._span.add_event("answered")

    def _failed(self, error: BaseException) -> None:
        if isinstance(error, asyncio.CancelledError):
            # Cancelled, drained, or lost with the broker: this work did not fail.
            self.note("broken_off")
            self.end()
        elif isinstance(error, CallFailed):
            if error.http_status is not None:
                self._span.set_attribute("http.response.status_code", error.http_status)
            self.end(error.kind)
        else:
            self.end(type(error).__name__)

    def end(self, kind: str = "") -> None:
        """End this span, and its parts that have not ended.

        Args:
            kind: Why the work failed; empty for a success.
        """
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
    ) -> "Span":
        within = trace.set_span_in_context(self._span)
        began = self._tracer.start_span(name, within, kind, {**ids, **facts})
        context = _headers(began, self._span, self.context)
        part = Span(self._tracer, began, ids, self._url, context)
        self._parts.append(part)
        return part


class Tracer:
    """Opens the spans of jobs. One for the process."""

    def __init__(
        self, provider: trace.TracerProvider | None = None, url_template: str = ""
    ) -> None:
        """Prepare.

        Args:
            provider: Keeps the spans; None records nothing.
            url_template: Address of prediction calls, with `{chatflowId}` in it.
        """
        provider = provider or trace.NoOpTracerProvider()
        self._tracer = provider.get_tracer(_NAME, version(_NAME))
        # A query may hold a key.
        self._url_template = url_template.partition("?")[0]

    def job(
        self, queue: str, job_id: str, chat_id: str, chatflow_id: str, headers: Mapping[str, str]
    ) -> Span:
        """Begin the span of a job.

        Args:
            queue: Name of the queue that delivered it.
            job_id: Its id.
            chat_id: Its chat, empty if unknown.
            chatflow_id: Its flow, empty if unknown.
            headers: Trace context of its message; may be empty.
        """
        named = {_JOB: job_id, _CHAT: chat_id, _FLOW: chatflow_id}
        ids = {name: value for name, value in named.items() if value}
        facts = {
            "messaging.system": "rabbitmq",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.name": queue,
            **ids,
        }
        within = _W3C.extract(headers)
        began = self._tracer.start_span(f"process {queue}", within, SpanKind.CONSUMER, facts)
        context = _headers(began, trace.get_current_span(within), headers)
        return Span(self._tracer, began, ids, self._url_template, context)


def trace_id(context: Mapping[str, str]) -> str | None:
    """Return the trace id that headers name, None without one."""
    traceparent = context.get("traceparent")
    return None if traceparent is None else traceparent.split("-")[1]


def _headers(span: trace.Span, parent: trace.Span, given: Mapping[str, str]) -> Mapping[str, str]:
    """Return a span's context as headers: those of its parent where it is no span of its own."""
    if span.get_span_context() == parent.get_span_context():
        return given
    headers: dict[str, str] = {}
    _W3C.inject(headers, trace.set_span_in_context(span))
    return headers
