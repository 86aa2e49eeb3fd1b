"""Write all files of the contract from the types."""

from pathlib import Path

from tools.contract.asyncapi import asyncapi
from tools.contract.places import ASYNCAPI, JSON, REFERENCE, TYPESCRIPT, as_text
from tools.contract.reference import reference
from tools.contract.schema_files import schema_files
from tools.contract.typescript import typescript
from tools.generated import differing


def generated() -> dict[Path, str]:
    """Return the text that each file must have."""
    schemas = {JSON / f"{name}.json": as_text(schema) for name, schema in schema_files().items()}
    return {
        **schemas,
        ASYNCAPI: asyncapi(),
        TYPESCRIPT: typescript(),
        REFERENCE: reference(),
    }


def drift() -> list[str]:
    """Return the names of files that differ, are missing, or should not be there."""
    wanted = generated()
    stale = [path for path in JSON.glob("*") if path not in wanted]
    return sorted(path.name for path in (*stale, *differing(wanted)))
