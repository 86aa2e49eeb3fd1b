"""Write the tables that pages have of the code, from the code: `python -m tools.docs`."""

from pathlib import Path

from pydantic import ByteSize
from pydantic.fields import FieldInfo

from aimicromind_worker.app.settings import ENV_PREFIX, Settings
from aimicromind_worker.core.endpoint.failure_table import TABLE

README = Path(__file__).parents[1] / "README.md"
ENDPOINT = Path(__file__).parents[1] / "docs" / "endpoint.md"
_BEGIN = "checked by `make check` -->\n"
_END = "<!-- end of settings -->"


def with_settings(readme: str) -> str:
    """Give the page with a fresh table."""
    return _with(readme, _table(), _END)


def with_failures(page: str) -> str:
    """Give the page with a fresh table of the endpoint's error texts."""
    rows = ["| kind | texts | from |", "|---|---|---|"]
    for row in TABLE:
        texts = " · ".join(f"`` {text} ``" for text in row.examples)
        rows.append(f"| `{row.meaning.kind}` | {texts} | {row.source} |")
    return _with(page, "\n".join(rows) + "\n", "<!-- end of failures -->")


def _with(page: str, table: str, end: str) -> str:
    before, rest = page.split(_BEGIN)
    return before + _BEGIN + table + rest[rest.index(end) :]


def _table() -> str:
    rows = ["| variable | default | |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        text = " ".join((field.description or "").split())
        rows.append(f"| `{ENV_PREFIX}{name.upper()}` | {_default(field)} | {text} |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.default
    if value is None:
        return ""
    if isinstance(value, ByteSize):
        return value.human_readable()
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


if __name__ == "__main__":
    README.write_text(with_settings(README.read_text()))
    ENDPOINT.write_text(with_failures(ENDPOINT.read_text()))
