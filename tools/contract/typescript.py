"""Write the messages as TypeScript types, with two functions that tell events apart."""

from collections.abc import Mapping
from textwrap import wrap
from typing import Any, Final

from tools.contract.shapes import EVENT_CLASSES, EXACT_NAMES, Shape, all_shapes

_HEAD: Final = """\
// Messages of AiMicromind predictions on RabbitMQ. Written by `make contract`, not by hand.
//
// The rule for consumers: the highest `attempt` wins (its `start` replaces what was shown),
// the first `end` of a job ends it.
"""
_SCALARS: Final = {
    "string": "string",
    "integer": "number",
    "number": "number",
    "boolean": "boolean",
    "null": "null",
}
_TAIL: Final = """\
/** Any event: switch over `event` once `isKnown` says that it is one of these. */
export type ReceivedEvent = KnownEvent | GenericEvent;

/** What may be published to the exchange of cancel requests. */
export type CancelRequest = JobCancel | ChatCancel;

/** Name of an event that has a type here. */
export type EventName = KnownEvent["event"];

/** Every name that has a type here. */
export const EVENT_NAMES: readonly EventName[] = [
@NAMES@];

/**
 * Tell whether an event has a type here, by its name.
 *
 * The data of @EXACT@
 * always is as its type says. That of the others is written by the endpoint, and a newer one
 * may write it otherwise: look before you use it.
 */
export function isKnown(event: ReceivedEvent): event is KnownEvent {
  return (EVENT_NAMES as readonly string[]).includes(event.event);
}

/** Stands in the `default` of a `switch` over all events: does not compile if one is missing. */
export function assertNever(event: never): never {
  throw new Error(`not an event: ${(event as { event?: unknown }).event}`);
}
"""


def typescript() -> str:
    """Return the module."""
    shapes = all_shapes()
    envelope = shapes["ChatEvent"]
    events = {each.__name__ for each in EVENT_CLASSES.values()} | {"GenericEvent"}
    blocks = [_HEAD]
    for name, shape in shapes.items():
        if name == "Absent":
            continue
        if "enum" in shape:
            values = "\n  | ".join(f'"{value}"' for value in shape["enum"])
            blocks.append(f"{_comment(shape)}export type {name} =\n  | {values};\n")
        elif name in events:
            blocks.append(_interface(name, _beyond(shape, envelope), extends=" extends ChatEvent"))
        else:
            blocks.append(_interface(name, shape))
    members = "\n  | ".join(each.__name__ for each in EVENT_CLASSES.values())
    blocks.append(
        f"/** One type for each event name. */\nexport type KnownEvent =\n  | {members};\n"
    )
    names = "".join(f'  "{name}",\n' for name in EVENT_CLASSES)
    exact = ", ".join(f"`{name}`" for name in EXACT_NAMES)
    blocks.append(_TAIL.replace("@NAMES@", names).replace("@EXACT@", exact))
    return "\n".join(blocks)


def _beyond(event: Shape, envelope: Shape) -> Shape:
    """Return the shape of an event without the members that it shares with the envelope."""
    common = envelope["properties"]
    own = {
        name: field
        for name, field in event["properties"].items()
        if name not in common or name in {"event", "data"}
    }
    return event | {"properties": own}


def _interface(name: str, shape: Shape, extends: str = "") -> str:
    return f"{_comment(shape)}export interface {name}{extends} {_members(shape, '')}\n"


def _members(shape: Shape, indent: str) -> str:
    inner = indent + "  "
    required = shape.get("required", [])
    lines = ["{"]
    for name, field in shape.get("properties", {}).items():
        mark = "" if name in required else "?"
        lines.append(f"{_comment(field, inner)}{inner}{name}{mark}: {_type(field, inner)};")
    if shape.get("additionalProperties") is True:
        lines.append(f"{inner}[field: string]: unknown;")
    return "\n".join([*lines, f"{indent}}}"])


def _type(shape: Shape, indent: str) -> str:
    match shape:
        case {"const": value}:
            return f'"{value}"'
        case {"$ref": reference}:
            name = str(reference).rpartition("/")[2]
            return "null" if name == "Absent" else name
        case {"anyOf": alternatives}:
            return " | ".join(_type(it, indent) for it in alternatives)
        case {"type": "array", "items": items}:
            inner = _type(items, indent)
            return f"readonly ({inner})[]" if "|" in inner else f"readonly {inner}[]"
        case {"type": "object", "properties": _}:
            return _members(shape, indent)
        case {"type": "object"}:
            return f"Readonly<Record<string, {_value(shape, indent)}>>"
        case {"type": scalar}:
            return _SCALARS[scalar]
        case _:
            return "unknown"


def _value(shape: Shape, indent: str) -> str:
    values: Any = shape.get("additionalProperties")
    return _type(values, indent) if isinstance(values, dict) else "unknown"


def _comment(shape: Mapping[str, Any], indent: str = "") -> str:
    text = shape.get("description")
    if text is None:
        return ""
    lines = wrap(text, 96 - len(indent), break_on_hyphens=False)
    if len(lines) == 1:
        return f"{indent}/** {lines[0]} */\n"
    body = "".join(f"{indent} * {line}\n" for line in lines)
    return f"{indent}/**\n{body}{indent} */\n"
