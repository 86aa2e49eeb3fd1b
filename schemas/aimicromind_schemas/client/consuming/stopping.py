"""Stop consumers at SIGTERM, unless the program handles it itself.

Invariant: the handler is set while a consumer runs that asked for it, and never replaces another.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_stops: set[Callable[[], None]] = set()


@contextmanager
def stopped_by_sigterm(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` at SIGTERM during the body; nothing where that is not ours to handle.

    It is ours in the main thread, where no handler is set.
    """
    loop = asyncio.get_running_loop()
    if threading.current_thread() is not threading.main_thread() or not _is_free():
        yield
        return
    if not _stops:
        loop.add_signal_handler(signal.SIGTERM, _stop_all)
    _stops.add(stop)
    try:
        yield
    finally:
        _stops.discard(stop)
        if not _stops:
            loop.remove_signal_handler(signal.SIGTERM)


def _is_free() -> bool:
    return bool(_stops) or signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def _stop_all() -> None:
    for stop in _stops:
        stop()
