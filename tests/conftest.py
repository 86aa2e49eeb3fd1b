"""What every test starts from: a clean environment, and a broker where one is asked for."""

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import pytest
import pytest_asyncio
from hypothesis import settings

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker
from tests.support.proxy import Proxy

# Properties try the same examples in each run, so that a failure is the change's own. `make fuzz`
# tries others, and many: what it finds becomes an explicit example.
settings.register_profile("fixed", derandomize=True, deadline=None, max_examples=50)
settings.register_profile(
    "fuzz",
    max_examples=int(os.environ.get("EXAMPLES", "2000")),
    deadline=None,
    print_blob=True,
)
settings.load_profile("fixed")

# A shell has what it starts with `&` ignore SIGINT, and so would the programs that tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files of process tests, which mostly wait, among those that keep a core busy."""
    tests_of: dict[Path, list[pytest.Item]] = {}
    for test in items:
        tests_of.setdefault(test.path, []).append(test)
    waiting = [path for path in tests_of if path.parent.name == "process"]
    busy = [path for path in tests_of if path.parent.name != "process"]
    places = [(n / len(paths), path) for paths in (waiting, busy) for n, path in enumerate(paths)]
    items[:] = [test for _, path in sorted(places) for test in tests_of[path]]


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of the machine, and no `.env` of a folder, reaches a test."""
    for name in os.environ:
        if name.upper().startswith(("AIMICROMIND_", "OTEL_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def broker() -> AsyncIterator[PrivateBroker]:
    """A broker for all tests of the run; each takes names of its own."""
    async with PrivateBroker() as private:
        yield private


@pytest_asyncio.fixture
async def proxy(broker: PrivateBroker) -> AsyncIterator[Proxy]:
    """A way to the broker that can be held up or broken."""
    async with Proxy(broker.port) as between:
        yield between


@pytest.fixture
def names() -> Names:
    """Names that no other test has."""
    return Names(f"test-{uuid4().hex[:12]}")
