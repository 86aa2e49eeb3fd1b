"""Install another revision of this repository, to measure its worker beside the one here."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from tools.generated import TOP

_GIT_WITHIN_S: Final = 60.0
_INSTALL_WITHIN_S: Final = 900.0
# They name the environment of this checkout.
_OF_THIS_ENVIRONMENT: Final = ("VIRTUAL_ENV", "UV_PROJECT_ENVIRONMENT")


@dataclass(frozen=True, slots=True)
class Version:
    """An installed version of the worker.

    Attributes:
        column: Its column in tables: `before` or `now`.
        folder: Its checkout.
        command: Its `aimicromind-worker`.
    """

    column: str
    folder: Path
    command: Path

    def logs(self, event: str) -> bool:
        """Return whether its worker logs an event of this name."""
        sources = (self.folder / "worker").rglob("*.py")
        return any(f'"{event}"' in source.read_text() for source in sources)


NOW: Final = Version("now", TOP, Path(sys.executable).with_name("aimicromind-worker"))
"""The version of this checkout."""


@contextmanager
def versions(beside: str | None, cache: Path | None) -> Iterator[list[Version]]:
    """Yield the versions to measure, the older one first.

    Args:
        beside: The other revision; None for this checkout alone.
        cache: Folder that keeps its checkout for the next run; None removes it afterwards.

    Raises:
        click.ClickException: There is no such revision, or it cannot be installed.
    """
    if beside is None:
        yield [NOW]
        return
    commit = _commit(beside)
    with tempfile.TemporaryDirectory(prefix="bench-beside-") as temporary:
        folder = (cache or Path(temporary)).resolve() / f"aimicromind-worker-{commit[:12]}"
        try:
            yield [_installed(folder, commit), NOW]
        finally:
            if cache is None:
                _run("git", "worktree", "remove", "--force", str(folder), check=False)


def _commit(revision: str) -> str:
    named = f"{revision}^{{commit}}"
    found = _run("git", "rev-parse", "--verify", "--quiet", "--end-of-options", named, check=False)
    if found.returncode != 0:
        raise click.ClickException(f"git knows no revision {revision!r}")
    return found.stdout.strip()


def _installed(folder: Path, commit: str) -> Version:
    if not folder.exists():
        folder.parent.mkdir(parents=True, exist_ok=True)
        # A folder that was deleted by hand is still registered.
        _run("git", "worktree", "prune")
        _run("git", "worktree", "add", "--detach", str(folder), commit)
    elif _run("git", "rev-parse", "HEAD", folder=folder).stdout.strip() != commit:
        raise click.ClickException(f"{folder} does not contain {commit}: delete it")
    click.echo(f"installing {commit[:12]} in {folder}", err=True)
    options = ("--frozen", "--all-packages", "--quiet", "--python", sys.executable)
    _run(_uv(), "sync", *options, folder=folder, within_s=_INSTALL_WITHIN_S)
    return Version("before", folder, folder / ".venv" / "bin" / "aimicromind-worker")


def _uv() -> str:
    return shutil.which("uv") or str(TOP / ".tools" / "bin" / "uv")


def _run(
    *command: str, folder: Path = TOP, within_s: float = _GIT_WITHIN_S, check: bool = True
) -> subprocess.CompletedProcess[str]:
    environment = {
        name: value for name, value in os.environ.items() if name not in _OF_THIS_ENVIRONMENT
    }
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=within_s,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise click.ClickException(str(error)) from error
    if check and done.returncode != 0:
        raise click.ClickException(f"{' '.join(command)} failed:\n{done.stderr}")
    return done
