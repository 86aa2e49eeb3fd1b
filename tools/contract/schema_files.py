"""Write one JSON Schema (2020-12) for each message, each complete in itself."""

from collections.abc import Mapping

from tools.contract.shapes import EVENT_CLASSES, Shape, all_shapes, needed

_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema_files() -> dict[str, Shape]:
    """Return the schemas by the names of their files, without `.json`."""
    shapes = all_shapes()
    events = {name: shapes[each.__name__] for name, each in EVENT_CLASSES.items()}
    roots = {
        "job": shapes["PredictionJob"],
        "cancel": _any_of("CancelRequest", "A request to stop jobs.", ("JobCancel", "ChatCancel")),
        "catchUp": shapes["CatchUpRequest"],
        "snapshot": shapes["Snapshot"],
        "status": shapes["StatusRequest"],
        "workerReport": shapes["WorkerReport"],
        "event": _any_of(
            "Event",
            "Any event that a worker publishes.",
            (*(each.__name__ for each in EVENT_CLASSES.values()), "GenericEvent"),
        ),
        "event.generic": shapes["GenericEvent"],
        **{f"event.{name}": events[name] for name in sorted(events)},
    }
    return {name: _complete(name, root, shapes) for name, root in roots.items()}


def schema_name(event: str) -> str:
    """Return the name of the schema that describes an event of this name."""
    return f"event.{event if event in EVENT_CLASSES else 'generic'}"


def schema_of_example(name: str) -> str:
    """Return the name of the schema that an example belongs to, by its file's name."""
    kind, _, event = name.partition(".")
    return schema_name(event) if kind == "event" else kind


def _any_of(title: str, description: str, names: tuple[str, ...]) -> Shape:
    alternatives = [{"$ref": f"#/$defs/{name}"} for name in names]
    return {"title": title, "description": description, "anyOf": alternatives}


def _complete(name: str, root: Shape, shapes: Mapping[str, Shape]) -> Shape:
    head = {"$schema": _DIALECT, "$id": f"urn:aimicromind:{name}"}
    ordered = {key: root[key] for key in ("title", "description") if key in root} | root
    others = needed(shapes, root)
    return head | ordered | ({"$defs": others} if others else {})
