"""Shorten ids for people, and find the id that a short one stands for."""

from collections.abc import Iterable, Mapping
from itertools import pairwise

_SHORTEST = 8


def short_ids(ids: Iterable[str]) -> Mapping[str, str]:
    """Return a short form of each id: its beginning, of 8 characters or as many as tell it apart.

    An id that is the beginning of another one is its own short form.
    """
    ordered = sorted(set(ids))
    shared = [_shared(one, other) for one, other in pairwise(ordered)]
    needed = [1 + max(pair) for pair in zip([0, *shared], [*shared, 0], strict=True)]
    if not ordered:
        return {}
    return {it: it[: max(_SHORTEST, most)] for it, most in zip(ordered, needed, strict=True)}


def matching(given: str, ids: Iterable[str]) -> list[str]:
    """Return the ids that begin with a text, sorted; the id alone that equals it."""
    known = set(ids)
    if given in known:
        return [given]
    return sorted(it for it in known if given and it.startswith(given))


def _shared(one: str, other: str) -> int:
    """Return how many characters two different texts share at their beginning."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((at for at, (a, b) in pairs if a != b), min(len(one), len(other)))
