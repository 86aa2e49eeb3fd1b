from datetime import timedelta
from pathlib import Path

import pytest

from aimicromind_worker.app.broker_settings import SettingsInvalid
from aimicromind_worker.app.settings import Settings
from tests.support.builders import SECRET

AMQP_URL, BASE_URL = "amqp://broker.example", "https://flows.example"
MIB = 1024 * 1024


@pytest.fixture(autouse=True)
def required(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has no default."""
    monkeypatch.setenv("AIMICROMIND_AMQP_URL", AMQP_URL)
    monkeypatch.setenv("AIMICROMIND_BASE_URL", BASE_URL)


def refusal(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    for name, value in environment.items():
        monkeypatch.setenv(f"AIMICROMIND_{name}", value)
    with pytest.raises(SettingsInvalid) as refused:
        Settings.read()
    assert refused.value.__cause__ is None
    return str(refused.value)


DEFAULTS = {
    "api_key": None,
    "prediction_path": "/api/v1/prediction/{chatflowId}",
    "prefix": "aimicromind",
    "concurrency": 32,
    "max_calls": 3,
    "attempt_timeout_seconds": 600,
    "job_lifetime_seconds": 3600,
    "first_byte_timeout_seconds": 30,
    "idle_timeout_seconds": 180,
    "consumer_timeout_seconds": 1800,
    "drain_seconds": 25,
    "heartbeat_seconds": 12,
    "health_host": "0.0.0.0",
    "health_port": 8080,
    "max_job_bytes": 8 * MIB,
    "max_held_bytes": 256 * MIB,
    "max_frame_bytes": 4 * MIB,
    "max_answer_bytes": 8 * MIB,
    "events_log": True,
    "events_log_max_age": "24h",
    "events_log_max_bytes": 2_000_000_000,
    "events_log_partitions": 4,
    "journal_max_age": "7D",
    "journal_max_bytes": 2_000_000_000,
    "jobs_max_length": 0,
}


@pytest.mark.parametrize("name", DEFAULTS)
def test_default_is_the_published_one(name: str) -> None:
    assert getattr(Settings.read(), name) == DEFAULTS[name]


def test_attempt_that_the_broker_would_not_wait_for_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIMICROMIND_ATTEMPT_TIMEOUT_SECONDS", "60")
    monkeypatch.setenv("AIMICROMIND_CONSUMER_TIMEOUT_SECONDS", "75")
    assert Settings.read().hold == timedelta(seconds=60)

    said = refusal(monkeypatch, ATTEMPT_TIMEOUT_SECONDS="60.1")

    assert said.startswith("AIMICROMIND_CONSUMER_TIMEOUT_SECONDS: must be at least 75.125 seconds")
    assert "AIMICROMIND_ATTEMPT_TIMEOUT_SECONDS" in said


@pytest.mark.parametrize("name", ["AMQP_URL", "BASE_URL"])
@pytest.mark.parametrize("value", [None, ""])
def test_missing_address_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str | None
) -> None:
    monkeypatch.delenv(f"AIMICROMIND_{name}")

    message = refusal(monkeypatch, **({} if value is None else {name: value}))

    assert message == f"AIMICROMIND_{name} is not set"


def test_every_problem_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    message = refusal(monkeypatch, CONCURRENCY="0", BASE_URL="ftp://x", AMQP_URL="")

    assert "AIMICROMIND_AMQP_URL is not set" in message
    assert "AIMICROMIND_BASE_URL: must be a URL like http://host" in message
    assert "AIMICROMIND_CONCURRENCY: Input should be greater than or equal to 1" in message


def test_several_brokers_are_tried_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    urls = ["amqp://u:p@a.example/%2f", "amqps://b.example:5671", "amqp://[::1]"]
    monkeypatch.setenv("AIMICROMIND_AMQP_URL", " , ".join(urls) + ",")

    settings = Settings.read()

    assert [url.get_secret_value() for url in settings.amqp_url] == urls


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("AMQP_URL", "http://broker", "must be a URL like amqp://host"),
        ("AMQP_URL", "broker:5672", "must be a URL like amqp://host"),
        ("AMQP_URL", "amqp://", "must be a URL like amqp://host"),
        ("AMQP_URL", "amqp://fine,http://not", "must be a URL like amqp://host"),
        ("AMQP_URL", ",", ""),
        ("AMQP_URL", "amqps://broker/?cafile=/ca.crt", "use AIMICROMIND_AMQP_CA_FILE"),
        ("AMQP_URL", "amqps://broker/?no_verify_ssl=1", "say nothing of TLS"),
        ("AMQP_CA_FILE", "/dev/null", "is no PEM file"),
        ("AMQP_CLIENT_CERTIFICATE", "/nowhere", "is no PEM file"),
        ("BASE_URL", "flows.example", "must be a URL like http://host"),
        ("BASE_URL", "https://user:pw@flows.example", "use AIMICROMIND_API_KEY"),
        ("PREDICTION_PATH", "/api/v1/prediction", "contain {chatflowId}"),
        ("PREDICTION_PATH", "prediction/{chatflowId}", "begin with /"),
        ("PREFIX", "a b", "match pattern"),
        ("PREFIX", "x" * 65, "match pattern"),
        ("CONCURRENCY", "2001", "less than or equal to 2000"),
        ("CONCURRENCY", "many", "valid integer"),
        ("MAX_CALLS", "0", "greater than or equal to 1"),
        ("ATTEMPT_TIMEOUT_SECONDS", "0", "greater than 0"),
        ("ATTEMPT_TIMEOUT_SECONDS", "nan", ""),
        ("IDLE_TIMEOUT_SECONDS", "-1", "greater than 0"),
        ("JOB_LIFETIME_SECONDS", "inf", "less than or equal to"),
        ("HEARTBEAT_SECONDS", "1", "greater than or equal to 2"),
        ("HEARTBEAT_SECONDS", "600", "less than or equal to 60"),
        ("HEALTH_PORT", "-1", "greater than or equal to 0"),
        ("HEALTH_PORT", "65536", "less than or equal to 65535"),
        ("MAX_JOB_BYTES", "16MiB", "less than or equal to"),
        ("MAX_HELD_BYTES", "7MiB", "must be at least 8388608 bytes, to hold one job"),
        ("MAX_FRAME_BYTES", "1", "greater than or equal to 1024"),
        ("EVENTS_LOG", "perhaps", "valid boolean"),
        ("EVENTS_LOG_MAX_AGE", "a day", "match pattern"),
        ("EVENTS_LOG_PARTITIONS", "0", "greater than or equal to 1"),
        ("EVENTS_LOG_PARTITIONS", "65", "less than or equal to 64"),
        ("LOG_LEVEL", "loud", "Input should be 'debug'"),
    ],
)
def test_bad_value_is_named_with_its_remedy(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, remedy: str
) -> None:
    message = refusal(monkeypatch, **{name: value})

    assert message.startswith(f"AIMICROMIND_{name}: ")
    assert remedy in message


@pytest.mark.parametrize(
    ("written", "size"), [("1048576", MIB), ("2MiB", 2 * MIB), ("2MB", 2_000_000)]
)
def test_sizes_may_have_units(monkeypatch: pytest.MonkeyPatch, written: str, size: int) -> None:
    monkeypatch.setenv("AIMICROMIND_MAX_FRAME_BYTES", written)

    assert Settings.read().max_frame_bytes == size


def test_base_url_loses_its_last_slash(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIMICROMIND_BASE_URL", "https://flows.example/base/")

    assert Settings.read().base_url == "https://flows.example/base"


@pytest.mark.parametrize("folder", ["", "/aimicromind", "/a/api/b", "/api", "/api/v1beta"])
@pytest.mark.parametrize(
    "rest",
    [
        "/api/v1",
        "/api/v1/",
        "/api/v1/prediction",
        "/api/v1/prediction/",
        "/api/v1/prediction/0b4c9f5e-6b3c-4c41-9d8c-2f0a4f3d7a11",
        "/api/v1/predictions/{chatflowId}",
        "/api/v2/ping",
        "/API/V1",
        "/api/v1/prediction/x?key=s3cr3t#top",
        "?key=s3cr3t",
        "/?key=s3cr3t",
        "#/chatflows",
    ],
)
def test_base_url_with_the_path_of_the_api_is_refused_with_the_right_one(
    monkeypatch: pytest.MonkeyPatch, folder: str, rest: str
) -> None:
    message = refusal(monkeypatch, BASE_URL=f"https://flows.example:8443{folder}{rest}")

    assert "AIMICROMIND_BASE_URL: must be the server's address alone" in message
    assert message.endswith(f": https://flows.example:8443{folder}")
    assert "s3cr3t" not in message


@pytest.mark.parametrize("url", ["", "/", "//", "?", "#", "/aimicromind", "/aimicromind/", "/api"])
def test_server_may_be_deployed_under_a_path(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("AIMICROMIND_BASE_URL", f"https://flows.example{url}")

    assert Settings.read().base_url == f"https://flows.example{url.rstrip('/?#')}"


def test_empty_value_counts_as_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIMICROMIND_CONCURRENCY", "")

    assert Settings.read().concurrency == 32


def test_file_is_read_and_the_environment_goes_before_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("AIMICROMIND_CONCURRENCY=5\nAIMICROMIND_MAX_CALLS=5\nX=1\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AIMICROMIND_MAX_CALLS", "4")

    settings = Settings.read()

    assert (settings.concurrency, settings.max_calls) == (5, 4)


def test_space_around_a_value_is_no_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "API_KEY": f" {SECRET}\n",
        "BASE_URL": "http://server:3000\r\n",
        "AMQP_URL": "amqp://broker/\n",
        "PREFIX": "blue\n",
        "MAX_CALLS": " 4\n",
    }.items():
        monkeypatch.setenv(f"AIMICROMIND_{name}", value)

    read = Settings.read()

    assert read.api_key is not None
    assert read.api_key.get_secret_value() == SECRET
    assert (read.base_url, read.broker_urls) == ("http://server:3000", ["amqp://broker/"])
    assert (read.prefix, read.max_calls) == ("blue", 4)


@pytest.mark.parametrize("key", ["two words", "two\nlines", "schlüssel", "a\x00b", "a\x7f"])
def test_key_that_no_header_can_hold_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, key: str
) -> None:
    (tmp_path / "aimicromind_api_key").write_text(key)

    told = refusal(monkeypatch, SECRETS_DIR=str(tmp_path))

    assert "AIMICROMIND_API_KEY" in told
    assert key not in told


RETIRED = {
    "AIMICROMIND_MAX_ATTEMPTS": "AIMICROMIND_MAX_CALLS",
    "AIMICROMIND_ENDPOINT_CHAT_ID": "remove it",
}


@pytest.mark.parametrize("name", RETIRED)
def test_retired_setting_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    told = refusal(monkeypatch, **{name.removeprefix("AIMICROMIND_"): "7"})

    assert name in told
    assert RETIRED[name] in told
    assert "7" not in told


@pytest.mark.parametrize("name", RETIRED)
def test_retired_setting_is_found_in_files_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".env").write_text(f"{name.lower()}=7\n")
    assert name in refusal(monkeypatch)

    (tmp_path / ".env").unlink()
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    (secrets / name.lower()).write_text("7")
    assert name in refusal(monkeypatch, SECRETS_DIR=str(secrets))


def test_retired_setting_that_is_empty_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIMICROMIND_MAX_ATTEMPTS", "")

    assert Settings.read().max_calls == 3


def test_secrets_may_come_from_a_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "aimicromind_api_key").write_text(f"{SECRET}\n")
    monkeypatch.setenv("AIMICROMIND_SECRETS_DIR", str(tmp_path))

    api_key = Settings.read().api_key

    assert api_key is not None
    assert api_key.get_secret_value() == SECRET


def test_option_goes_before_the_environment() -> None:
    assert Settings.read(base_url="http://other").base_url == "http://other"


def test_settings_are_never_changed() -> None:
    settings = Settings.read()

    with pytest.raises(ValueError, match="frozen"):
        settings.concurrency = 1  # type: ignore[misc]


def test_secrets_are_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIMICROMIND_AMQP_URL", f"amqp://user:{SECRET}@a,amqp://{SECRET}@b")
    monkeypatch.setenv("AIMICROMIND_API_KEY", SECRET)

    settings = Settings.read()

    shown = [repr(settings), str(settings), str(settings.model_dump()), settings.model_dump_json()]
    assert SECRET not in "".join(shown)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("AMQP_URL", f"http://user:{SECRET}@broker"),
        ("AMQP_URL", f"amqp://user:{SECRET}@[broker"),
        ("AMQP_URL", f"amqp://user:{SECRET}@broker\u2100"),
        ("AMQP_URL", f"amqp://fine,{SECRET}"),
        ("BASE_URL", f"https://user:{SECRET}@flows.example"),
        ("BASE_URL", f"https://user:{SECRET}@flows\u2100"),
        ("CONCURRENCY", SECRET),
        ("PREFIX", f"{SECRET} !"),
        ("LOG_LEVEL", SECRET),
    ],
)
def test_refusal_shows_no_value(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    message = refusal(monkeypatch, **{name: value, "API_KEY": SECRET})

    assert SECRET not in message


@pytest.mark.parametrize(
    ("lifetime", "max_age", "needed"),
    [
        ("3600", "1h", "4500s"),
        ("3600", "4499s", "4500s"),
        ("60.5", "16m", "961s"),
        ("86400", "1D", "87300s"),
    ],
)
def test_journal_that_forgets_a_job_while_it_lives_is_refused_with_what_is_needed(
    lifetime: str, max_age: str, needed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = refusal(monkeypatch, JOB_LIFETIME_SECONDS=lifetime, JOURNAL_MAX_AGE=max_age)

    assert told.startswith("AIMICROMIND_JOB_LIFETIME_SECONDS: is longer than the journal")
    assert f"set AIMICROMIND_JOURNAL_MAX_AGE to {needed} at least" in told


@pytest.mark.parametrize(
    ("lifetime", "max_age"),
    [("3600", "4500s"), ("3600", "75m"), ("3600", "2h"), ("86400", "2D"), ("86400", "1M")],
)
def test_journal_that_remembers_a_job_as_long_as_it_lives_is_fine(
    lifetime: str, max_age: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIMICROMIND_JOB_LIFETIME_SECONDS", lifetime)
    monkeypatch.setenv("AIMICROMIND_JOURNAL_MAX_AGE", max_age)

    assert Settings.read().journal_max_age == max_age


def test_default_lifetime_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "4500s" in refusal(monkeypatch, JOURNAL_MAX_AGE="10m")


@pytest.mark.parametrize("timeout_s", [750, 1800, 7200])
def test_job_that_waits_and_then_runs_stays_within_the_consumer_timeout(timeout_s: int) -> None:
    settings = Settings.read(consumer_timeout_seconds=timeout_s)

    assert settings.patience + settings.hold < timedelta(seconds=timeout_s)
