"""Print the settings with their origins, for the command `settings show`."""

import os
from collections.abc import Sequence
from dataclasses import asdict

from aimicromind_worker.app.setting_origins import (
    Origin,
    ShownSetting,
    given_values,
    shown_settings,
)
from aimicromind_worker.ops.terminal import columns, cut, safe_line, say, say_json


def show_settings(*, as_json: bool) -> None:
    """Print all settings: those that are set, then those with their default."""
    shown = shown_settings(given_values(os.environ))
    if as_json:
        for setting in shown:
            say_json(asdict(setting))
        return
    for line in lines_of(shown, columns()):
        say(line)


def lines_of(shown: Sequence[ShownSetting], width: int | None) -> list[str]:
    """Return a line for each setting: name, origin and value.

    Args:
        shown: The settings.
        width: The width of the terminal in columns; None: values are never cut.
    """
    unset = (Origin.DEFAULT, Origin.MISSING)
    ordered = sorted(shown, key=lambda it: it.origin in unset)
    names = max(len(it.name) for it in shown)
    origins = max(len(it.origin) for it in shown)
    return [
        cut(f"{it.name:<{names}}  {it.origin:<{origins}}  {safe_line(_value(it))}", width)
        for it in ordered
    ]


def _value(setting: ShownSetting) -> str:
    over = f"  (over {', '.join(setting.overridden)})" if setting.overridden else ""
    return f"{setting.value}{over}"
