"""Tell where the value of each setting comes from, and find mistyped names."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dotenv import dotenv_values
from pydantic import ByteSize
from pydantic.fields import FieldInfo

from aimicromind_worker.app.broker_settings import ENV_PREFIX, RETIRED, SECRETS_DIR
from aimicromind_worker.app.settings import Settings
from aimicromind_worker.core.similar import nearest

# The gateway may share the environment.
_OF_THE_GATEWAY = f"{ENV_PREFIX}GATEWAY_"
_HIDDEN = "(hidden)"
# From the colon behind the user to the last @, because a password may contain one.
_PASSWORD = re.compile(r"(://[^:@/]*:).*@", re.DOTALL)
# A password may contain a comma, too.
_BETWEEN_ADDRESSES = re.compile(r"\s*,\s*(?=[a-z]+://)")
_UNITS = (("GB", 10**9), ("MB", 10**6), ("MiB", 2**20), ("KiB", 2**10))


class Origin(StrEnum):
    """Where a value comes from; an earlier one overrides a later one."""

    ENVIRONMENT = "environment"
    FILE = ".env"
    SECRETS = "secret folder"
    DEFAULT = "default"
    MISSING = "not set"


@dataclass(frozen=True, slots=True)
class ShownSetting:
    """A setting, as an operator may see it.

    Attributes:
        name: The name of the environment variable.
        value: The value as it was written, without passwords; empty for none.
        origin: Where the value comes from.
        overridden: Where other values are, which have no effect.
    """

    name: str
    value: str
    origin: Origin
    overridden: tuple[Origin, ...] = ()


@dataclass(frozen=True, slots=True)
class UnknownName:
    """A name that looks like a setting, and is none.

    Attributes:
        name: The name.
        meant: The setting that is most like it; None if none is.
    """

    name: str
    meant: str | None

    def sentence(self) -> str:
        """Return a warning."""
        hint = f": did you mean {self.meant}?" if self.meant else ", and has no effect"
        return f"{self.name} is no setting{hint}"


Given = Sequence[tuple[Origin, Mapping[str, str]]]
"""The values by name, of each source; an earlier source overrides a later one."""


def given_values(environment: Mapping[str, str]) -> Given:
    """Read the values from the environment, from `.env`, and from the folder of secrets."""
    folder = environment.get(SECRETS_DIR)
    return (
        (Origin.ENVIRONMENT, environment),
        (Origin.FILE, {name: value or "" for name, value in dotenv_values(".env").items()}),
        (Origin.SECRETS, _secrets(Path(folder)) if folder else {}),
    )


def shown_settings(given: Given) -> list[ShownSetting]:
    """Return all settings with their origins; passwords and keys are hidden."""
    found = [(origin, _named(values)) for origin, values in given]
    folder = found[0][1].get(SECRETS_DIR)
    shown = [ShownSetting(SECRETS_DIR, folder, Origin.ENVIRONMENT)] if folder else []
    return shown + [
        _shown(f"{ENV_PREFIX}{name.upper()}", field, found)
        for name, field in Settings.model_fields.items()
    ]


def unknown_names(given: Given) -> list[UnknownName]:
    """Return the `AIMICROMIND_*` names that are no setting; most are typing errors."""
    known = {f"{ENV_PREFIX}{name.upper()}" for name in Settings.model_fields} | {SECRETS_DIR}
    retired = {f"{ENV_PREFIX}{name}" for name in RETIRED}
    names = {name for _, values in given for name in values}
    return [
        UnknownName(name, _meant(name))
        for name in sorted(names)
        if name.upper().startswith(ENV_PREFIX)
        and not name.upper().startswith(_OF_THE_GATEWAY)
        and name.upper() not in known | retired
    ]


def _meant(name: str) -> str | None:
    # The prefix is common to all, and would make all alike.
    found = nearest(name.upper().removeprefix(ENV_PREFIX), map(str.upper, Settings.model_fields))
    return f"{ENV_PREFIX}{found}" if found else None


def _named(values: Mapping[str, str]) -> dict[str, str]:
    """Return the values that count: an empty one is none."""
    return {name.upper(): value.strip() for name, value in values.items() if value}


def _secrets(folder: Path) -> dict[str, str]:
    try:
        files = [it for it in folder.iterdir() if it.is_file()]
    except OSError:
        return {}
    return dict(map(_secret, files))


def _secret(file: Path) -> tuple[str, str]:
    try:
        return file.name, file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return file.name, "(unreadable)"


def _shown(
    name: str, field: FieldInfo, found: Sequence[tuple[Origin, Mapping[str, str]]]
) -> ShownSetting:
    origins = [origin for origin, values in found if name in values]
    if not origins:
        origin = Origin.MISSING if field.is_required() else Origin.DEFAULT
        return ShownSetting(name, "" if field.is_required() else _default(field.default), origin)
    written = next(values[name] for _, values in found if name in values)
    return ShownSetting(name, _safe(field, written), origins[0], tuple(origins[1:]))


def _safe(field: FieldInfo, written: str) -> str:
    """Return a value without passwords; a key is hidden as a whole."""
    if "SecretStr" in str(field.annotation):
        return _HIDDEN
    if "Secret[" in str(field.annotation):
        return ", ".join(map(_address, _BETWEEN_ADDRESSES.split(written)))
    return _PASSWORD.sub(r"\1***@", written)


def _address(url: str) -> str:
    """Return an address without password and parameters; what is none is hidden."""
    known, _, _ = _PASSWORD.sub(r"\1***@", url).partition("?")
    return known if "://" in known else _HIDDEN


def _default(value: object) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case ByteSize():
            fitting = ((unit, size) for unit, size in _UNITS if value and value % size == 0)
            unit, size = next(fitting, ("", 1))
            return f"{value // size}{unit}"
        case _:
            return str(value)
