"""Prose in Markdown wraps at 100 columns, in written pages and in generated ones."""

from pathlib import Path
from typing import Final

import pytest

from tests.support.markdown import PAGES, name_of, without_code

_COLUMNS: Final = 100
_FILLS_A_LINE: Final = 80


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_prose_of_the_page_wraps_at_100_columns(page: Path) -> None:
    lines = without_code(page).splitlines()

    assert [line for line in lines if len(line) > _COLUMNS and not _may_be_long(line)] == []


def _may_be_long(line: str) -> bool:
    """Return whether a line is a row of a table, or has a name or address that fills it."""
    return line.lstrip().startswith("|") or max(map(len, line.split())) > _FILLS_A_LINE
