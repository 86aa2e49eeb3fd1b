"""Write all files of the contract from the types."""

import shutil
from pathlib import Path

from tools.contract.asyncapi import asyncapi
from tools.contract.places import (
    ASYNCAPI,
    BASELINE,
    JSON,
    PARTITIONS,
    REFERENCE,
    TYPESCRIPT,
    as_text,
)
from tools.contract.reference import reference
from tools.contract.schema_files import schema_files
from tools.contract.typescript import typescript
from tools.contract.vectors import partitions
from tools.generated import differing, write


def generated() -> dict[Path, str]:
    """Return the text that each file must have."""
    schemas = {JSON / f"{name}.json": as_text(schema) for name, schema in schema_files().items()}
    return {
        **schemas,
        ASYNCAPI: asyncapi(),
        TYPESCRIPT: typescript(),
        REFERENCE: reference(),
        PARTITIONS: partitions(),
    }


def drift() -> list[str]:
    """Return the names of files that differ, are missing, or should not be there."""
    wanted = generated()
    stale = [path for path in JSON.glob("*") if path not in wanted]
    return sorted(path.name for path in (*stale, *differing(wanted)))


def write_all() -> None:
    """Write all files, and delete those that should not be there."""
    wanted = generated()
    for path in set(JSON.glob("*")) - set(wanted):
        path.unlink()
    write(wanted)


def renew_baseline() -> None:
    """Copy the schemas as they are, for later ones to be compared with."""
    shutil.rmtree(BASELINE, ignore_errors=True)
    shutil.copytree(JSON, BASELINE)
