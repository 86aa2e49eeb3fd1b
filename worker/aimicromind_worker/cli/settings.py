"""Parse the command `settings`."""

# ruff: noqa: PLC0415 - a command imports what it needs when it runs

import click

from aimicromind_worker.cli.outcomes import read, run_now


@click.group()
def settings() -> None:
    """Show the settings."""


@settings.command("show")
@click.option("--json", "as_json", is_flag=True, help="Write JSON lines, for programs.")
def settings_show(as_json: bool) -> None:  # noqa: FBT001 - click passes it by name
    """Show each setting with its origin: environment, .env, secret folder or default.

    Passwords and keys are hidden. Problems of the values follow on standard error.
    """
    from aimicromind_worker.app.settings import Settings
    from aimicromind_worker.ops.settings_report import show_settings

    run_now(lambda: show_settings(as_json=as_json))
    read(Settings)
