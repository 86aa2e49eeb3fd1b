"""Describe the machine and the versions of a run."""

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec
import pika

_PACKAGES = (
    *("aimicromind-worker", "aio-pika", "aiormq", "httptools", "httpx", "pydantic", "uvloop"),
    *("faststream", "celery", "kombu", "gevent"),
)

_QUIET = 1.0


class Machine(msgspec.Struct, frozen=True):
    """One machine at one time.

    Attributes:
        busy: Load average of the minute before the run.
    """

    date: str
    processor: str
    cores: int
    memory_gb: float
    system: str
    busy: float
    versions: dict[str, str]

    @property
    def sentence(self) -> str:
        """The machine as a sentence."""
        named = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        shared = "" if self.busy < _QUIET else ": other programs ran, figures may be too high"
        return (
            f"{self.date}, {self.cores} cores of {self.processor}, {self.memory_gb:.0f} GB, "
            f"{self.system}, load average before it {self.busy:.1f}{shared}. {named}."
        )


def this_machine(amqp_url: str) -> Machine:
    """Return this machine, with the version of a broker."""
    with pika.BlockingConnection(pika.URLParameters(amqp_url)) as connection:
        told = connection._impl.server_properties  # noqa: SLF001 - pika offers it nowhere else
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    pages, page = os.sysconf("SC_PHYS_PAGES"), os.sysconf("SC_PAGE_SIZE")
    versions = {"Python": platform.python_version(), "RabbitMQ": told["version"]}
    return Machine(
        date=f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
        processor=models[0] if models else platform.machine(),
        cores=os.cpu_count() or 0,
        memory_gb=pages * page / 1e9,
        system=f"{platform.system()} {platform.release()}",
        busy=os.getloadavg()[0],
        versions=versions | {name: version(name) for name in _PACKAGES},
    )
