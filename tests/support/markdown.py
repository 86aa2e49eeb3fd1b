"""The project's Markdown pages, and their text without code."""

import re
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_FOLDERS: Final = ("charts", "docs", "examples", "schemas", "testing", "worker")
PAGES: Final = sorted(
    {*ROOT.glob("*.md"), *(page for it in _FOLDERS for page in (ROOT / it).rglob("*.md"))}
)
_CODE: Final = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def name_of(page: Path) -> str:
    """Return the path of a page within the project."""
    return str(page.relative_to(ROOT))


def without_code(page: Path) -> str:
    """Return the text of a page without its blocks of code."""
    return _CODE.sub("", page.read_text())
