"""Docstrings behind members become descriptions of a JSON Schema."""

from pydantic import ConfigDict, create_model

from aimicromind_schemas import EndEvent, PredictionJob
from aimicromind_schemas.shape import Shape, docstrings


class Base(Shape):
    """The docstring of the class describes no member."""

    model_config = ConfigDict(extra="forbid")

    told_twice: int
    """First line,
    second line."""

    declared_anew: object
    """What a subclass does not mean."""

    silent: int
    other: int
    """Another one."""


class Derived(Base):
    """Declares one member without a word."""

    declared_anew: int


def test_docstrings_describe_the_members_of_a_class_and_of_its_bases() -> None:
    told = {"told_twice": "First line,\nsecond line.", "other": "Another one."}

    assert docstrings(Derived) == told
    assert docstrings(Base) == told | {"declared_anew": "What a subclass does not mean."}


def test_json_schema_has_the_docstrings_by_the_names_in_json() -> None:
    members = Derived.model_json_schema()["properties"]

    assert members["toldTwice"]["description"] == "First line,\nsecond line."
    assert "description" not in members["silent"]
    assert "description" not in members["declaredAnew"]


def test_json_schema_has_the_docstrings_by_the_names_in_python() -> None:
    members = Derived.model_json_schema(by_alias=False)["properties"]

    assert members["told_twice"]["description"] == "First line,\nsecond line."


def test_class_within_a_function_is_described_too() -> None:
    class Inner(Shape):
        member: int
        """What it means."""

    assert Inner.model_json_schema()["properties"]["member"]["description"] == "What it means."


def test_class_without_members_has_a_schema() -> None:
    assert create_model("Empty", __base__=Shape).model_json_schema()["properties"] == {}


def test_messages_describe_themselves() -> None:
    for message in (PredictionJob, EndEvent):
        schema = message.model_json_schema(mode="serialization")

        assert all(
            it.get("description")
            for name, it in schema["properties"].items()
            if name not in {"event", "data"}
        ), message


def test_class_without_source_has_no_docstrings() -> None:
    made = create_model("Made", __base__=Shape, member=int)

    assert docstrings(made) == {}
    assert made.model_json_schema()["properties"]["member"] == {
        "title": "Member",
        "type": "integer",
    }
