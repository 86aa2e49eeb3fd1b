"""The index of docs/decisions names each decision, and each has the same five parts."""

import re
from pathlib import Path

import pytest

FOLDER = Path(__file__).parents[3] / "docs" / "decisions"
INDEX = (FOLDER / "README.md").read_text()
DECISIONS = sorted(FOLDER.glob("0*.md"))
PARTS = ["Context", "Decision", "Figures", "Alternatives", "Consequences"]


def test_index_names_each_decision_once_in_order() -> None:
    named = re.findall(r"^\| \[\d+\]\((.+?)\)", INDEX, re.MULTILINE)

    assert named == [path.name for path in DECISIONS]


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_decision_has_its_number_and_five_parts(path: Path) -> None:
    page = path.read_text()

    assert page.startswith(f"# {int(path.stem[:4])}. ")
    assert re.findall(r"^## (.+)", page, re.MULTILINE) == PARTS


@pytest.mark.parametrize("path", [FOLDER / "README.md", *DECISIONS], ids=lambda path: path.stem)
def test_links_of_decisions_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)", path.read_text())
    pages = {FOLDER.joinpath(link).resolve() for link in links}

    # Where the wheels are tried, only docs/ is there.
    assert [it for it in pages if it.is_relative_to(FOLDER.parent) and not it.exists()] == []
