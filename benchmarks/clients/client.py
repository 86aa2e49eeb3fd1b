"""Run the client process of one version."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

from benchmarks.parts.programs import Program
from benchmarks.pools.pool import Site
from benchmarks.pools.versions import Version

_PROGRAM = Path(__file__).with_name("program.py")


@asynccontextmanager
async def client(site: Site, version: Version, *arguments: str) -> AsyncIterator[Program]:
    """Run the program with the Python of a version for the time of the body."""
    log = site.folder / f"client-{uuid4().hex[:8]}.log"
    python = version.command.with_name("python")
    async with Program((str(python), str(_PROGRAM), *arguments), log) as program:
        yield program
