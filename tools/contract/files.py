"""All files of the contract that are written from the types."""

import json
from collections.abc import Mapping
from pathlib import Path

from tools.contract.asyncapi import asyncapi
from tools.contract.places import ASYNCAPI, JSON, REFERENCE, TYPESCRIPT
from tools.contract.reference import reference
from tools.contract.schema_files import schema_files
from tools.contract.typescript import typescript


def generated() -> dict[Path, str]:
    """Give each file as it must be."""
    schemas = {JSON / f"{name}.json": as_text(schema) for name, schema in schema_files().items()}
    return {
        **schemas,
        ASYNCAPI: asyncapi(),
        TYPESCRIPT: typescript(),
        REFERENCE: reference(),
    }


def as_text(value: Mapping[str, object]) -> str:
    """Write JSON for people."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def drift() -> list[str]:
    """Name the files that are not as they must be, those that should not be there included."""
    wanted = generated()
    stale = [path for path in JSON.glob("*") if path not in wanted]
    differing = [
        path for path, text in wanted.items() if not path.exists() or path.read_text() != text
    ]
    return sorted(path.name for path in (*stale, *differing))
