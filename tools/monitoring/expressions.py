"""Take PromQL apart as far as the chart needs it, and fit it to a short run."""

import re
from collections.abc import Iterator
from typing import Final

# Longer ones first. The chart has no arithmetic beside them but `*` and `/` within operands.
_OPERATORS: Final = re.compile(r"(?:unless|and|or)\b|==|!=|>=|<=|>|<")
_SPAN: Final = re.compile(r"(\[|\boffset )\d+[smhd]")
_NUMBER: Final = re.compile(r"[\d.eE+-]+")
_CLOSED_BY: Final = {"(": ")", "{": "}", "[": "]"}


def operands(expression: str) -> list[str]:
    """Return what a comparison or set operation on the top level is between, without numbers."""
    found: dict[str, None] = {}
    for part in _split(expression):
        operand = part.strip()
        if operand and not _NUMBER.fullmatch(operand):
            found[operand] = None
    return list(found)


def _split(expression: str) -> Iterator[str]:
    began = at = 0
    closing: list[str] = []
    while at < len(expression):
        char = expression[at]
        if char == '"':
            at = _end_of_string(expression, at)
        elif closing and char == closing[-1]:
            closing.pop()
        elif char in _CLOSED_BY:
            closing.append(_CLOSED_BY[char])
        elif not closing and (operator := _operator(expression, at)):
            yield expression[began:at]
            began = at + len(operator)
            at = began
            continue
        at += 1
    yield expression[began:]


def _operator(expression: str, at: int) -> str:
    within_word = at > 0 and (expression[at - 1].isalnum() or expression[at - 1] == "_")
    found = _OPERATORS.match(expression, at)
    if found is None or (within_word and found[0].isalpha()):
        return ""
    return found[0]


def _end_of_string(expression: str, at: int) -> int:
    at += 1
    while expression[at] != '"':
        at += 2 if expression[at] == "\\" else 1
    return at


def shortened(expression: str, window_s: int) -> str:
    """Return an expression with another length of all ranges and offsets."""
    return _SPAN.sub(rf"\g<1>{window_s}s", expression)


def without_variables(expression: str, window_s: int) -> str:
    """Return an expression of the dashboard with values for Grafana's variables."""
    for name, value in {
        "$__rate_interval": f"{window_s}s",
        "$namespace": ".*",
        "$pod": ".*",
    }.items():
        expression = expression.replace(name, value)
    return expression
