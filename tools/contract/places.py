"""Where the contract's files are, and the form of JSON in them."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tools.generated import TOP

SCHEMAS: Final = TOP / "schemas"
JSON: Final = SCHEMAS / "json"
"""The current JSON Schemas."""
BASELINE: Final = SCHEMAS / "baseline"
"""The JSON Schemas of the last release."""
EXAMPLES: Final = SCHEMAS / "examples"
"""One of each message, written by `python -m tools.contract.recording`."""
PARTITIONS: Final = SCHEMAS / "vectors" / "partitions.json"
"""Examples of chats and their partitions of the event log."""
TYPESCRIPT: Final = SCHEMAS / "typescript" / "index.ts"
ASYNCAPI: Final = SCHEMAS / "asyncapi.yaml"
REFERENCE: Final = TOP / "docs" / "messages.md"


def read_folder(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the JSON objects of a folder by the names of their files, without `.json`."""
    return {path.stem: json.loads(path.read_bytes()) for path in sorted(folder.glob("*.json"))}


def examples() -> dict[str, dict[str, Any]]:
    """Return the examples of messages by the names of their files, without `.json`."""
    return read_folder(EXAMPLES)


def as_text(value: Mapping[str, object]) -> str:
    """Return JSON with indentation."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
