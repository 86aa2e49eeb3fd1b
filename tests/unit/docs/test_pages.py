"""Pages link to files and headings that exist; README has the figures of the measurement."""

import re
from pathlib import Path

import pytest

from tests.support.markdown import PAGES, ROOT, name_of, without_code

README = (ROOT / "README.md").read_text()
_LINKS = re.compile(r"\]\((?!https?:)([^)#\s]*)(?:#([^)\s]+))?\)")


@pytest.mark.skipif(not (ROOT / "charts").exists(), reason="only a checkout has all files")
@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_of_the_page_lead_somewhere(page: Path) -> None:
    for target, anchor in _LINKS.findall(without_code(page)):
        path = page.parent / target if target else page
        assert path.exists(), target
        assert not anchor or anchor in _anchors(path), f"{target}#{anchor}"


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=name_of)
def test_each_page_is_in_the_list_of_pages(page: Path) -> None:
    listed = (ROOT / "docs" / "README.md").read_text()

    assert page.name == "README.md" or f"]({page.name})" in listed


def test_figures_of_the_readme_are_those_of_the_measurement() -> None:
    measured = (ROOT / "docs" / "performance.md").read_text().split("**500 at 20/s**\n\n")[1]
    rows = measured.split("\n\n")[0].splitlines()
    by_name = {row.split("|")[1].strip(): row for row in rows}
    told = README.split("## How fast")[1].split("![")[0]

    figures = re.findall(r"([\d.,]+) (?:µs|ms)", told)

    assert len(figures) == 4
    for figure, name in zip(figures, ["**aimicromind-worker**", "naive"] * 2, strict=True):
        assert f" {figure} (" in by_name[name]


def test_readme_is_read_in_a_few_minutes() -> None:
    assert len(README.splitlines()) <= 135


def _anchors(page: Path) -> set[str]:
    """Return the names of the page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", without_code(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
