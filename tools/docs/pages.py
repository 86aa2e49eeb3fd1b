"""All pages that are written from the code, whole or in part."""

from pathlib import Path
from typing import Final

from tools.docs.endpoint_table import with_error_texts
from tools.docs.failures_page import failures_page
from tools.docs.settings_page import settings_page

TOP: Final = Path(__file__).parents[2]
ENDPOINT: Final = TOP / "docs" / "endpoint.md"
FAILURES: Final = TOP / "docs" / "failures.md"
SETTINGS: Final = TOP / "docs" / "settings.md"


def generated() -> dict[Path, str]:
    """Return each page as it must be."""
    return {
        ENDPOINT: with_error_texts(ENDPOINT.read_text()),
        FAILURES: failures_page(),
        SETTINGS: settings_page(),
    }


def drift() -> list[str]:
    """Return the names of the pages that are not as they must be."""
    return sorted(
        path.name
        for path, text in generated().items()
        if not path.exists() or path.read_text() != text
    )
