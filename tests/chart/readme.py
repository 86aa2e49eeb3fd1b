"""Write the chart's table of values from values.yaml: `python -m tests.chart.readme`.

A value's description is the comment above it that begins with `# --`, as helm-docs has it.
"""

import json
from collections.abc import Iterator
from typing import Any

import yaml

from tests.chart.helm import CHART

README = CHART / "README.md"
VALUES = CHART / "values.yaml"
_BEGIN = "checked by `make test-chart` -->\n"
_END = "<!-- end of values -->"


class NotDescribed(Exception):
    """Values that nobody would find."""

    def __init__(self, names: list[str]) -> None:
        super().__init__(f"values.yaml says nothing of {', '.join(names)}")


def with_values(readme: str) -> str:
    """Give the page with a fresh table."""
    before, rest = readme.split(_BEGIN)
    return before + _BEGIN + table(VALUES.read_text()) + rest[rest.index(_END) :]


def table(text: str) -> str:
    """Make the table.

    Raises:
        NotDescribed: Some value has no description, and nothing around it has.
    """
    described = dict(_descriptions(text))
    defaults = yaml.safe_load(text)
    missing = [name for name in _leaves(defaults) if not _is_covered(name, described)]
    if missing:
        raise NotDescribed(missing)
    rows = ["| value | default | |", "|---|---|---|"]
    for name, description in described.items():
        value = defaults
        for part in name.split("."):
            value = value[part]
        rows.append(f"| `{name}` | `{json.dumps(value)}` | {description} |")
    return "\n".join(rows) + "\n"


def _descriptions(text: str) -> Iterator[tuple[str, str]]:
    """Find what is described, in order: its full name, and the description."""
    parents: list[tuple[int, str]] = []
    words: list[str] = []
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("# -- "):
            words = [bare.removeprefix("# -- ")]
        elif bare.startswith("# ") and words:
            words.append(bare.removeprefix("# "))
        elif bare and not bare.startswith(("#", "-")):
            indent = len(line) - len(line.lstrip())
            parents = [*((depth, name) for depth, name in parents if depth < indent)]
            parents.append((indent, bare.partition(":")[0]))
            if words:
                yield ".".join(name for _, name in parents), " ".join(words)
                words = []


def _leaves(value: Any, name: str = "") -> Iterator[str]:  # noqa: ANN401 - any YAML
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _leaves(inner, f"{name}.{key}" if name else key)
    else:
        yield name


def _is_covered(name: str, described: dict[str, str]) -> bool:
    parts = name.split(".")
    return any(".".join(parts[:count]) in described for count in range(1, len(parts) + 1))


if __name__ == "__main__":
    README.write_text(with_values(README.read_text()))
