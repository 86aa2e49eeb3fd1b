"""The stage of each image test: its workers are containers."""

import os

import pytest

from tests.process.conftest import stage

__all__ = ["stage"]


@pytest.fixture
def image() -> str:
    """The image to try, which scripts/test-image.sh has built."""
    if "IMAGE" not in os.environ:
        pytest.skip("IMAGE names none: run `make test-image`")
    return os.environ["IMAGE"]
