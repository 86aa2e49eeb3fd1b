"""The benchmarks of pools count what is out of order, and refuse revisions that do not exist."""

import click
import pytest

from benchmarks.pools.order import Step, overtaking, waited
from benchmarks.pools.rows import Row, Table
from benchmarks.pools.versions import versions

IN_ORDER = [Step(0.0, 1.0, 2.0, 0.1), Step(0.5, 3.0, 4.0, 0.6), Step(9.0, 10.0, 11.0, None)]
OUT_OF_ORDER = [Step(0.0, 5.0, 6.0, 0.1), Step(0.1, 1.0, 2.0, 0.2), Step(0.2, 3.0, 4.0, 0.2)]


def test_jobs_called_before_one_that_came_earlier_are_counted() -> None:
    assert overtaking((it.submitted_at, it.called_at) for it in IN_ORDER) == 0
    assert overtaking((it.submitted_at, it.called_at) for it in OUT_OF_ORDER) == 2


def test_jobs_that_came_at_almost_the_same_time_may_be_called_in_any_order() -> None:
    assert overtaking([(0.0, 5.0), (0.04, 1.0), (0.06, 3.0)], apart_s=0.05) == 1


def test_a_wait_begins_with_the_submission_or_the_end_of_the_job_called_before() -> None:
    assert list(waited(IN_ORDER)) == [1.0, 1.0, 1.0]
    assert list(waited(OUT_OF_ORDER)) == pytest.approx([0.9, 1.0, 1.0])


def test_a_table_shows_counts_of_each_turn_and_medians_of_figures() -> None:
    table = Table()
    table.add("now", [Row("jobs", 10_000, "10,000"), Row("ms", 1.0)])
    table.add("now", [Row("jobs", 9_999, "10,000"), Row("ms", 3.0)])
    table.add("before", [Row("jobs", None, "10,000")])

    *_, jobs, times = table.markdown().splitlines()
    assert jobs == "| jobs | - | 10,000, 9,999 | 10,000 |"
    assert times == "| ms | - | 2.00 (1.00 to 3.00) |  |"


def test_a_revision_that_does_not_exist_is_named() -> None:
    with (
        pytest.raises(click.ClickException, match="no revision 'no-such-revision'"),
        versions("no-such-revision", None),
    ):
        pytest.fail("there is such a revision")
