"""Write the pages that are made from the code, whole or in part."""

from pathlib import Path
from typing import Final

from aimicromind_worker.core.endpoint.failure_table import TABLE
from tools.docs.failures_page import failures_page
from tools.docs.settings_page import settings_page
from tools.generated import TOP, between, differing

_BEGIN: Final = "checked by `make check` -->\n"
_END: Final = "<!-- end of failures -->"
ENDPOINT: Final = TOP / "docs" / "endpoint.md"
FAILURES: Final = TOP / "docs" / "failures.md"
SETTINGS: Final = TOP / "docs" / "settings.md"


def generated() -> dict[Path, str]:
    """Return the text that each page must have."""
    return {
        ENDPOINT: between(ENDPOINT.read_text(), _BEGIN, _END, _error_texts()),
        FAILURES: failures_page(),
        SETTINGS: settings_page(),
    }


def drift() -> list[str]:
    """Return the names of the pages that differ or are missing."""
    return sorted(path.name for path in differing(generated()))


def _error_texts() -> str:
    """Return the table of the endpoint's error texts."""
    rows = ["| kind | texts | from |", "|---|---|---|"]
    for row in TABLE:
        texts = " · ".join(f"`` {text} ``" for text in row.examples)
        rows.append(f"| `{row.meaning.kind}` | {texts} | {row.source} |")
    return "\n".join(rows) + "\n"
