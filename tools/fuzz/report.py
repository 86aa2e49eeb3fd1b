"""Count the cases of a run, keep its violations, and print both."""

import resource
import time
from collections import Counter

from tools.fuzz.mutations import Case

_MOST_SHOWN = 20


class Report:
    """The cases of a run.

    Attributes:
        wrong: One line for each violation.
        worker_mb: Most memory of the worker; None without a worker.
    """

    def __init__(self, name: str) -> None:
        self.wrong: list[str] = []
        self.worker_mb: float | None = None
        self._name = name
        self._began = time.monotonic()
        self._mutations: Counter[str] = Counter()
        self._endings: Counter[str] = Counter()
        self._bytes = 0
        self._cases = 0

    @property
    def endings(self) -> set[str]:
        """Endings of the cases, each once."""
        return set(self._endings)

    def took(self, mutated: Case, ending: str) -> None:
        """Count a case that has ended."""
        self._cases += 1
        self._bytes += len(mutated.body)
        self._mutations.update(mutated.mutations or ("as recorded",))
        self._endings[ending] += 1

    def violation(self, number: int, mutated: Case, wrong: str) -> None:
        """Add a violation of a case, with the number that plays it again."""
        self.wrong.append(f"NUMBER={number} ({mutated.label}): {wrong}")

    def show(self) -> None:
        """Print all figures, and the first violations."""
        took_s = time.monotonic() - self._began
        size_mb = self._bytes / 1e6
        print(f"{self._name}: {self._cases} cases, {size_mb:.1f} MB, {took_s:.1f} s")
        print(f"  by mutation: {dict(sorted(self._mutations.items()))}")
        print(f"  by ending: {dict(self._endings.most_common())}")
        print(f"  most memory of this process so far: {largest_mb():.0f} MB")
        if self.worker_mb is not None:
            print(f"  most memory of the worker: {self.worker_mb:.0f} MB")
        print(f"  {len(self.wrong)} violations", flush=True)
        for wrong in self.wrong[:_MOST_SHOWN]:
            print(f"  {wrong}")


def largest_mb() -> float:
    """Return the most resident memory of this process so far, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
