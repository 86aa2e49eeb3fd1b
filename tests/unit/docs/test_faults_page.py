"""The pages of faults and of security name tests that exist."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROWS = [
    line
    for line in (ROOT / "docs" / "faults.md").read_text().split("## The faults")[1].splitlines()
    if line.startswith("|") and not line.startswith(("|---", "| fault |"))
]
SECURITY = (ROOT / "SECURITY.md").read_text()
NAMED = sorted(
    {name for page in (*ROWS, SECURITY) for name in re.findall(r"`(tests/[^`]+)`", page)}
)


@pytest.mark.parametrize("name", NAMED)
def test_named_test_exists(name: str) -> None:
    path, _, test = name.partition("::")

    assert re.search(rf"^(async )?def {test or 'test_'}", (ROOT / path).read_text(), re.MULTILINE)


@pytest.mark.parametrize("row", ROWS)
def test_each_fault_has_a_test_or_a_reason(row: str) -> None:
    assert "`tests/" in row or "`make soak`" in row or "not here: " in row


def test_each_fault_test_is_named() -> None:
    written = {
        f"{path.relative_to(ROOT)}::{name}"
        for path in (ROOT / "tests" / "faults").glob("test_*.py")
        for name in re.findall(r"^async def (test_\w+)", path.read_text(), re.MULTILINE)
    }

    assert written <= set(NAMED)
