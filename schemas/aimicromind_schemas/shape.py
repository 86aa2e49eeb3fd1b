"""What the shapes of messages have in common."""

import ast
import inspect
from functools import cache
from textwrap import dedent

from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from typing_extensions import override

from aimicromind_schemas.wire import Quiet


class Shape(Quiet, BaseModel):
    """A shape whose members are described by the docstrings behind them.

    Docstrings are read for a JSON Schema only: Pydantic's `use_attribute_docstrings` reads them
    when a class is made, which took an eighth of the time of an import.
    """

    model_config = ConfigDict(alias_generator=to_camel, frozen=True, hide_input_in_errors=True)

    @override
    @classmethod
    def __get_pydantic_json_schema__(
        cls, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core)
        members = handler.resolve_ref_schema(schema).get("properties", {})
        for name, text in docstrings(cls).items():
            for written in members.keys() & {name, cls.model_fields[name].alias}:
                members[written].setdefault("description", text)
        return schema


def docstrings(described: type[BaseModel]) -> dict[str, str]:
    """Return the docstrings behind the fields of a class and its bases, by field.

    One that a class declares anew has none of a base. A class without source code has none.
    """
    found: dict[str, str] = {}
    for each in reversed(described.__mro__):
        found |= _own_docstrings(each)
    return {name: found[name] for name in described.model_fields if found.get(name)}


@cache
def _own_docstrings(described: type) -> dict[str, str]:
    found, attribute = dict[str, str](), ""
    try:
        source = inspect.getsource(described)
    except (OSError, TypeError):
        return found
    for statement in ast.iter_child_nodes(ast.parse(dedent(source)).body[0]):
        match statement:
            case ast.AnnAssign(target=ast.Name(id=attribute)):
                found[attribute] = ""
            case ast.Expr(value=ast.Constant(value=str(text))) if attribute:
                found[attribute] = inspect.cleandoc(text)
            case _:
                attribute = ""
    return found
