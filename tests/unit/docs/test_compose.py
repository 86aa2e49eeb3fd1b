"""What can be said of compose.yaml without Docker; it is not run here."""

from pathlib import Path

import yaml

from aimicromind_worker.app.setting_origins import Origin, unknown_names
from aimicromind_worker.app.settings import Settings

COMPOSE = Path(__file__).parents[3] / "compose.yaml"


def test_its_worker_has_settings_that_exist_and_time_to_drain() -> None:
    worker = yaml.safe_load(COMPOSE.read_text())["services"]["worker"]

    assert unknown_names(((Origin.ENVIRONMENT, worker["environment"]),)) == []
    drain = Settings.model_fields["drain_seconds"].default
    assert int(worker["stop_grace_period"].removesuffix("s")) >= drain + 5
