import shutil
from datetime import date
from pathlib import Path

import pytest

from tools.generated import TOP
from tools.version import SOURCE, NotFound, Place, current, places, released


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """Every file that names the version, in a folder of its own."""
    for path in {Path("pyproject.toml"), *(place.path for place in places())}:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / path, tmp_path / path)
    return tmp_path


@pytest.mark.parametrize("place", places(), ids=str)
def test_place_has_the_version_of_the_source(place: Place) -> None:
    assert set(place.versions()) == {current()}


def test_a_written_version_is_read_at_every_place(copy: Path) -> None:
    for place in places(copy):
        place.write("12.34.56", copy)

    assert {version for place in places(copy) for version in place.versions(copy)} == {"12.34.56"}
    assert current(copy) == "12.34.56"


def test_writing_back_restores_every_file(copy: Path) -> None:
    for version in ("12.34.56", current()):
        for place in places(copy):
            place.write(version, copy)

    for path in {place.path for place in places()}:
        assert (copy / path).read_text() == (TOP / path).read_text()


@pytest.mark.parametrize("requirement", ["", ">=0.1.0", "==0.0.9", "[client]"])
def test_dependency_that_is_not_pinned_to_the_version_shows(copy: Path, requirement: str) -> None:
    worker = copy / "worker" / "pyproject.toml"
    pinned = f'"aimicromind-schemas=={current()}"'
    assert pinned in worker.read_text()
    worker.write_text(worker.read_text().replace(pinned, f'"aimicromind-schemas{requirement}"'))

    found = {version for place in places(copy) for version in place.versions(copy)}

    assert found != {current()}


def test_place_without_a_version_is_named(copy: Path) -> None:
    (copy / SOURCE).write_text("[project]\n")

    with pytest.raises(NotFound, match=r"^schemas/pyproject\.toml: version is missing$"):
        current(copy)


def test_release_moves_what_is_unreleased_under_its_version() -> None:
    changelog = "# Changelog\n\n## Unreleased\n\n- new\n\n## 0.1.0 - 2026-01-02\n\n- old\n"

    after = released(changelog, "0.2.0", date(2026, 3, 4))

    head, _, rest = after.partition("\n## 0.2.0 - 2026-03-04\n")
    assert head == "# Changelog\n\n## Unreleased\n"
    assert rest == "\n- new\n\n## 0.1.0 - 2026-01-02\n\n- old\n"
