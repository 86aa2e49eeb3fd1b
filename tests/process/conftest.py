"""The stage of each process test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker

# Before they are imported, so that what they find wrong is told in full.
pytest.register_assert_rewrite("tests.process.stage")

from tests.process.stage import Stage, set_up  # noqa: E402 - see above


@pytest.fixture
def api_key() -> str | None:
    """Return no key: workers find no saved answers, unless a file has a fixture of its own."""
    return None


@pytest_asyncio.fixture
async def stage(
    broker: PrivateBroker, names: Names, tmp_path: Path, api_key: str | None
) -> AsyncIterator[Stage]:
    """No worker runs yet, and none after the test."""
    async with set_up(broker, names, tmp_path, api_key) as ready:
        yield ready
