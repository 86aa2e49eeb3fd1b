"""The version of the project, and every place that repeats it.

The source is `version` in schemas/pyproject.toml: all other distributions depend on that one.
`make release VERSION=1.2.3` writes all places. Not here: schemas/asyncapi.yaml, which
`make contract` writes from the source, and the figures of past measurements in docs/.
"""

import argparse
import re
import tomllib
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Final

from typing_extensions import override

TOP: Final = Path(__file__).parents[1]
SOURCE: Final = Path("schemas/pyproject.toml")
CHANGELOG: Final = Path("CHANGELOG.md")
_CHART: Final = Path("charts/aimicromind-worker/Chart.yaml")
_OWN_VERSION: Final = r'^version = "([^"]*)"$'
_UNRELEASED: Final = "## Unreleased\n"


class NotFound(Exception):
    """A file does not name the version where it must."""

    def __init__(self, what: str, path: Path) -> None:
        super().__init__(f"{path}: {what} is missing")


@dataclass(frozen=True, slots=True)
class Place:
    """A file, relative to the top, and a pattern whose only group is the version."""

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
        """Put a version into each match."""

        def replaced(match: re.Match[str]) -> str:
            begin, end = (position - match.start() for position in match.span(1))
            return match[0][:begin] + version + match[0][end:]

        file = top / self.path
        file.write_text(re.sub(self.pattern, replaced, file.read_text(), flags=re.MULTILINE))


def current(top: Path = TOP) -> str:
    """Return the version that the source names."""
    (version,) = Place("version", SOURCE, _OWN_VERSION).versions(top)
    return version


def places(top: Path = TOP) -> list[Place]:
    """List every place that repeats the version, those of each distribution included."""
    members = tomllib.loads((top / "pyproject.toml").read_text())["tool"]["uv"]["workspace"][
        "members"
    ]
    files = [Path(member) / "pyproject.toml" for member in members]
    names = [tomllib.loads((top / file).read_text())["project"]["name"] for file in files]
    # An exact pin. A dependency without one matches, too, and shows as another version.
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
    """Return the changelog with what is unreleased under the version and its day.

    Raises:
        NotFound: It has no section of what is unreleased.
    """
    if _UNRELEASED not in changelog:
        raise NotFound(_UNRELEASED.strip(), CHANGELOG)
    return changelog.replace(_UNRELEASED, f"{_UNRELEASED}\n## {version} - {day}\n", 1)


def main() -> None:
    """Write the version that is asked for."""
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
