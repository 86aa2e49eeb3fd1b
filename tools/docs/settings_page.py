"""Write the page of settings, docs/settings.md."""

import types
from collections.abc import Callable
from typing import Any, Final, Literal, get_args, get_origin

from annotated_types import Ge, Gt, Le
from pydantic import ByteSize
from pydantic.fields import FieldInfo

from aimicromind_schemas.shape import docstrings
from aimicromind_worker.app.broker_settings import ENV_PREFIX
from aimicromind_worker.app.settings import EVERYDAY, Settings

_HEAD: Final = """\
# Settings

<!-- Written by `make docs` from worker/aimicromind_worker/app/settings.py; do not edit. -->

A setting is an environment variable, a line of `.env`, or a file in the folder that
`AIMICROMIND_SECRETS_DIR` names. The environment overrides `.env`, and `.env` overrides the folder.
A running worker reads a new password or API key from the folder
([operations.md](operations.md#secrets-that-change)). At the start, an unknown `AIMICROMIND_*` name
causes a warning, which names the setting that is most like it. An invalid value ends the command
with exit code 2. `aimicromind-worker settings show` prints each value with its origin, and no
password or key.

- *bytes* are a number, or a number with a unit: `4MiB`, `2GB`.
- An *age* is a whole number with `s`, `m` (minutes), `h`, `D`, `M` (months) or `Y`: `24h`, `7D`.
"""
_EVERYDAY: Final = "\n## Everyday\n\nSettings that most installations set, or should know.\n"
_TUNING: Final = """
## Tuning

Keep the defaults, unless a measurement or a limit of the broker needs another value.
"""
_WORDS: Final[dict[object, str]] = {str: "text", bool: "`true` or `false`"}


def settings_page() -> str:
    """Return the page."""
    fields = Settings.model_fields
    everyday = {name: field for name, field in fields.items() if name in EVERYDAY}
    tuning = {name: field for name, field in fields.items() if name not in EVERYDAY}
    return _HEAD + _EVERYDAY + _table(everyday) + _TUNING + _table(tuning)


def _table(fields: dict[str, FieldInfo]) -> str:
    texts = docstrings(Settings)
    rows = ["", "| name | default | unit | |", "|---|---|---|---|"]
    for name, field in fields.items():
        text = " ".join(texts.get(name, "").split())
        cells = (f"`{ENV_PREFIX}{name.upper()}`", _default(field), _unit(name, field), text)
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    match field.default:
        case None:
            return ""
        case bool(value):
            return f"`{str(value).lower()}`"
        case ByteSize() as value:
            return f"`{_bytes(int(value))}`"
        case float(value):
            return f"`{value:g}`"
        case value:
            return f"`{value}`"


def _bytes(value: int) -> str:
    """Return a size in the largest unit that leaves a whole number."""
    units = {"GB": 10**9, "MB": 10**6, "MiB": 2**20, "KiB": 2**10, " bytes": 1}
    return next(f"{value // size}{unit}" for unit, size in units.items() if value % size == 0)


def _unit(name: str, field: FieldInfo) -> str:
    kind = _kind(field.annotation)
    if get_origin(kind) is Literal:
        return ", ".join(f"`{word}`" for word in get_args(kind))
    if name.endswith("_url"):
        return "address"
    if name.endswith("_seconds"):
        return "seconds" + _range(field, "{:,g}".format)
    if kind is ByteSize:
        return "bytes" + _range(field, _bytes)
    if name.endswith("_max_age"):
        return "age"
    if kind is int:
        return "number" + _range(field, "{:,}".format)
    return _WORDS.get(kind, "file")


def _range(field: FieldInfo, written: Callable[[Any], str]) -> str:
    least, most = "", ""
    for bound in field.metadata:
        match bound:
            case Gt(value):
                least = f"above {written(value)}"
            case Ge(value):
                least = written(value)
            case Le(value):
                most = written(value)
            case _:
                pass
    if least and most:
        return f", {least} to {most}"
    return f", at least {least}" if least else ""


def _kind(annotation: object) -> object:
    """Return the type of a setting's value, without None and pydantic's types for secrets."""
    if get_origin(annotation) is types.UnionType:
        return _kind(next(it for it in get_args(annotation) if it is not types.NoneType))
    return str if getattr(annotation, "__name__", "").startswith("Secret") else annotation
