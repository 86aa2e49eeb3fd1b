"""The examples of messages: read here, recorded by `python -m tools.contract.recording`."""

import json
from typing import Any

from tools.contract.places import EXAMPLES
from tools.contract.schema_files import schema_name


def examples() -> dict[str, dict[str, Any]]:
    """Give the examples by the names of their files, without `.json`."""
    return {path.stem: json.loads(path.read_bytes()) for path in sorted(EXAMPLES.glob("*.json"))}


def schema_of_example(name: str) -> str:
    """Name the schema that an example is of."""
    kind, _, event = name.partition(".")
    return schema_name(event) if kind == "event" else kind
