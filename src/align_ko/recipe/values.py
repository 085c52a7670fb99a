"""The text of a recipe turned into the types that its dataclass wants, with the place of every mistake."""

from __future__ import annotations

import re
from dataclasses import MISSING
from typing import Any, Literal, get_args, get_origin

from align_ko.errors import UserError, nearest
from align_ko.recipe.keys import TrlConfig, dict_values, keys_of, list_items, parts, record_of, suggest
from align_ko.recipe.yaml_lines import COMMAND_LINE, Items, Node, Place, Scalar, Table

_TRUE, _FALSE = ("true", "yes", "on"), ("false", "no", "off")
_INT = re.compile(r"[+-]?[0-9][0-9_]*")
_FLOAT = re.compile(r"[+-]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_WORDS = {str: "text", int: "a whole number", float: "a number", bool: "true or false", Any: "any value"}


def build(tree: Table, recipe_class: Any) -> Any:
    """An instance of `recipe_class` from a whole recipe."""
    return _record(tree, recipe_class, "", recipe_class)


def error_at(place: Place, path: str, problem: str, expected: str | None = None, close: str | None = None) -> UserError:
    """A UserError about the key `path`, which on the command line is a flag."""
    key = f"--{path}" if place.file == COMMAND_LINE and path else path
    return UserError(problem, file=place.file, line=place.line, key=key, expected=expected, nearest=close)


def describe(kind: Any) -> str:
    """What may stand under a key, in words."""
    return " or ".join(_describe_part(part) for part in parts(kind))


def _describe_part(part: Any) -> str:
    if part is type(None):
        return "null"
    if get_origin(part) is Literal:
        return "one of " + ", ".join(_written(value) for value in get_args(part))
    if (item := list_items(part)) is not None:
        return "a list" if item is Any else f"a list ({describe(item)})"
    if dict_values(part) is not None:
        return "a mapping"
    return _WORDS.get(part) or "a mapping of keys to values"


def _record(node: Table, record: Any, path: str, root: Any) -> Any:
    keys, prefix = keys_of(record), f"{path}." if path else ""
    for name in node.entries:
        if name not in keys:
            expected, close = suggest(name, record, root)
            raise error_at(node.key_places[name], prefix + name, "unknown key", expected, close)
    is_trl = isinstance(record, TrlConfig)
    values = {}
    for name, item in node.entries.items():
        values[name] = _convert(item, keys[name].type, prefix + name, root, is_trl)
    if is_trl:
        return values
    for name, key in keys.items():
        if name not in values and key.default is None:
            raise error_at(node.place, prefix + name, "this key is missing", describe(key.type))
    return record(**values)


def _convert(node: Node, kind: Any, path: str, root: Any, keep_int: bool) -> Any:
    """`node` as `kind`. With `keep_int` a whole number under a float stays an int: transformers tells `save_steps: 100`
    and `save_steps: 0.1` apart by that."""
    members = parts(kind)
    if isinstance(node, Scalar):
        if node.is_null and (type(None) in members or kind is Any):
            return None
        # Quoted text is text where text is allowed; a bare word is text only when nothing else fits.
        for member in sorted(members, key=lambda member: (member is str) == node.plain):
            value = _scalar(node, member, keep_int)
            if value is not MISSING:
                return value
        choices = [str(value) for part in members if get_origin(part) is Literal for value in get_args(part)]
        problem = f"'{node.text}' does not fit" if node.text else "there is no value"
        raise error_at(node.place, path, problem, describe(kind), nearest(node.text, choices))
    if isinstance(node, Items):
        inner = Any if Any in members else list_items(kind)
        if inner is None:
            raise error_at(node.place, path, "a list does not fit", describe(kind))
        values = [_convert(item, inner, f"{path}[{i}]", root, keep_int) for i, item in enumerate(node.items)]
        return tuple(values) if any(get_origin(part) is tuple for part in members) else values
    record = record_of(kind)
    if record is not None:
        return _record(node, record, path, root)
    inner = Any if Any in members else dict_values(kind)
    if inner is None:
        raise error_at(node.place, path, "a mapping does not fit", describe(kind))
    return {name: _convert(item, inner, f"{path}.{name}", root, keep_int) for name, item in node.entries.items()}


def _scalar(node: Scalar, kind: Any, keep_int: bool) -> Any:
    """`node` as one member of a union, or MISSING where it does not fit."""
    text, word = node.text, node.text.lower()
    if get_origin(kind) is Literal:
        return next((value for value in get_args(kind) if _written(value) == text), MISSING)
    if kind is bool and word in _TRUE + _FALSE:
        return word in _TRUE
    if kind is int and _INT.fullmatch(text):
        return int(text)
    if kind is float and _FLOAT.fullmatch(text):
        return int(text) if keep_int and _INT.fullmatch(text) else float(text)
    if kind is str and not node.is_null:
        return text
    return _guess(node) if kind is Any else MISSING


def _guess(node: Scalar) -> Any:
    """A value whose type nobody knows (a free mapping such as model_init_kwargs), by YAML 1.2's rules."""
    if not node.plain:
        return node.text
    if node.is_null:
        return None
    if node.text.lower() in ("true", "false"):
        return node.text.lower() == "true"
    if _INT.fullmatch(node.text):
        return int(node.text)
    return float(node.text) if _FLOAT.fullmatch(node.text) else node.text


def _written(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
