"""Jobs that have ended, a million of them in some tens of megabytes.

An entry is two 64-bit words in a table with open addressing: a keyed digest of the job's id, and
how and when the job ended. Two tables are kept. When the younger one is full, the older one is
dropped: so at least the last `most / 2` jobs are known, and never more than `most`.

Two different ids are taken for one with a probability of about 5 in 10^14 a look-up (one million
entries, 64-bit digests). The key is random: nobody can choose ids that collide.
"""

from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from mmap import ACCESS_COPY, mmap
from os import urandom
from typing import Final, NamedTuple

from aimicromind_schemas.vocabulary import EndStatus, FailureKind

_STATUSES: Final = tuple(EndStatus)
_KINDS: Final = (None, *FailureKind)
_STATUS_BITS, _KIND_BITS, _ATTEMPT_BITS = 3, 6, 20
_MOST_ATTEMPTS: Final = (1 << _ATTEMPT_BITS) - 1
_EPOCH: Final = datetime(2020, 1, 1, tzinfo=UTC)
# Tables stay at most so full: look-ups take two probes on average.
_FULLEST: Final = 0.6


class Ended(NamedTuple):
    """How a job ended.

    Attributes:
        status: What its `end` says.
        kind: Why it failed; None where it did not.
        attempt: The attempt that the `end` is of.
        time: When, in whole seconds.
    """

    status: EndStatus
    kind: FailureKind | None
    attempt: int
    time: datetime


class EndedJobs:
    """The jobs that ended last."""

    def __init__(self, most: int = 1_000_000) -> None:
        """Begin with none, and with addresses for all of them.

        Args:
            most: How many are known at most; half of them are known for certain.
        """
        self._most_each = max(1, most // 2)
        slots = 1 << (max(8, int(self._most_each / _FULLEST)) - 1).bit_length()
        self._slots = slots
        self._key = urandom(16)
        self._young, self._old = _Table(slots), _Table(slots)

    def __len__(self) -> int:
        """Return how many entries there are."""
        return self._young.count + self._old.count

    @property
    def nbytes(self) -> int:
        """Bytes of both tables, once all their pages are in use."""
        return self._young.nbytes + self._old.nbytes

    def add(self, job_id: str, ended: Ended) -> datetime | None:
        """Remember a job's first end.

        Returns:
            If others were forgotten for it, the time up to which they had ended.
        """
        digest = self._digest(job_id)
        if self._young.get(digest) or self._old.get(digest):
            return None
        forgotten = None
        if self._young.count >= self._most_each:
            if self._old.count:
                forgotten = _read(self._old.latest).time
            self._young, self._old = _Table(self._slots), self._young
        self._young.put(digest, _written(ended))
        return forgotten

    def get(self, job_id: str) -> Ended | None:
        """Return how a job ended; None if that is not known."""
        digest = self._digest(job_id)
        word = self._young.get(digest) or self._old.get(digest)
        return _read(word) if word else None

    def clear(self) -> None:
        """Forget all."""
        self._young, self._old = _Table(self._slots), _Table(self._slots)

    def _digest(self, job_id: str) -> int:
        # 0 marks a free slot.
        return int.from_bytes(blake2b(job_id.encode(), digest_size=8, key=self._key).digest()) or 1


class _Table:
    """Pairs of words in slots; a free slot has the digest 0.

    The system gives a page its memory when an entry is written to it.
    """

    def __init__(self, slots: int) -> None:
        self.count = 0
        self.latest = 0
        self._mask = 2 * slots - 1
        self._slots = memoryview(mmap(-1, 16 * slots, access=ACCESS_COPY)).cast("Q")

    @property
    def nbytes(self) -> int:
        return self._slots.nbytes

    def get(self, digest: int) -> int:
        """Return the word of a digest, 0 if there is none."""
        slots, mask = self._slots, self._mask
        at = 2 * digest & mask
        while found := slots[at]:
            if found == digest:
                return slots[at + 1]
            at = at + 2 & mask
        return 0

    def put(self, digest: int, word: int) -> None:
        slots, mask = self._slots, self._mask
        at = 2 * digest & mask
        while slots[at]:
            at = at + 2 & mask
        slots[at] = digest
        slots[at + 1] = word
        self.count += 1
        self.latest = max(self.latest, word)


def _written(ended: Ended) -> int:
    """Return an end as a word: the time comes first, so that later ends are larger."""
    seconds = max(0, (ended.time - _EPOCH) // timedelta(seconds=1))
    word = min(seconds, (1 << 34) - 1)
    word = word << _ATTEMPT_BITS | min(max(ended.attempt, 0), _MOST_ATTEMPTS)
    word = word << _KIND_BITS | _KINDS.index(ended.kind)
    # One more, so that no end is 0.
    return word << _STATUS_BITS | (_STATUSES.index(ended.status) + 1)


def _read(word: int) -> Ended:
    status = _STATUSES[(word & (1 << _STATUS_BITS) - 1) - 1]
    word >>= _STATUS_BITS
    kind = _KINDS[word & (1 << _KIND_BITS) - 1]
    word >>= _KIND_BITS
    attempt = word & _MOST_ATTEMPTS
    return Ended(status, kind, attempt, _EPOCH + timedelta(seconds=word >> _ATTEMPT_BITS))
