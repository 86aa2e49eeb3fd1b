"""Read and write the version of the project, in every place that repeats it.

The source is `version` in schemas/pyproject.toml, because all other distributions depend on that
one. `make release VERSION=1.2.3` writes all places. schemas/asyncapi.yaml is not among them:
`make contract` writes it from the source. The figures of past measurements in docs/ stay.
"""

import argparse
import re
import tomllib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from typing_extensions import override

from tools.generated import TOP

SOURCE: Final = Path("schemas/pyproject.toml")
CHANGELOG: Final = Path("CHANGELOG.md")
_CHART: Final = Path("charts/aimicromind-worker/Chart.yaml")
_OWN_VERSION: Final = r'^version = "([^"]*)"$'
_UNRELEASED: Final = "## Unreleased\n"


class NotFound(Exception):
    """A file lacks what the release must change."""

    def __init__(self, what: str, path: Path) -> None:
        super().__init__(f"{path}: {what} is missing")


@dataclass(frozen=True, slots=True)
class Place:
    """A place with the version: a file below the top, and a pattern whose group is the version."""

    what: str
    path: Path
    pattern: str

    @override
    def __str__(self) -> str:
        return f"{self.path}: {self.what}"

    def versions(self, top: Path = TOP) -> list[str]:
        """Return the version at each match.

        Raises:
            NotFound: There is no match.
        """
        found = re.findall(self.pattern, (top / self.path).read_text(), re.MULTILINE)
        if not found:
            raise NotFound(self.what, self.path)
        return found

    def write(self, version: str, top: Path = TOP) -> None:
        """Write a version into each match."""

        def replaced(match: re.Match[str]) -> str:
            begin, end = (position - match.start() for position in match.span(1))
            return match[0][:begin] + version + match[0][end:]

        file = top / self.path
        file.write_text(re.sub(self.pattern, replaced, file.read_text(), flags=re.MULTILINE))


def current(top: Path = TOP) -> str:
    """Return the version in the source."""
    (version,) = Place("version", SOURCE, _OWN_VERSION).versions(top)
    return version


def places(top: Path = TOP) -> list[Place]:
    """Return every place that repeats the version, those of each distribution included."""
    members = tomllib.loads((top / "pyproject.toml").read_text())["tool"]["uv"]["workspace"][
        "members"
    ]
    files = [Path(member) / "pyproject.toml" for member in members]
    names = [tomllib.loads((top / file).read_text())["project"]["name"] for file in files]
    # An exact pin. A dependency without one also matches, and is found as another version.
    one_of_ours = rf'(?<!name = )"(?:{"|".join(names)})(?:\[[^\]]*\])?(?:==)?([^"]*)"'
    return [
        *(Place("version", file, _OWN_VERSION) for file in files),
        *(
            Place("dependencies on each other", file, one_of_ours)
            for file in files
            if re.search(one_of_ours, (top / file).read_text())
        ),
        *(
            Place(name, Path("uv.lock"), rf'^name = "{name}"\nversion = "([^"]*)"$')
            for name in names
        ),
        Place("version", _CHART, r"^version: (\S+)$"),
        Place("appVersion", _CHART, r"^appVersion: (\S+)$"),
        Place("label of the image", Path("Dockerfile"), r"^ARG VERSION=(\S+)$"),
    ]


def released(changelog: str, version: str, day: date) -> str:
    """Return the changelog with its unreleased entries under a version and a day.

    Raises:
        NotFound: It has no section of unreleased entries.
    """
    if _UNRELEASED not in changelog:
        raise NotFound(_UNRELEASED.strip(), CHANGELOG)
    return changelog.replace(_UNRELEASED, f"{_UNRELEASED}\n## {version} - {day}\n", 1)


def main() -> None:
    """Write the version of the command line into all places."""
    parser = argparse.ArgumentParser(prog="python -m tools.version", description=__doc__)
    parser.add_argument("version", help="MAJOR.MINOR.PATCH, as Python and Helm both read it")
    version: str = parser.parse_args().version
    if not re.fullmatch(r"(?:0|[1-9]\d*)(?:\.(?:0|[1-9]\d*)){2}", version):
        parser.error(f"{version!r} is not MAJOR.MINOR.PATCH: make release VERSION=1.2.3")
    for place in places():
        place.write(version)
    changelog = TOP / CHANGELOG
    changelog.write_text(released(changelog.read_text(), version, datetime.now(UTC).date()))


if __name__ == "__main__":
    main()
