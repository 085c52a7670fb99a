"""A recipe's keys as a JSON schema, by which an editor completes and checks the file (yaml-language-server)."""

from __future__ import annotations

import dataclasses
from typing import Any

from pydantic import TypeAdapter

from align_ko.recipe.data import DataRecipe
from align_ko.recipe.evaluation import AlignRecipe, EvaluateRecipe, ExportRecipe, MergeRecipe
from align_ko.recipe.fields import LARGEST
from align_ko.recipe.grpo import GrpoRecipe
from align_ko.recipe.keys import dict_values, keys_of, limits_of, list_items, record_of
from align_ko.recipe.preferences import PreferencesRecipe
from align_ko.recipe.record import MISSING, Kind, TrlConfig
from align_ko.recipe.training import DpoRecipe, SftRecipe

Schema = dict[str, Any]
RECIPES: dict[str, Kind] = {
    "data": DataRecipe, "sft": SftRecipe, "preferences": PreferencesRecipe, "dpo": DpoRecipe, "evaluate": EvaluateRecipe,
    "export": ExportRecipe, "align": AlignRecipe, "grpo": GrpoRecipe,
    "merge": MergeRecipe,
}  # fmt: skip
"""By the name of their file."""
BOUNDS = {"ge": "minimum", "gt": "exclusiveMinimum", "le": "maximum", "lt": "exclusiveMaximum"}
EXTENDS = {"type": "string", "description": "A recipe, relative to this file, of which this one contains the differences."}


def recipe_schema(recipe_class: Kind) -> Schema:
    """JSON schema (2020-12) of a recipe: pydantic's types and ranges, the docstring and default of every key, no key beside
    them. A recipe that `extends` another may leave out any key. Editors read YAML 1.2, so `yes`, `1_000` and `on` are text
    to them, where load.py also takes those for true and 1000."""
    schema = _without_noise(TypeAdapter(recipe_class).json_schema())
    _explain(recipe_class, schema, schema.get("$defs", {}))
    for part in (schema, *schema.get("$defs", {}).values()):
        part.pop("required", None)
    schema["properties"]["extends"] = EXTENDS
    return schema | {"if": {"not": {"required": ["extends"]}}, "then": _required(recipe_class)}


def _without_noise(node: Any) -> Any:
    """Without pydantic's titles (the keys once more) and the bounds of 64 bits."""
    if isinstance(node, list):
        return [_without_noise(item) for item in node]
    if not isinstance(node, dict):
        return node
    noise = [name for name in ("minimum", "maximum") if node.get(name) in (LARGEST, -LARGEST)]
    noise += ["title"] * isinstance(node.get("title"), str)
    return {name: _without_noise(item) for name, item in node.items() if name not in noise}


def _below(kind: Kind) -> Kind | None:
    """The record in a key's type, in the values of a mapping or in the items of a list."""
    inner = dict_values(kind) or list_items(kind)
    return record_of(kind) or (record_of(inner) if inner else None)


def _explain(owner: Kind, schema: Schema, records: dict[str, Schema]) -> None:
    """Put docstrings, defaults and bounds into the properties of `owner`, then into those of the records below it."""
    for name, key in keys_of(owner).items():
        of_key = schema["properties"][name]
        if key.help:
            of_key["description"] = key.help.replace("%%", "%")
        if key.default is not MISSING:
            of_key["default"] = _plain(key.default)
        for part in (of_key, *of_key.get("anyOf", ())):  # pydantic loses the bounds of TrlNumber, which a function reads
            if part.get("type") in ("number", "integer"):
                part |= {BOUNDS[name]: limit for name, limit in limits_of(key.type).items()}
        if below := _below(key.type):
            _explain(below, of_key if isinstance(below, TrlConfig) else records[below.__name__], records)


def _plain(value: Any) -> Any:
    """A default as JSON has it."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _plain(dataclasses.asdict(value))
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _required(owner: Kind) -> Schema:
    """What a recipe that stands alone has to give, at every depth."""
    if isinstance(owner, TrlConfig):
        return {}
    rules: Schema = {"required": [name for name, key in keys_of(owner).items() if key.default is MISSING], "properties": {}}
    for name, key in keys_of(owner).items():
        if (below := _below(key.type)) and (inner := _required(below)):
            place = "additionalProperties" if dict_values(key.type) else "items" if list_items(key.type) else ""
            rules["properties"][name] = {place: inner} if place else inner
    return {name: rule for name, rule in rules.items() if rule}
