"""Pages that are written from the code are current, and name only what there is."""

import re
from pathlib import Path

import pytest

from aimicromind_schemas import FailureKind
from aimicromind_worker.app.setting_origins import Origin, unknown_names
from aimicromind_worker.app.settings import EVERYDAY, Settings
from aimicromind_worker.core.endpoint.call_failed import CallFailed
from tools.docs.failure_cases import CALL_CASES, OWN_CASES
from tools.docs.failure_facts import settled
from tools.docs.pages import FAILURES, SETTINGS, drift
from tools.generated import TOP

_PAGES = (TOP / "README.md", *sorted((TOP / "docs").glob("*.md")))


def test_pages_are_what_the_code_gives() -> None:
    assert drift() == [], "run `make docs` and look at what changed"


def test_each_kind_of_failure_has_a_row() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]", FAILURES.read_text(), re.MULTILINE)

    assert set(FailureKind) == set(rows)


def test_each_failure_of_a_call_has_a_row_with_a_cause_and_a_remedy() -> None:
    assert {type(case.failure) for case in CALL_CASES} == set(_leaves(CallFailed))
    assert all(case.cause.endswith(".") and case.remedy.endswith(".") for case in CALL_CASES)


def test_each_failure_of_the_worker_itself_is_told_by_its_kind() -> None:
    told = {case.kind: settled(case.kind).kind for case in OWN_CASES}

    assert {kind for kind, seen in told.items() if seen is None} == {FailureKind.CANCELLED}
    assert all(seen in {kind, None} for kind, seen in told.items())


def test_each_setting_has_a_row_with_a_description() -> None:
    row = re.compile(r"^\| `AIMICROMIND_(\w+)` \|.*\| ([^|]+) \|$", re.MULTILINE)

    rows = dict(row.findall(SETTINGS.read_text()))

    assert rows.keys() == {name.upper() for name in Settings.model_fields}
    assert all(text.endswith(".") for text in rows.values())


def test_everyday_settings_exist_and_are_the_fewer_ones() -> None:
    assert set(Settings.model_fields) > EVERYDAY
    assert 15 <= len(EVERYDAY) <= 25


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_page_names_settings_that_exist(page: Path) -> None:
    named = re.findall(r"\bAIMICROMIND_[A-Z0-9_]*[A-Z0-9]\b", page.read_text())

    assert unknown_names(((Origin.ENVIRONMENT, dict.fromkeys(named, "")),)) == []


def _leaves(kind: type[CallFailed]) -> list[type[CallFailed]]:
    below = [leaf for each in kind.__subclasses__() for leaf in _leaves(each)]
    return below or [kind]
