"""HTTP probes → what the worker says of its condition: `/livez` and `/readyz`, and nothing else.

That an answer comes at all says that the event loop runs: a blocked one gives none.
"""

import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

log = structlog.get_logger()

Reasons = Callable[[], Sequence[str]]
"""Gives what stands against a good answer; nothing for a good one."""

Figures = Callable[[], Mapping[str, object]]
"""Gives what is worth a look whatever the answer is, JSON."""

_CLOSE_TIMEOUT_S = 1.0


class AddressUnusable(Exception):
    """Nothing can listen on the address that the settings name."""

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
) -> AsyncIterator[int]:
    """Answer probes for the body, and give the port.

    Args:
        host: Name or number of the interface.
        port: 0 takes a free one.
        why_not_live: Asked for each `/livez`.
        why_not_ready: Asked for each `/readyz`.
        figures: Shown with each `/readyz`; they change nothing of its status.

    Raises:
        AddressUnusable: The port is taken, or the host is none of this machine.
    """
    paths = web.Application()
    paths.router.add_get("/livez", _answer(why_not_live))
    paths.router.add_get("/readyz", _answer(why_not_ready, figures))
    server = web.AppRunner(paths, access_log=None, shutdown_timeout=_CLOSE_TIMEOUT_S)
    await server.setup()
    try:
        try:
            await web.TCPSite(server, host, port).start()
        except (OSError, UnicodeError) as error:
            raise AddressUnusable(host, port, _reason(error)) from error
        taken: int = server.addresses[0][1]
        log.info("health.listening", host=host, port=taken)
        yield taken
    finally:
        await server.cleanup()


def _answer(
    reasons: Reasons, figures: Figures = dict
) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def answer(_: web.Request) -> web.Response:
        against = list(reasons())
        return web.json_response(
            {"status": "failing" if against else "ok", "reasons": against, **figures()},
            status=web.HTTPServiceUnavailable.status_code if against else web.HTTPOk.status_code,
        )

    return answer


def _reason(error: OSError | UnicodeError) -> str:
    # The resolver's numbers are not those of the system; a name it cannot write is no OSError.
    if isinstance(error, socket.gaierror | UnicodeError) or error.errno is None:
        return "the host is not known"
    return os.strerror(error.errno)
