from collections.abc import Mapping
from pathlib import Path

import pytest

from aimicromind_worker.app.setting_origins import (
    Origin,
    UnknownName,
    given_values,
    shown_settings,
    unknown_names,
)
from aimicromind_worker.app.settings import Settings

SECRET = "h1dden"


def shown(environment: Mapping[str, str], name: str) -> tuple[str, str]:
    given = ((Origin.ENVIRONMENT, environment),)
    [found] = [it for it in shown_settings(given) if it.name == f"AIMICROMIND_{name}"]
    return found.value, found.origin


def unknown(*names: str) -> list[UnknownName]:
    return unknown_names(((Origin.ENVIRONMENT, dict.fromkeys(names, "x")),))


def test_environment_overrides_the_file_which_overrides_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text("AIMICROMIND_PREFIX=file\nAIMICROMIND_CONCURRENCY=4\n")
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "aimicromind_prefix").write_text("folder\n")
    (tmp_path / "secrets" / "AIMICROMIND_MAX_CALLS").write_text("2\n")
    environment = {
        "aimicromind_prefix": "env",
        "AIMICROMIND_SECRETS_DIR": str(tmp_path / "secrets"),
    }

    found = {
        it.name.removeprefix("AIMICROMIND_"): it for it in shown_settings(given_values(environment))
    }

    assert (found["PREFIX"].value, found["PREFIX"].origin) == ("env", Origin.ENVIRONMENT)
    assert found["PREFIX"].overridden == (Origin.FILE, Origin.SECRETS)
    assert (found["CONCURRENCY"].value, found["CONCURRENCY"].origin) == ("4", Origin.FILE)
    assert (found["MAX_CALLS"].value, found["MAX_CALLS"].origin) == ("2", Origin.SECRETS)
    assert found["MAX_HELD_BYTES"].value == "256MiB"
    assert found["MAX_HELD_BYTES"].origin is Origin.DEFAULT
    assert found["AMQP_URL"].origin is Origin.MISSING
    assert found["SECRETS_DIR"].value == str(tmp_path / "secrets")


@pytest.mark.parametrize(
    ("name", "written", "seen"),
    [
        ("API_KEY", SECRET, "(hidden)"),
        ("AMQP_URL", f"amqp://me:{SECRET}@host:1/v", "amqp://me:***@host:1/v"),
        ("AMQP_URL", f"amqp://me:a/{SECRET}@x,{SECRET}@host/", "amqp://me:***@host/"),
        (
            "AMQP_URL",
            f"amqp://a:{SECRET}@b/, amqps://c:{SECRET}@d/",
            "amqp://a:***@b/, amqps://c:***@d/",
        ),
        ("AMQP_URL", f"amqp://host/?password={SECRET}", "amqp://host/"),
        ("AMQP_URL", SECRET, "(hidden)"),
        ("BASE_URL", f"https://me:{SECRET}@host", "https://me:***@host"),
        ("MANAGEMENT_URL", f"http://me:{SECRET}@host:15672", "http://me:***@host:15672"),
    ],
)
def test_password_is_hidden_and_the_rest_is_seen(name: str, written: str, seen: str) -> None:
    assert shown({f"AIMICROMIND_{name}": written}, name) == (seen, Origin.ENVIRONMENT)


def test_empty_value_is_none() -> None:
    assert shown({"AIMICROMIND_PREFIX": ""}, "PREFIX") == ("aimicromind", Origin.DEFAULT)


def test_unknown_name_has_the_nearest_setting() -> None:
    assert unknown("AIMICROMIND_BASE_ULR", "AIMICROMIND_PREFX", "AIMICROMIND_BASE_URL") == [
        UnknownName("AIMICROMIND_BASE_ULR", "AIMICROMIND_BASE_URL"),
        UnknownName("AIMICROMIND_PREFX", "AIMICROMIND_PREFIX"),
    ]


def test_name_that_is_like_no_setting_is_unknown_without_a_guess() -> None:
    [found] = unknown("AIMICROMIND_")

    assert found.meant is None
    assert found.sentence() == "AIMICROMIND_ is no setting, and has no effect"


@pytest.mark.parametrize(
    "name", ["PATH", "MY_AIMICROMIND_X", "AIMICROMIND_SECRETS_DIR", "AIMICROMIND_GATEWAY_PORT"]
)
def test_other_names_are_left_alone(name: str) -> None:
    assert unknown(name) == []


def test_no_setting_is_unknown() -> None:
    assert unknown(*(f"AIMICROMIND_{name.upper()}" for name in Settings.model_fields)) == []
