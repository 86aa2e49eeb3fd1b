from importlib.resources import files

from aimicromind_schemas import EVENT_NAMES
from aimicromind_testing import Recording, recording_names
from tools.contract.compatibility import breaks
from tools.contract.files import drift
from tools.contract.places import BASELINE, JSON, examples, read_folder
from tools.contract.recording import BY_HAND
from tools.contract.schema_files import schema_files, schema_of_example


def test_files_are_what_the_types_give() -> None:
    assert drift() == [], "run `make contract` and look at what changed"


def test_nothing_breaks_who_knows_the_released_contract() -> None:
    baseline = read_folder(BASELINE)

    assert baseline
    assert breaks(baseline, read_folder(JSON)) == []


def test_each_event_name_has_a_schema() -> None:
    assert {f"event.{name}" for name in EVENT_NAMES} < schema_files().keys()


def test_each_message_has_an_example() -> None:
    assert {schema_of_example(name) for name in examples()} == schema_files().keys() - {"event"}


def test_only_what_no_recording_has_is_written_by_hand() -> None:
    recorded = {
        frame["event"]
        for name in recording_names()
        for frame in Recording.load(name).frames()
        if frame["data"] not in ("", [])  # An example that shows nothing is none.
    }

    assert recorded.isdisjoint(BY_HAND)


def test_package_carries_the_schemas() -> None:
    folder = files("aimicromind_schemas") / "json"

    assert {path.name for path in folder.iterdir()} == {f"{name}.json" for name in schema_files()}
