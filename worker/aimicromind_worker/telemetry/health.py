"""Answer `/livez`, `/readyz` and `/metrics` over HTTP.

The event loop of the worker writes the answers: without one, the loop is blocked.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from http import HTTPStatus

import msgspec
import structlog

from aimicromind_worker.telemetry.page_server import Page, serving_pages

log = structlog.get_logger()

Reasons = Callable[[], Sequence[str]]
"""Returns the reasons for status 503; none of them means 200."""

Figures = Callable[[], Mapping[str, object]]
"""Returns JSON members to show beside the reasons."""

# Connections that wait to be accepted; the kernel may allow fewer.
_BACKLOG = 4096
_METHODS = ("GET", "HEAD")
_METRICS = "/metrics"
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class AddressUnusable(Exception):
    """The health port cannot be opened on the address in the settings."""

    def __init__(self, host: str, port: int, reason: str) -> None:
        super().__init__(
            f"the health endpoints cannot listen on {host}:{port} ({reason}): "
            "choose another address with AIMICROMIND_HEALTH_HOST and AIMICROMIND_HEALTH_PORT"
        )


@asynccontextmanager
async def answering_probes(
    host: str,
    port: int,
    why_not_live: Reasons,
    why_not_ready: Reasons,
    figures: Figures = dict,
    metrics: Callable[[], bytes] = bytes,
) -> AsyncIterator[int]:
    """Answer probes for the body, and yield the port.

    Args:
        host: Name or number of the interface.
        port: 0 takes a free one.
        why_not_live: Called for each `/livez`.
        why_not_ready: Called for each `/readyz`.
        figures: Called for each `/readyz`; does not change its status.
        metrics: Returns the body of `/metrics`, in Prometheus's text format.

    Raises:
        AddressUnusable: The port is taken, or the host is not of this machine.
    """
    pages = Pages({"/livez": (why_not_live, dict), "/readyz": (why_not_ready, figures)}, metrics)
    try:
        listening = await _listen(host, port)
    except (OSError, UnicodeError) as error:
        raise AddressUnusable(host, port, _reason(error)) from error
    async with serving_pages(listening, pages.respond, frozenset({_METRICS})):
        taken: int = listening.getsockname()[1]
        log.info("health.listening", host=host, port=taken)
        yield taken


class Pages:
    """The pages of the health port."""

    def __init__(
        self, pages: Mapping[str, tuple[Reasons, Figures]], metrics: Callable[[], bytes]
    ) -> None:
        self._pages = pages
        self._metrics = metrics

    def respond(self, method: str, path: str) -> Page:
        """Return the page for a method and a path."""
        if path == _METRICS and method in _METHODS:
            return Page(HTTPStatus.OK, _METRICS_TYPE, self._metrics())
        status, body = self._json_page(method, path)
        return Page(status, "application/json", msgspec.json.encode(body))

    def _json_page(self, method: str, path: str) -> tuple[HTTPStatus, Mapping[str, object]]:
        if path not in {*self._pages, _METRICS}:
            return HTTPStatus.NOT_FOUND, {"paths": [*self._pages, _METRICS]}
        if method not in _METHODS:
            return HTTPStatus.METHOD_NOT_ALLOWED, {"methods": _METHODS}
        why_not, figures = self._pages[path]
        reasons = list(why_not())
        body = {"status": "failing" if reasons else "ok", "reasons": reasons, **figures()}
        return HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK, body


async def _listen(host: str, port: int) -> socket.socket:
    loop = asyncio.get_running_loop()
    flags = socket.AI_PASSIVE
    found = await loop.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=flags)
    family, *_, address = found[0]
    return socket.create_server(address[:2], family=family, backlog=_BACKLOG)


def _reason(error: OSError | UnicodeError) -> str:
    # Numbers of resolver errors are not those of `os.strerror`. A host that is no valid name raises
    # `UnicodeError`.
    if isinstance(error, socket.gaierror | UnicodeError) or error.errno is None:
        return "the host is not known"
    return os.strerror(error.errno)
