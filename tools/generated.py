"""Write the files of the repository that are made from code, and find those that differ."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).parents[1]
"""Folder of the repository."""

Files = Mapping[Path, str]
"""The text that each file must have."""


def write(files: Files) -> None:
    """Write all files, and the folders that they need."""
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def differing(files: Files) -> list[Path]:
    """Return the files that are missing or have another text."""
    return [path for path, text in files.items() if not path.exists() or path.read_text() != text]


def between(page: str, begin: str, end: str, text: str) -> str:
    """Return a page with `text` in place of what stands between two markers.

    Raises:
        ValueError: The page has no end marker, or not exactly one begin marker.
    """
    before, rest = page.split(begin)
    return before + begin + text + rest[rest.index(end) :]
