"""The policy file as a JSON Schema, for editors: `python -m proxy.policy.schema > policies/schema.json`.

- It accepts what the loader accepts.  What needs two keys at once (a reference to an upstream, a ramp
  that rises) or arithmetic (steps of 0.01) is left to the loader to refuse.
- Every single value may be text with `${…}` in it; keys never are.
- Keys are required only in a file that extends none, and in lists, which are never merged.
- Defaults are as a person writes them; descriptions are those of the fields.
"""

import ast
import inspect
import json
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue, NoDefault
from pydantic_core import CoreSchema, SchemaSerializer, core_schema

from proxy.policy.config import PolicyConfig

_REFERENCE: JsonSchemaValue = {"$ref": "#/$defs/Reference"}
_SINGLE = frozenset({"string", "number", "integer", "boolean"})
_EXTENDS: JsonSchemaValue = {"required": ["extends"], "properties": {"extends": {"type": "string"}}}

_Definitions = Mapping[str, JsonSchemaValue]


class _Generator(GenerateJsonSchema):
    schema_dialect = "http://json-schema.org/draft-07/schema#"  # what every editor knows

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        found = self.generate_inner(schema["schema"])
        default = self.get_default_value(schema)
        # A section's defaults are those of its keys; None and "" stand for a key left out.
        if default is not NoDefault and default not in (None, "") and not isinstance(default, BaseModel):
            found["default"] = SchemaSerializer(schema["schema"]).to_python(default, mode="json")
        return found

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        found = super().model_schema(schema)
        kind = schema["cls"]
        for name, text in descriptions(kind).items():
            if (field := kind.model_fields.get(name)) is not None:
                found["properties"][field.alias or name]["description"] = text
        return found

    def dict_schema(self, schema: core_schema.DictSchema) -> JsonSchemaValue:
        found = super().dict_schema(schema)
        return found | {"additionalProperties": False} if "patternProperties" in found else found

    def field_title_should_be_set(self, schema: CoreSchema | core_schema.ModelField | Any) -> bool:
        return False  # the key itself says it


def descriptions(kind: type) -> dict[str, str]:
    """The text below each field of a class, in the class's source.

    Pydantic reads it too, with `use_attribute_docstrings`, but for every process that reads a policy: a sixth of
    what it takes to import and to read one.
    """
    found: dict[str, str] = {}
    for each in reversed(kind.__mro__):
        if issubclass(each, BaseModel) and each is not BaseModel:
            found |= _class_descriptions(each.__module__).get(each.__name__, {})
    return found


@cache
def _class_descriptions(module: str) -> dict[str, dict[str, str]]:
    """By class and field, of one module."""
    found: dict[str, dict[str, str]] = {}
    for each in ast.parse(inspect.getsource(sys.modules[module])).body:
        if isinstance(each, ast.ClassDef):
            found[each.name] = texts = {}
            for field, below in zip(each.body, each.body[1:], strict=False):
                match field, below:
                    case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                        texts[name] = inspect.cleandoc(text)
    return found


def policy_schema() -> JsonSchemaValue:
    """The JSON Schema of a policy file."""
    schema = PolicyConfig.model_json_schema(schema_generator=_Generator)
    definitions = schema.pop("$defs")
    needs = _needs(schema, definitions)
    _relax(schema, definitions)
    return {
        "$schema": _Generator.schema_dialect,
        **_expandable(schema),
        "if": _EXTENDS,
        "else": needs,
        "$defs": {
            "Reference": {"type": "string", "pattern": r"\$\{", "description": "Text with ${…} in it."},
            **{name: _expandable(definition) for name, definition in definitions.items()},
        },
    }


def _below(schema: JsonSchemaValue, definitions: _Definitions) -> Iterator[tuple[tuple[str, ...], JsonSchemaValue]]:
    """The schemas that merging reaches from this one, lists left out, and where they are in it."""
    if "$ref" in schema:
        yield (), definitions[schema["$ref"].rpartition("/")[2]]
    for alternative in schema.get("anyOf", ()):
        yield (), alternative
    for kind in ("properties", "patternProperties"):
        for name, value in schema.get(kind, {}).items():
            yield (kind, name), value


def _needs(schema: JsonSchemaValue, definitions: _Definitions) -> JsonSchemaValue:
    """The schema with nothing but the required keys at every depth."""
    found: JsonSchemaValue = {"required": schema["required"]} if "required" in schema else {}
    for place, below in _below(schema, definitions):
        if need := _needs(below, definitions):
            if place:
                found.setdefault(place[0], {})[place[1]] = need
            else:
                found |= need  # short forms and null need nothing
    return found


def _relax(schema: JsonSchemaValue, definitions: _Definitions) -> None:
    schema.pop("required", None)
    for _, below in _below(schema, definitions):
        _relax(below, definitions)


def _expandable(schema: JsonSchemaValue) -> JsonSchemaValue:
    """The schema with `${…}` allowed for every single value in it."""
    if _is_single(schema):
        told: JsonSchemaValue = {key: schema[key] for key in ("default", "description") if key in schema}
        return {"anyOf": [{key: schema[key] for key in schema if key not in told}, _REFERENCE], **told}
    found = {key: schema[key] for key in schema if key != "title"}  # a class's name says nothing to people
    for kind in ("properties", "patternProperties"):
        if kind in found:
            found[kind] = {name: _expandable(value) for name, value in found[kind].items()}
    if "items" in found:
        found["items"] = _expandable(found["items"])
    if "anyOf" in found:
        alternatives = [each if _is_single(each) else _expandable(each) for each in found["anyOf"]]
        found["anyOf"] = [*alternatives, _REFERENCE] if any(map(_is_single, found["anyOf"])) else alternatives
    return found


def _is_single(schema: JsonSchemaValue) -> bool:
    """Whether one value stands here, which may come from `${…}`; `extends` forbids that itself."""
    return schema.get("type") in _SINGLE and "not" not in schema


if __name__ == "__main__":
    sys.stdout.write(json.dumps(policy_schema(), indent=2, ensure_ascii=False) + "\n")
