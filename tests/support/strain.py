"""How large a process gets, and for how long its event loop stands still, while something runs."""

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

import psutil

_PAUSE_S = 0.002
_TIMEOUT_S = 30.0


@dataclass
class Strain:
    """What was seen of a worker.

    Attributes:
        before_mb: Memory when the watching began.
        highest_mb: The most of it.
        longest_s: The longest that a probe waited for its answer; other programs count, too.
        busiest_s: The most CPU time that the worker used while a probe waited: what held it up.
    """

    before_mb: float
    highest_mb: float = 0.0
    longest_s: float = 0.0
    busiest_s: float = 0.0

    @property
    def grown_mb(self) -> float:
        """Memory beyond that of the beginning."""
        return self.highest_mb - self.before_mb


@contextmanager
def strain_on(pid: int, health_url: str) -> Iterator[Strain]:
    """Ask a worker's `/livez`, which its event loop answers, one time after the other."""
    process = psutil.Process(pid)
    strain, over = Strain(process.memory_info().rss / 1e6), threading.Event()

    def watch() -> None:
        while not over.is_set():
            began, used = time.monotonic(), cpu_s(pid)
            with suppress(TimeoutError):
                _probe(health_url)
            strain.longest_s = max(strain.longest_s, time.monotonic() - began)
            strain.busiest_s = max(strain.busiest_s, cpu_s(pid) - used)
            strain.highest_mb = max(strain.highest_mb, process.memory_info().rss / 1e6)
            time.sleep(_PAUSE_S)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield strain
    finally:
        over.set()
        watching.join()


def cpu_s(pid: int) -> float:
    """Return the CPU time so far of a process and all its threads, in seconds.

    The clock is that of clock_getcpuclockid(3) on Linux, which Python does not offer.
    """
    return time.clock_gettime(~pid << 3 | 2)


def _probe(url: str) -> None:
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), _TIMEOUT_S) as connection:
        connection.sendall(b"GET /livez HTTP/1.0\r\n\r\n")
        while connection.recv(4096):
            pass
