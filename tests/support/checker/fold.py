"""Events of one job, as they come, folded into a state that is small whatever the job says."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, Final

from tests.support.checker.facts import Violation, members
from tests.support.consumer import Message

_DIGEST_BYTES: Final = 8
_NOTHING: Final = bytes(_DIGEST_BYTES)
_ENDINGS: Final = {"retry", "error", "end"}


@dataclass(frozen=True, slots=True)
class End:
    """The first `end` of a job.

    Attributes:
        at: When it came.
        outcome: What no repeat of it may change: status, text, recovered, tags.
        text: Digest of its text.
    """

    at: float
    attempt: int
    seq: int
    status: str
    attempts: int
    calls: int
    events: int
    outcome: bytes
    text: bytes


@dataclass(slots=True)
class AttemptFold:
    """What came of one attempt.

    Attributes:
        digests: For each seq 8 bytes, zeros where nothing came.
        missing: Numbers below the highest that have not come.
        tokens: How many there were; `text` is the digest of them, joined.
        names: The names that came, of what is not the endpoint's own choice.
    """

    digests: bytearray = field(default_factory=bytearray)
    missing: set[int] = field(default_factory=set)
    tokens: int = 0
    starts: int = 0
    speaks: bool = False
    text: Any = field(default_factory=lambda: blake2b(digest_size=16))

    @property
    def count(self) -> int:
        return len(self.digests) // _DIGEST_BYTES

    def known(self, seq: int) -> bytes | None:
        """Give the digest of what came under this number, None if nothing did."""
        found = bytes(self.digests[seq * _DIGEST_BYTES : (seq + 1) * _DIGEST_BYTES])
        return found if found and found != _NOTHING else None

    def take(self, seq: int, digest: bytes, message: Message) -> str | None:
        """Take in a new event; give what is wrong with its place."""
        fault = None
        if seq in self.missing:
            self.missing.discard(seq)
            fault = f"came after seq {self.count - 1}"
        else:
            self.missing.update(range(self.count, seq))
            self.digests.extend(bytes(seq * _DIGEST_BYTES + _DIGEST_BYTES - len(self.digests)))
        self.digests[seq * _DIGEST_BYTES : (seq + 1) * _DIGEST_BYTES] = digest
        if message.name == "token":
            self.tokens += 1
            self.text.update(str(message.data).encode("utf-8", "surrogatepass"))
        if message.name == "start":
            self.starts += 1
            if seq:
                fault = fault or "start is not the first of its attempt"
        elif message.name not in _ENDINGS:
            self.speaks = True
        return fault


class JobFold:
    """What came of one job at one consumer. `take` in the order of arrival.

    Attributes:
        attempts: By number.
        end: The first one.
        late: What is wrong unless a worker was being fenced off then, with the time of arrival.
        copies: Physical duplicates that came.
        times: When the first and the last message came.
    """

    __slots__ = ("_wrong", "attempts", "copies", "end", "job_id", "kinds", "late", "times")

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.attempts: dict[int, AttemptFold] = {}
        self.end: End | None = None
        self.late: list[tuple[float, Violation]] = []
        self.copies = 0
        self.kinds: list[str] = []
        self.times = (0.0, 0.0)
        self._wrong: list[Violation] = []

    def take(self, message: Message) -> None:
        attempt, seq = message.attempt, int(message.event["seq"])
        self.times = (self.times[0] or message.at, message.at)
        digest = _digest_of(message)
        fold = self.attempts.get(attempt)
        known = fold.known(seq) if fold is not None else None
        if known == digest:
            self.copies += 1
            return
        if message.name == "end" and self.end is not None:
            self._take_end_again(self.end, message)
            return
        if known is not None:
            self._note("I2", "a duplicate says something else", attempt, seq)
            return
        self._note_if_late(message, attempt, seq)
        fold = self.attempts.setdefault(attempt, AttemptFold())
        fault = fold.take(seq, digest, message)
        if fault is not None:
            self._note("I2", fault, attempt, seq)
        if message.name in {"error", "retry"}:
            self.kinds.append(str(members(message.data).get("kind")))
        if message.name == "end":
            self._take_end(message, attempt, seq)

    def violations(self) -> Iterator[Violation]:
        """Give what is wrong with what came, apart from what `late` holds."""
        yield from self._wrong
        for number, fold in self.attempts.items():
            if fold.missing:
                gaps = ", ".join(map(str, sorted(fold.missing)[:5]))
                yield self._violation("I2", f"seq {gaps} never came", number, None)
            if fold.starts > 1 or (fold.speaks and not fold.starts):
                yield self._violation("I2", f"{fold.starts} starts", number, None)
        if self.end is not None:
            yield from self._violations_of(self.end)

    def _violations_of(self, end: End) -> Iterator[Violation]:
        winning = self.attempts[end.attempt]
        if end.events != end.seq + 1:
            yield self._wrong_end(end, f"end.events is {end.events} of {end.seq + 1}")
        # Whoever ends a job that is not run again takes the next attempt for that, and counts none.
        only_ended = not winning.starts and not winning.speaks
        if end.attempts not in {end.attempt, end.attempt - only_ended}:
            yield self._wrong_end(end, f"end.attempts is {end.attempts} in attempt {end.attempt}")
        if end.text != winning.text.digest():
            what = f"end.text is not the {winning.tokens} tokens of its attempt"
            yield self._violation("I4", what, end.attempt, end.seq)
        if end.status == "completed" and not winning.starts:
            yield self._violation("I4", "completed by an attempt without start", end.attempt, None)

    def _wrong_end(self, end: End, what: str) -> Violation:
        return self._violation("I3", what, end.attempt, end.seq)

    def _note_if_late(self, message: Message, attempt: int, seq: int) -> None:
        newest = max(self.attempts, default=attempt)
        what = None
        if self.end is not None:
            what = f"{message.name} after the end"
        elif attempt < newest:
            what = f"{message.name} of an older attempt after attempt {newest} began"
        if what is not None:
            self.late.append((message.at, self._violation("I3", what, attempt, seq)))

    def _take_end(self, message: Message, attempt: int, seq: int) -> None:
        data = members(message.data)
        self.end = End(
            at=message.at,
            attempt=attempt,
            seq=seq,
            status=str(data.get("status")),
            attempts=int(data.get("attempts", -1)),
            calls=int(data.get("calls", -1)),
            events=int(data.get("events", -1)),
            outcome=_outcome_of(message),
            text=_digest(str(data.get("text")), 16),
        )

    def _take_end_again(self, first: End, message: Message) -> None:
        """Take an `end` that is no exact copy: it may differ in its times and counts."""
        self.copies += 1
        if _outcome_of(message) != first.outcome:
            seq = int(message.event["seq"])
            self._note("I1", "another end says something else", message.attempt, seq)

    def _note(self, rule: Any, what: str, attempt: int, seq: int | None) -> None:  # noqa: ANN401 - a Rule
        self._wrong.append(self._violation(rule, what, attempt, seq))

    def _violation(self, rule: Any, what: str, attempt: int, seq: int | None) -> Violation:  # noqa: ANN401 - a Rule
        return Violation(rule, what, self.job_id, attempt, seq)


def text_digest(tokens: Iterator[str]) -> bytes:
    """Give what an attempt's text is compared by."""
    return _digest("".join(tokens), 16)


def _digest_of(message: Message) -> bytes:
    written = str(message.properties.get("message_id")).encode() + b"\0" + message.body
    # Never zeros, which stand for nothing.
    return blake2b(written, digest_size=_DIGEST_BYTES - 1).digest() + b"\1"


def _outcome_of(message: Message) -> bytes:
    data = members(message.data)
    kept = [data.get(name) for name in ("status", "text", "recovered", "tags")]
    return _digest(f"{message.properties.get('message_id')} {kept!r}", _DIGEST_BYTES)


def _digest(text: str, size: int) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()
