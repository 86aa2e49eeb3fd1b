import pytest
from hypothesis import given
from hypothesis import strategies as st

from aimicromind_worker.core.dead_letters.short_ids import matching, short_ids
from tests.support.builders import MODERATE


@MODERATE
@given(st.sets(st.text("ab-", max_size=14)))
def test_short_id_stands_for_its_id_alone(ids: set[str]) -> None:
    for whole, short in short_ids(ids).items():
        assert whole.startswith(short)
        assert matching(short, ids) == ([whole] if whole else [""])


def test_short_id_has_eight_characters_or_as_many_as_are_needed() -> None:
    ids = ["5f0e7c1a-9b2d", "order-2026-000123", "order-2026-000124", "a"]

    assert short_ids(ids) == {
        "5f0e7c1a-9b2d": "5f0e7c1a",
        "order-2026-000123": "order-2026-000123",
        "order-2026-000124": "order-2026-000124",
        "a": "a",
    }


@pytest.mark.parametrize(
    ("given_id", "found"),
    [
        ("job-1", ["job-1"]),
        ("job", ["job-1", "job-12", "job-2"]),
        ("job-2", ["job-2"]),
        ("x", []),
        ("", []),
    ],
)
def test_whole_id_goes_before_those_that_begin_with_it(given_id: str, found: list[str]) -> None:
    assert matching(given_id, ["job-12", "job-2", "job-1"]) == found
