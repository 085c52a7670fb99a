"""What recipe records are made of: the ranges that fields name, and how a field's type and range read in a message.

    @record
    class EarlyStopping:
        patience: AtLeastOne = 1
        \"""Evaluations with a risen eval loss before training stops.\"""

pydantic checks a record wherever it is built. Values from a file are text until the field's type is known.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import math
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import pairwise
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
)

from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic import BeforeValidator, ConfigDict, Field, FiniteFloat, GetCoreSchemaHandler
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from align_ko.errors import nearest
from align_ko.recipe.trl_fields import NO_DEFAULT, Kind, config_fields, origin_of
from align_ko.recipe.yaml_lines import Table, Word

T = TypeVar("T")
MISSING = NO_DEFAULT
LARGEST = 2**63 - 1
# defer_build: importing the records takes 10 ms, building all validators 200.
CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def record(cls: type[T]) -> type[T]:
    """A frozen dataclass that pydantic checks and that takes no unknown key."""
    return cast(type[T], pydantic_dataclass(frozen=True, config=CONFIG)(cls))


# -------------------- types of fields


def _yes_or_no(value: object) -> object:
    if not isinstance(value, str):
        return value
    if value.lower() not in ("true", "yes", "on", "false", "no", "off"):
        raise PydanticCustomError("bool_parsing", "not true or false")
    return value.lower() in ("true", "yes", "on")


def _guess(value: object) -> object:
    """A value of a mapping with free content, by YAML 1.2's rules: `5e-7` → 5e-07, `no` → "no", `"5"` → "5"."""
    if isinstance(value, dict):
        return {key: _guess(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_guess(item) for item in value]
    if not isinstance(value, Word):
        return value
    if value.lower() in ("true", "false"):
        return value.lower() == "true"
    if re.fullmatch(r"[+-]?[0-9][0-9_]*", value) and len(value) < 20:
        return int(value)
    is_number = re.fullmatch(r"[+-]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)([eE][+-]?[0-9]+)?", value)
    if is_number and math.isinf(float(value)):
        raise PydanticCustomError("finite_number", "not finite")
    return float(value) if is_number else str(value)


YesNo = Annotated[bool, BeforeValidator(_yes_or_no)]
"""true or false; yes, no, on and off too, never 1 or 0."""
Free = Annotated[Any, BeforeValidator(_guess)]
"""A value of a mapping whose keys are not ours."""
Text = Annotated[str, MinLen(1)]
Positive = Annotated[float, Gt(0)]
NotNegative = Annotated[float, Ge(0)]
Share = Annotated[float, Ge(0), Le(1)]
ShareBelowOne = Annotated[float, Ge(0), Lt(1)]
ShareAboveZero = Annotated[float, Gt(0), Le(1)]
AtLeastOne = Annotated[int, Ge(1), Le(LARGEST)]
ZeroOrMore = Annotated[int, Ge(0), Le(LARGEST)]
Seed = Annotated[int, Ge(0), Le(2**32 - 1)]
Dtype = Literal["auto", "bfloat16", "float16", "float32"]


# -------------------- the mapping `training`


Ranges = dict[str, tuple[object, ...]]
"""Name pattern → limits of its numbers."""


@dataclass(frozen=True)
class TrlConfig:
    """In an annotation: a mapping of fields of this TRL config, with our ranges."""

    name: str
    ranges: Ranges = dataclasses.field(compare=False)

    def type_of(self, name: str) -> Kind:
        limits = next((limits for pattern, limits in self.ranges.items() if fnmatchcase(name, pattern)), ())
        return _limited(config_fields(self.name)[name].type, limits)

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        schemas = {name: handler.generate_schema(_from_text(self.type_of(name))) for name in config_fields(self.name)}
        fields = {name: core_schema.typed_dict_field(schema, required=False) for name, schema in schemas.items()}
        return core_schema.typed_dict_schema(fields, extra_behavior="forbid")


def _limited(kind: Kind, limits: tuple[object, ...]) -> Kind:
    if origin_of(kind) in (Union, types.UnionType):
        return Union[tuple(_limited(member, limits) for member in get_args(kind))]  # noqa: UP007 - built at run time
    if origin_of(kind) is list:
        return list[_limited(get_args(kind)[0], limits)]  # type: ignore[misc]
    return Annotated[kind, *limits] if limits and kind in (int, float) else kind


def _from_text(kind: Kind) -> Kind:
    """`kind` as pydantic shall read it from text. A whole number under a float stays one: transformers tells
    `save_steps: 100` and `save_steps: 0.1` apart by that. A bare word is text only when nothing else fits."""
    origin, members = origin_of(kind), get_args(kind)
    if origin is Annotated:
        return Annotated[_from_text(members[0]), *members[1:]]
    if origin in (Union, types.UnionType):
        ordered = sorted(members, key=lambda member: member is str)
        kind = Union[tuple(_from_text(member) for member in ordered)]  # noqa: UP007
        several = len([member for member in members if member is not type(None)]) > 1
        return Annotated[kind, Field(union_mode="left_to_right")] if several else kind
    if origin is list or origin is tuple:
        return list[_from_text(members[0])]  # type: ignore[misc]
    if origin is dict:
        return dict[str, _from_text(members[1])]  # type: ignore[misc]
    whole = Annotated[int, Ge(-LARGEST), Le(LARGEST)]
    either = Annotated[whole | FiniteFloat, Field(union_mode="left_to_right")]
    return {int: whole, float: either, bool: YesNo, Any: Free, dict: dict[str, Free], list: list[Free]}.get(kind, kind)


# -------------------- what a stage's recipe says about itself


class Problem(NamedTuple):
    """Values that fit their types and still cannot work together; `key` is dotted."""

    key: str
    problem: str
    expected: str | None = None
    nearest: str | None = None


class InputPath(NamedTuple):
    """A file or model that the stage reads; `made_by` is the script and stage that write it ("run_sft.py sft")."""

    key: str
    value: str
    kind: Literal["dataset", "model", "template", "file"]
    made_by: str = ""


class Recipe:
    """Base of the records that a file holds whole."""

    tree: ClassVar[Table | None] = None
    """What was written, with places; load.py sets it on each recipe that it reads."""

    def problems(self) -> Iterator[Problem]:
        """Checks that concern several keys."""
        yield from ()

    def inputs(self) -> Iterator[InputPath]:
        """What has to exist before the stage starts."""
        yield from ()


# -------------------- keys and types as data


@dataclass(frozen=True)
class Key:
    """One key of a mapping: its type, its default (MISSING where the recipe must give it) and its docstring."""

    type: Kind
    default: object
    help: str = ""


@functools.cache
def keys_of(owner: Kind) -> dict[str, Key]:
    """The keys of a record or of a TRL config, in order."""
    if isinstance(owner, TrlConfig):
        return {name: Key(owner.type_of(name), item.default, item.help) for name, item in config_fields(owner.name).items()}
    notes, keys = _docstrings(owner), {}
    for name, item in owner.__pydantic_fields__.items():
        kind = Annotated[item.annotation, *item.metadata] if item.metadata else item.annotation
        default = MISSING if item.is_required() else item.get_default(call_default_factory=True)
        keys[name] = Key(kind, default, notes.get(name, ""))
    return keys


def _docstrings(owner: Kind) -> dict[str, str]:
    """The strings below the fields of a class; pydantic's own reading would parse the file once for each class."""
    notes: dict[str, str] = {}
    for above in reversed(owner.__mro__):
        for field, note in pairwise(_class_bodies(above.__module__).get(above.__name__, [])):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(note, ast.Expr):
                notes[field.target.id] = " ".join(str(getattr(note.value, "value", "")).split())
    return notes


@functools.cache
def _class_bodies(module: str) -> dict[str, list[ast.stmt]]:
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None or module == "builtins":
        return {}
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return {item.name: item.body for item in tree.body if isinstance(item, ast.ClassDef)}


def parts(kind: Kind) -> tuple[Kind, ...]:
    """The members of a union, or the type alone; without what `Annotated` adds, but for a TRL config."""
    if origin_of(kind) is Annotated:
        inner, *notes = get_args(kind)
        config = next((note for note in notes if isinstance(note, TrlConfig)), None)
        return (config,) if config else parts(inner)
    if origin_of(kind) in (Union, types.UnionType):
        return tuple(part for member in get_args(kind) for part in parts(member))
    return (kind,)


def record_of(kind: Kind) -> Kind | None:
    """The record or TRL config in `kind` or in `kind | None`, if there is one."""
    return next((part for part in parts(kind) if isinstance(part, TrlConfig) or dataclasses.is_dataclass(part)), None)


def dict_values(kind: Kind) -> Kind | None:
    """The type of the values where `kind` is a mapping with free keys, else None."""
    found = [part for part in parts(kind) if (origin_of(part) or part) is dict]
    return (get_args(found[0]) or (str, Any))[1] if found else None


def list_items(kind: Kind) -> Kind | None:
    """The type of the items where a list is allowed, else None."""
    found = [part for part in parts(kind) if (origin_of(part) or part) in (list, tuple)]
    return (get_args(found[0]) or (Any,))[0] if found else None


def type_at(owner: Kind, steps: tuple[str | int, ...]) -> Kind:
    """The type of the value that `steps` lead to from a record; Any in a mapping with free content."""
    kind = owner
    for step in steps:
        inside = record_of(kind)
        if inside is not None:
            key = keys_of(inside).get(str(step))
            kind = key.type if key else Any
        else:
            kind = (list_items(kind) if isinstance(step, int) else dict_values(kind)) or Any
    return kind


@functools.cache
def dotted_names(owner: Kind) -> tuple[str, ...]:
    """Dotted names of all keys of `owner` outside mappings with free keys."""
    names: list[str] = []
    for name, key in keys_of(owner).items():
        below = record_of(key.type)
        names += [name, *(f"{name}.{item}" for item in dotted_names(below))] if below is not None else [name]
    return tuple(names)


def describe(kind: Kind) -> str:
    """A type in words: "a whole number or null"."""
    return " or ".join(_describe_part(part) for part in parts(kind))


_WORDS = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", Any: "any value", type(None): "null",
}  # fmt: skip


def _describe_part(part: Kind) -> str:
    if origin_of(part) is Literal:
        return "one of " + ", ".join(str(value).lower() if isinstance(value, bool) else str(value) for value in get_args(part))
    if (item := list_items(part)) is not None:
        return "a list" if item is Any else f"a list ({describe(item)})"
    return _WORDS.get(part) or ("a mapping" if dict_values(part) is not None else "a mapping of keys to values")


def range_words(kind: Kind) -> str:
    """The range of a type in words, empty where it has none: `Share` → "a share from 0 to 1"."""
    match _limits(kind):
        case {"ge": 0, "le": 1}:
            return "a share from 0 to 1"
        case {"ge": 0, "lt": 1}:
            return "a share from 0 up to, but not including, 1"
        case {"gt": 0, "le": 1}:
            return "a share above 0, up to 1"
        case {"ge": low, "le": high} if high != LARGEST:
            return f"a whole number from {low} to {high}"
        case {"gt": low}:
            return f"a number above {low}"
        case {"ge": low}:
            return f"{low} or more"
        case {"min_length": _}:
            return "text that is not empty"
    return ""


def _limits(kind: Kind) -> dict[str, float]:
    limits: dict[str, float] = {}
    if origin_of(kind) in (Union, types.UnionType, Annotated):
        for item in get_args(kind):
            limits |= dataclasses.asdict(item) if isinstance(item, Gt | Ge | Lt | Le | MinLen) else _limits(item)
    return limits


def suggest(name: str, owner: Kind, root: Kind, renamed: dict[str, str]) -> tuple[str | None, str | None]:
    """(expected, nearest) for a key that `owner` lacks: its new name, a near one, or where in `root` it belongs."""
    keys = keys_of(owner)
    close = renamed[name] if renamed.get(name) in keys else nearest(name, keys)
    if close is None:
        wanted = (name, renamed.get(name))
        close = next((item for item in dotted_names(root) if item.rpartition(".")[2] in wanted), None)
    if close:
        return None, close
    return f"a field of {owner.name}" if isinstance(owner, TrlConfig) else "one of " + ", ".join(keys), None
