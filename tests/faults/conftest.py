"""What fault tests start from: a trial on the run's broker, or on one of its own to be broken."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from aimicromind_schemas import Names
from aimicromind_testing import PrivateBroker

pytest.register_assert_rewrite("tests.faults.trial")

from tests.faults.trial import Trial, a_trial  # noqa: E402 - see above


@pytest_asyncio.fixture
async def trial(broker: PrivateBroker, names: Names, tmp_path: Path) -> AsyncIterator[Trial]:
    """On the broker that all tests of the run share."""
    async with a_trial(broker, names, tmp_path) as ready:
        yield ready


@pytest_asyncio.fixture
async def own(names: Names, tmp_path: Path) -> AsyncIterator[Trial]:
    """On a broker of its own, which may be stopped, killed and suspended."""
    async with PrivateBroker() as private, a_trial(private, names, tmp_path) as ready:
        yield ready
