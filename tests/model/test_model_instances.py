"""The smallest values for JSON schemas, checked by a validator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jsonschema
import pytest

from clew.testing.instances import instance

TREE: dict[str, Any] = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {"name": {"type": "string"}, "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}},
            "required": ["name", "next"],
        }
    },
    "$ref": "#/$defs/node",
}

SCHEMAS: list[dict[str, Any]] = [
    {"type": "object", "properties": {"a": {"type": "string"}}},
    {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"type": "boolean"}}, "required": ["a", "b"]},
    {"type": "object", "required": ["anything"]},
    {"type": "array", "items": {"type": "number", "minimum": 2.5}, "minItems": 2},
    {"type": "array", "prefixItems": [{"type": "string"}, {"type": "null"}], "minItems": 2},
    {"type": ["string", "null"]},
    {"type": ["null", "integer"]},
    {"type": "string", "minLength": 5, "maxLength": 6},
    {"type": "string", "maxLength": 2},
    {"type": "string", "format": "date-time"},
    {"type": "string", "pattern": "^[A-Z]-\\d$"},
    {"enum": ["x", 2]},
    {"const": {"a": [1]}},
    {"anyOf": [{"type": "integer"}, {"type": "string"}]},
    {"oneOf": [{"type": "object", "properties": {"k": {"const": "v"}}, "required": ["k"]}, {"type": "null"}]},
    {"allOf": [{"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}, {"required": ["b"]}]},
    {"type": "integer", "minimum": 7, "multipleOf": 5},
    {"type": "integer", "exclusiveMinimum": 10},
    {"type": "integer", "maximum": -3},
    {"type": "integer", "exclusiveMaximum": -3, "multipleOf": 3},
    {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
    {"properties": {"a": {"type": "string"}}, "required": ["a"]},
    {},
    TREE,
]


@pytest.mark.parametrize("schema", SCHEMAS)
def test_an_instance_is_valid(schema: dict[str, Any]) -> None:
    check: Callable[[Any, dict[str, Any]], None] = jsonschema.validate
    check(instance(schema, "some text"), schema)


def test_the_text_stands_in_the_first_string_that_may_say_anything() -> None:
    schema = {
        "type": "object",
        "properties": {"kind": {"enum": ["a"]}, "said": {"type": "string"}, "also": {"type": "string"}},
        "required": ["kind", "said", "also"],
    }
    assert instance(schema, "hello") == {"kind": "a", "said": "hello", "also": ""}
