"""A job whose terms are read, while all other members stay bytes of the message."""

from typing import Final, Self

from pydantic import PrivateAttr, ValidationError

from aimicromind_schemas.messages.invalid_job import (
    InvalidJob,
    Problem,
    body_problem,
    field_problem,
    field_problems,
    kind_of,
)
from aimicromind_schemas.messages.job_terms import JobTerms, id_text, is_job_id
from aimicromind_schemas.messages.raw_object import (
    Members,
    NotAnObject,
    is_absent_text,
    members_of,
    short_value,
    utf8_of,
    values_in,
)
from aimicromind_schemas.routing import chat_fits

FOR_ENDPOINT: Final = (
    "question",
    "history",
    "uploads",
    "form",
    "humanInput",
    "action",
    "leadEmail",
)
"""Members that are sent to the endpoint unchanged, beside unknown ones."""

INSTEAD_OF_QUESTION: Final = ("form", "humanInput", "action", "uploads")
_TERMS: Final = frozenset(str(field.alias) for field in JobTerms.model_fields.values())
_NAMES: Final = _TERMS | {*FOR_ENDPOINT, "overrideConfig", "streaming"}
_SESSION: Final = frozenset({"sessionId"})
_IDS: Final = frozenset({"chatId", "jobId"})
_KINDS: Final = {b"{": "object", b"[": "list", b'"': "string", b"t": "boolean", b"f": "boolean"}


class RawJob(JobTerms):
    """A job as the worker keeps it. Its members are slices of the body, without a copy."""

    _present: dict[str, memoryview] = PrivateAttr()
    _members: Members = PrivateAttr()
    _override: Members = PrivateAttr()

    @classmethod
    def read(cls, body: bytes) -> Self:
        """Read a job.

        Args:
            body: One JSON object in UTF-8, UTF-16 or UTF-32.

        Raises:
            InvalidJob: The body is no valid job.
        """
        try:
            members = members_of(utf8_of(body), _NAMES)
        except NotAnObject as error:
            raise InvalidJob((body_problem(str(error)),)) from None
        present = {name: it for name, it in members.named.items() if not is_absent_text(it)}
        problems = _unasked(present)
        terms: dict[str, object] = {}
        for name in _TERMS & present.keys():
            try:
                terms[name] = short_value(present[name])
            except ValueError:
                problems[name] = field_problem(name, _kind(present[name]))
        try:
            job = cls.model_validate(terms, by_alias=True, by_name=False)
        except ValidationError as error:
            told = {problem.field: problem for problem in field_problems(error.errors(), terms)}
            raise InvalidJob(tuple((told | problems).values())) from None
        if problems:
            raise InvalidJob(tuple(problems.values()))
        job._present, job._members = present, members  # noqa: SLF001 - its own
        job._override = members_of(present.get("overrideConfig", memoryview(b"{}")), _SESSION)  # noqa: SLF001 - its own
        return job

    def raw(self, name: str) -> memoryview | None:
        """Return the JSON of a named member; None where it is absent, null or empty."""
        return self._present.get(name)

    @property
    def members(self) -> Members:
        """All members, null and empty ones included."""
        return self._members

    @property
    def override(self) -> Members:
        """The members of `overrideConfig`; only `sessionId` is named."""
        return self._override


def readable_ids(body: bytes) -> tuple[str | None, str | None]:
    """Return chat id and job id of a body that may be no valid job, for its `error` and `end`.

    It never raises. An id that cannot be read, or is invalid, is None. Broken JSON is searched for
    both.
    """
    found = values_in(body, _IDS)
    chat_id, job_id = id_text(found.get("chatId")), id_text(found.get("jobId"))
    return (
        chat_id if isinstance(chat_id, str) and chat_id and chat_fits(chat_id) else None,
        job_id if isinstance(job_id, str) and is_job_id(job_id) else None,
    )


def _unasked(present: dict[str, memoryview]) -> dict[str, Problem]:
    """Return the problems of `question` and `overrideConfig`, the checked ones for the endpoint."""
    problems: dict[str, Problem] = {}
    for name, opening in (("question", '"'), ("overrideConfig", "{")):
        value = present.get(name)
        if value is not None and value[0] != ord(opening):
            problems[name] = field_problem(name, _kind(value))
    if not present.keys() & {"question", *INSTEAD_OF_QUESTION}:
        problems["question"] = field_problem("question", "missing")
    return problems


def _kind(value: memoryview) -> str:
    try:
        return kind_of(short_value(value))
    except ValueError:
        return f"{_KINDS.get(bytes(value[:1]), 'number')} of {len(value)} bytes"
