"""Describe the problems of an invalid job without quoting it, because it may hold secrets."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic_core import ErrorDetails

_REMEDIES: Final = {
    "": "send one JSON object in UTF-8",
    "chatflowId": "name the flow with 1 to 128 of A-Z a-z 0-9 _ -",
    "question": "send a string that is not empty, or one of form, humanInput, action, uploads",
    "chatId": "send a text of at most 228 bytes, counted percent-encoded; it defaults to jobId",
    "jobId": "send 1 to 128 of A-Z a-z 0-9 _ . -",
    "overrideConfig": "send an object",
    "timeoutSeconds": "send a number of seconds above 0",
    "expiresAt": "send an RFC 3339 time with its offset, such as 2026-11-22T13:20:00Z",
    "maxCalls": "send a whole number from 1",
    "maxAttempts": "it is called maxCalls now: send that instead",
    "answer": 'send "json", or leave it out',
    "after": "send the id of another job: 1 to 128 of A-Z a-z 0-9 _ . -",
    "idempotent": "send true or false, or leave it out",
    "tags": "send an object whose values are strings, at most 16 KiB as JSON",
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One problem of a job."""

    field: str
    """Name of the field in JSON; empty for the whole body."""

    found: str
    """Kind of the value that was sent, never the value."""

    remedy: str
    """What to send instead."""


class InvalidJob(ValueError):
    """A body is no valid job. The text names fields and kinds of values, and quotes no value.

    Attributes:
        problems: Each field once.
    """

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        self.problems = problems
        details = (f"{it.field or 'body'} ({it.found}): {it.remedy}" for it in problems)
        super().__init__(f"Not a valid job: {'; '.join(details)}.")

    @property
    def is_unreadable(self) -> bool:
        """Whether the body is no JSON object, hence without fields."""
        return any(not problem.field for problem in self.problems)


def is_absent(value: object) -> bool:
    """Return whether a value counts as not sent: null, or an empty string, list or object."""
    return value is None or (isinstance(value, str | list | tuple | dict) and not value)


def body_problem(found: str) -> Problem:
    """Return the problem of a body that is no JSON object."""
    return Problem("", found, _REMEDIES[""])


def field_problem(field: str, found: str) -> Problem:
    """Return the problem of a field, with the kind of its value."""
    return Problem(field, found, _REMEDIES[field])


def field_problems(errors: list[ErrorDetails], fields: Mapping[str, Any]) -> tuple[Problem, ...]:
    """Return the problem of each invalid field, once.

    Args:
        errors: Errors of pydantic. The type of an error of the whole job is a field's name.
        fields: The members of the job, as sent.
    """
    names = dict.fromkeys(
        str(error["loc"][0] if error["loc"] else error["type"]) for error in errors
    )
    return tuple(field_problem(name, kind_of(fields.get(name))) for name in names)


def kind_of(value: object) -> str:
    """Return the kind of a value, such as `string of 3 characters`, without the value."""
    if is_absent(value):
        return "missing"
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case str():
            return f"string of {len(value)} characters"
        case list():
            return f"list of {len(value)} items"
        case _:
            return "object"
