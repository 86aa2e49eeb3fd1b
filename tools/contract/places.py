"""Where the contract's files are."""

from pathlib import Path
from typing import Final

TOP: Final = Path(__file__).parents[2]
SCHEMAS: Final = TOP / "schemas"
JSON: Final = SCHEMAS / "json"
BASELINE: Final = SCHEMAS / "baseline"
EXAMPLES: Final = SCHEMAS / "examples"
TYPESCRIPT: Final = SCHEMAS / "typescript" / "index.ts"
ASYNCAPI: Final = SCHEMAS / "asyncapi.yaml"
REFERENCE: Final = TOP / "docs" / "messages.md"
