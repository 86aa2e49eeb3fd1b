"""The table of the endpoint's error texts in docs/endpoint.md."""

from typing import Final

from aimicromind_worker.core.endpoint.failure_table import TABLE

_BEGIN: Final = "checked by `make check` -->\n"
_END: Final = "<!-- end of failures -->"


def with_error_texts(page: str) -> str:
    """Return the page with a fresh table."""
    rows = ["| kind | texts | from |", "|---|---|---|"]
    for row in TABLE:
        texts = " · ".join(f"`` {text} ``" for text in row.examples)
        rows.append(f"| `{row.meaning.kind}` | {texts} | {row.source} |")
    before, rest = page.split(_BEGIN)
    return before + _BEGIN + "\n".join(rows) + "\n" + rest[rest.index(_END) :]
