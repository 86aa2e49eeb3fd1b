"""Prose in Markdown wraps at 100 columns, in pages by hand and in those that are generated."""

import re
from pathlib import Path
from typing import Final

import pytest

_ROOT: Final = Path(__file__).parents[3]
_COLUMNS: Final = 100
_FILLS_A_LINE: Final = 80
_FOLDERS: Final = ("charts", "docs", "examples", "schemas", "testing", "worker")
_PAGES: Final = sorted(
    {*_ROOT.glob("*.md"), *(page for it in _FOLDERS for page in (_ROOT / it).rglob("*.md"))}
)
_CODE: Final = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: str(page.relative_to(_ROOT)))
def test_prose_of_the_page_wraps_at_100_columns(page: Path) -> None:
    lines = _CODE.sub("", page.read_text()).splitlines()

    assert [line for line in lines if len(line) > _COLUMNS and not _may_be_long(line)] == []


def _may_be_long(line: str) -> bool:
    """Return whether a line is a row of a table, or has a name or address that fills it."""
    return line.lstrip().startswith("|") or max(map(len, line.split())) > _FILLS_A_LINE
