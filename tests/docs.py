"""Write the README's settings table from the settings themselves: `python -m tests.docs`."""

from pathlib import Path

from pydantic import ByteSize
from pydantic.fields import FieldInfo

from aimicromind_worker.settings import ENV_PREFIX, Settings

README = Path(__file__).parents[1] / "README.md"
_BEGIN = "checked by `make check` -->\n"
_END = "<!-- end of settings -->"


def with_settings(readme: str) -> str:
    """Give the page with a fresh table."""
    before, rest = readme.split(_BEGIN)
    return before + _BEGIN + _table() + rest[rest.index(_END) :]


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
