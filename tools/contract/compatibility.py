"""Compare the message schemas with those of the last release, and find what breaks others.

Producers write jobs and cancel requests: what was valid must stay valid. Consumers read events:
what is published must fit the old schema. A member that is removed breaks either.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from tools.contract.shapes import Shape

Direction = Literal["in", "out"]
WRITTEN_BY_PRODUCERS: Final = {"job", "cancel", "catchUp", "status"}
_UNION: Final = "event"  # The union of schemas that are compared one by one.
_BOUNDS: Final = (
    *("pattern", "format", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("minLength", "maxLength", "minItems", "maxItems"),
)


def breaks(old: Mapping[str, Shape], new: Mapping[str, Shape]) -> list[str]:
    """Return what would break producers or consumers of the old schemas, sorted by file."""
    found: list[str] = []
    for name in sorted(old.keys() - {_UNION}):
        if name not in new:
            found.append(f"{name}: the message is gone")
            continue
        way: Direction = "in" if name in WRITTEN_BY_PRODUCERS else "out"
        pair = _Pair(name, way, old[name], new[name], old[name], new[name])
        found += dict.fromkeys(pair.breaks())
    return found


@dataclass(frozen=True, slots=True)
class _Pair:
    """One place in a message, in the old and in the new schema.

    `way` is `in` for what producers write, `out` for what consumers read.
    """

    place: str
    way: Direction
    old: Shape
    new: Shape
    old_root: Shape
    new_root: Shape

    def breaks(self) -> Iterator[str]:
        pair = replace(
            self, old=_resolved(self.old, self.old_root), new=_resolved(self.new, self.new_root)
        )
        if "anyOf" in pair.old or "anyOf" in pair.new:
            yield from pair.alternatives()
            return
        yield from pair.values()
        yield from pair.types()
        yield from pair.bounds()
        yield from pair.members()
        yield from pair.inner("items", "[]")
        yield from pair.inner("additionalProperties", ".*")

    def alternatives(self) -> Iterator[str]:
        """Compare unions: each alternative that may be sent needs one that its reader knows."""
        olds, news = _alternatives(self.old), _alternatives(self.new)
        sent, known = (olds, news) if self.way == "in" else (news, olds)
        for number, one in enumerate(sent):
            tries = [
                list((self.of(one, it) if self.way == "in" else self.of(it, one)).breaks())
                for it in known
            ]
            if all(tries):
                yield from tries[min(number, len(tries) - 1)]

    def values(self) -> Iterator[str]:
        old, new = _values(self.old), _values(self.new)
        if old is None and new is None:
            return
        if old is None or new is None:
            # A closed list narrows where it is new, and widens where it is removed.
            if (old is None) == (self.way == "in"):
                yield f"{self.place}: whether the list of values is closed has changed"
            return
        for value in sorted(old - new):
            yield f"{self.place}: {value} is gone"
        if self.way == "out":
            for value in sorted(new - old):
                yield f"{self.place}: {value} is new, the list was closed"

    def types(self) -> Iterator[str]:
        old, new = self.old.get("type"), self.new.get("type")
        widened = (old == "integer" and new == "number") or new is None
        narrowed = (old == "number" and new == "integer") or old is None
        if old != new and not (widened if self.way == "in" else narrowed):
            yield f"{self.place}: was {old or 'anything'}, is {new or 'anything'}"

    def bounds(self) -> Iterator[str]:
        told = self.new if self.way == "in" else self.old
        for bound in _BOUNDS:
            if bound in told and self.old.get(bound) != self.new.get(bound):
                yield (f"{self.place}: {bound} was {self.old.get(bound)}, is {self.new.get(bound)}")
        narrower, wider = (self.new, self.old) if self.way == "in" else (self.old, self.new)
        excluded = _excluded(narrower)
        if excluded is not None and not excluded <= (_excluded(wider) or set()):
            yield f"{self.place}: what is excluded has changed"

    def members(self) -> Iterator[str]:
        old, new = self.old.get("properties", {}), self.new.get("properties", {})
        for name in old:
            if name not in new:
                yield f"{self.place}.{name}: is gone"
            else:
                inner = self.of(old[name], new[name])
                yield from replace(inner, place=f"{self.place}.{name}").breaks()
        before, now = set(self.old.get("required", [])), set(self.new.get("required", []))
        if self.way == "in":
            for name in sorted(now - before):
                yield f"{self.place}.{name}: is newly required"
        else:
            for name in sorted((before - now) & new.keys()):
                yield f"{self.place}.{name}: is no longer always there"

    def inner(self, keyword: str, sign: str) -> Iterator[str]:
        old, new = self.old.get(keyword, True), self.new.get(keyword, True)
        if isinstance(old, bool) and isinstance(new, bool):
            if old and not new:
                yield f"{self.place}{sign}: is no longer allowed"
            return
        inner = self.of(_as_shape(old), _as_shape(new))
        yield from replace(inner, place=f"{self.place}{sign}").breaks()

    def of(self, old: Shape, new: Shape) -> "_Pair":
        return replace(self, old=old, new=new)


def _resolved(shape: Shape, root: Shape) -> Shape:
    if "$ref" not in shape:
        return shape
    target: Shape = root["$defs"][shape["$ref"].rpartition("/")[2]]
    return _resolved(target, root)


def _alternatives(shape: Shape) -> list[Shape]:
    """Return the alternatives of a shape, each with what holds for all of them."""
    if "anyOf" not in shape:
        return [shape]
    common = {key: value for key, value in shape.items() if key != "anyOf"}
    return [_together(common, it) for it in shape["anyOf"]]


def _together(common: Shape, one: Shape) -> Shape:
    if not common.keys() & {"properties", "required"}:
        return common | one
    properties = dict(common.get("properties", {}))
    for name, shape in one.get("properties", {}).items():
        properties[name] = properties.get(name, {}) | shape
    required = [*common.get("required", []), *one.get("required", [])]
    return common | one | {"properties": properties, "required": required}


def _values(shape: Shape) -> set[str] | None:
    """Return the values of a closed list, as JSON; None without such a list."""
    if "const" in shape:
        return {json.dumps(shape["const"])}
    return {json.dumps(value) for value in shape["enum"]} if "enum" in shape else None


def _excluded(shape: Shape) -> set[str] | None:
    negated: Any = shape.get("not")
    if negated is None:
        return None
    return _values(negated) or {json.dumps(negated, sort_keys=True)}


def _as_shape(value: Any) -> Shape:  # noqa: ANN401 - JSON
    return value if isinstance(value, dict) else {}
