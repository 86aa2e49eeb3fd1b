"""What each test of the chart gets: both Helms, and each set of values."""

from pathlib import Path

import pytest

from tests.chart.helm import CASES, NO_HELM, Manifest, programs, render

_PROGRAMS: list[Path | None] = [*programs()] or [None]


@pytest.fixture(params=_PROGRAMS, ids=lambda path: path.parent.name if path else "none")
def helm(request: pytest.FixtureRequest) -> Path:
    """Each Helm in turn."""
    program: Path | None = request.param
    if program is None:
        pytest.skip(NO_HELM)
    return program


@pytest.fixture(params=CASES, ids=lambda path: path.name.removesuffix("-values.yaml"))
def values(request: pytest.FixtureRequest) -> Path:
    """Each set of values in turn."""
    file: Path = request.param
    return file


@pytest.fixture
def manifests(helm: Path, values: Path) -> list[Manifest]:
    return render(helm, values)
