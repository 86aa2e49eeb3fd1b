"""Find what somebody meant who mistyped a name."""

from collections.abc import Iterable
from difflib import get_close_matches

_LIKENESS = 0.7


def nearest(given: str, known: Iterable[str]) -> str | None:
    """Return the known name that is most like a given one; None if none is like it."""
    found = get_close_matches(given, list(known), n=1, cutoff=_LIKENESS)
    return found[0] if found else None
