"""What recipe records are made of: the decorator, the base class, and TRL's own options.

    @record
    class EarlyStopping:
        patience: fields.AtLeastOne = 1
        \"""Evaluations with a risen eval loss before training stops.\"""

The fields of TRL's configs are read from source with `ast`, in a tenth of the 15 seconds that importing trl takes, so that a
misspelt option is reported at once."""

from __future__ import annotations

import ast
import dataclasses
import functools
import importlib.metadata
import importlib.util
import types
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import (
    Annotated,
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Optional,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
)

from annotated_types import Ge, Gt, Le, Lt
from pydantic import AfterValidator, ConfigDict, Field, GetCoreSchemaHandler
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import CoreSchema, core_schema

from align_ko.errors import UserError, missing_package, nearest
from align_ko.recipe.fields import Free, TrlNumber, Whole, YesNo
from align_ko.recipe.yaml_lines import Tree

T = TypeVar("T")
Kind = Any  # a type, or what typing builds of types: mypy has no word for it yet (PEP 747)
MISSING = object()
# defer_build: importing the records takes 10 ms, building all validators 200.
CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False, defer_build=True)


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def record(cls: type[T]) -> type[T]:
    """A frozen dataclass that pydantic checks and that takes no unknown key."""
    return cast(type[T], pydantic_dataclass(frozen=True, config=CONFIG)(cls))


# -------------------- what a stage's recipe says about itself


@dataclass(frozen=True)
class Key:
    """One key of a mapping: its type, its default (MISSING where there is none or it cannot be read) and its meaning."""

    type: Kind
    default: object
    help: str = ""


class Problem(NamedTuple):
    """Values that fit their types and still cannot work together; `key` is dotted."""

    key: str
    problem: str
    expected: str | None = None
    nearest: str | None = None


def unknown_name(key: str, problem: str, name: str, choices: Iterable[str]) -> Problem:
    """`name` is none of `choices`: the nearest of them, else all."""
    close = nearest(name, choices)
    return Problem(key, problem, None if close else "one of " + ", ".join(choices), close)


class InputPath(NamedTuple):
    """A file or model that the stage reads; `made_by` is the script and stage that write it ("run_sft sft")."""

    key: str
    value: str
    kind: Literal["dataset", "rows", "model", "template", "file"]
    """rows: a file or a folder of them; dataset: that or a hub id."""
    made_by: str = ""


def files(key: str, paths: tuple[str, ...], made_by: str = "") -> Iterator[InputPath]:
    for number, file in enumerate(paths):
        yield InputPath(f"{key}[{number}]", file, "file", made_by)


class Recipe:
    """Base of the records that a file contains whole."""

    tree: ClassVar[Tree | None] = None
    """What was written, with places; load.py sets it on each recipe that it reads."""

    def problems(self) -> Iterator[Problem]:
        """Checks that concern several keys."""
        yield from ()

    def inputs(self) -> Iterator[InputPath]:
        """What has to exist before the stage starts."""
        yield from ()


# -------------------- the mapping `training`: fields of a TRL config, with ranges that TRL checks late or never


def _not_zero(value: int) -> int:
    if value == 0:
        raise ValueError("1 or more, or -1 for whole epochs")
    return value


TRAINING_RANGES: dict[str, tuple[object, ...]] = {
    "learning_rate": (Gt(0),), "num_train_epochs": (Gt(0),), "max_steps": (Ge(-1), AfterValidator(_not_zero)),
    "per_device_*_batch_size": (Ge(1),), "gradient_accumulation_steps": (Ge(1),), "*_steps": (Ge(0),),
    "save_total_limit": (Ge(1),), "weight_decay": (Ge(0),), "max_grad_norm": (Ge(0),), "max_length": (Ge(1),),
    "GRPOConfig.beta": (Ge(0),), "beta": (Gt(0),), "loss_weights": (Ge(0),), "label_smoothing*": (Ge(0), Lt(1)),
    "ld_alpha": (Ge(0), Le(1)), "*seed": (Ge(0), Le(2**32 - 1)), "num_generations": (Ge(2),), "num_generations_eval": (Ge(1),),
    "max_completion_length": (Ge(1),), "temperature": (Gt(0),), "top_p": (Gt(0), Le(1)), "steps_per_generation": (Ge(1),),
    "num_iterations": (Ge(1),), "epsilon*": (Ge(0),),
}  # fmt: skip
"""Name pattern, or Config.name → limits of its numbers; the first that fits counts."""
_FILES = {
    "trl": ("trainer/base_config.py", "trainer/sft_config.py", "trainer/dpo_config.py", "trainer/grpo_config.py"),
    "transformers": ("training_args.py", "trainer_utils.py", "debug_utils.py"),
}
"""Where the configs, their bases and the enums of their fields are."""
_TYPES: dict[str, Kind] = {
    "str": str, "int": Whole, "float": TrlNumber, "bool": YesNo, "Any": Free, "dict": dict, "Dict": dict, "list": list,
    "List": list, "Optional": Optional, "Union": Union, "Literal": Literal,
}  # fmt: skip


@dataclass(frozen=True)
class TrlConfig:
    """In an annotation: a mapping of fields of this TRL config."""

    name: Literal["SFTConfig", "DPOConfig", "GRPOConfig"]

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        fields = {
            name: core_schema.typed_dict_field(handler.generate_schema(key.type), required=False)
            for name, key in config_fields(self.name).items()
        }
        return core_schema.typed_dict_schema(fields, extra_behavior="forbid")


@functools.cache
def config_fields(class_name: str) -> dict[str, Key]:
    """Every field that the installed SFTConfig, DPOConfig or GRPOConfig accepts, in its order, inherited ones first, with
    default and help."""
    try:
        return _fields(class_name)
    except LookupError as error:
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("trl", "transformers"))
        raise UserError(f"cannot read the fields of {class_name} in {versions}: {error} not found") from None


@functools.cache
def _classes() -> dict[str, ast.ClassDef]:
    classes: dict[str, ast.ClassDef] = {}
    for package, files in _FILES.items():
        spec = importlib.util.find_spec(package)
        if spec is None or not spec.submodule_search_locations:
            raise missing_package(package)
        for path in (Path(spec.submodule_search_locations[0], file) for file in files):
            tree = ast.parse(path.read_text(encoding="utf-8") if path.is_file() else "")
            classes |= {item.name: item for item in tree.body if isinstance(item, ast.ClassDef)}
    return classes


def _fields(class_name: str) -> dict[str, Key]:
    definition, fields = _classes()[class_name], dict[str, Key]()
    for base in reversed(definition.bases):
        if isinstance(base, ast.Name) and base.id != "object":
            fields |= _fields(base.id)
    for statement in definition.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if ast.unparse(statement.annotation).startswith(("ClassVar", "typing.ClassVar", "InitVar")):
                continue
            name = statement.target.id
            fields[name] = _field(f"{class_name}.{name}", statement.annotation, statement.value)
    return fields


def _field(name: str, annotation: ast.expr, value: ast.expr | None) -> Key:
    """`x: int = 3`, `x: int = field(default=3, metadata={"help": …, "choices": […]})`, `default_factory=lambda: …`."""
    written = {"default": value} if value is not None else {}
    if isinstance(value, ast.Call):
        written = {keyword.arg: keyword.value for keyword in value.keywords if keyword.arg}
    default = _literal(written.get("default"))
    if isinstance(factory := written.get("default_factory"), ast.Lambda):
        default = _literal(factory.body)
    elif isinstance(factory, ast.Name) and factory.id in ("list", "dict"):
        default = [] if factory.id == "list" else {}
    notes: dict[object, object] = {}
    if isinstance(metadata := written.get("metadata"), ast.Dict):
        notes = {_literal(key): _literal(item) for key, item in zip(metadata.keys, metadata.values, strict=True)}
    kind = _type(annotation)
    if kind is str and isinstance(choices := notes.get("choices"), list | tuple):
        kind = Literal[tuple(choices)]
    names = name, name.rpartition(".")[2]
    limits = next((each for pattern, each in TRAINING_RANGES.items() if any(fnmatchcase(n, pattern) for n in names)), ())
    return Key(_limited(kind, limits), default, str(notes.get("help", "")))


def _literal(node: ast.expr | None) -> object:
    try:
        return MISSING if node is None else ast.literal_eval(node)
    except ValueError:
        return MISSING


class _Names(dict[str, Kind]):
    """What an annotation may name: an Enum is a Literal of its values, a class that a YAML file cannot write is Free."""

    def __missing__(self, name: str) -> Kind:
        definition = _classes().get(name)
        if definition is None or not any("Enum" in ast.unparse(base) for base in definition.bases):
            return Free
        values = [_literal(item.value) for item in definition.body if isinstance(item, ast.Assign)]
        return Literal[tuple(value for value in values if isinstance(value, str))]


def origin_of(kind: Kind) -> Kind:
    """`list[int]` → list, `int` → None; mypy takes get_origin's argument for a ParamSpec."""
    return get_origin(kind)


def is_union(kind: Kind) -> bool:
    """`int | None`, `Union[int, str]` and `Optional[int]`."""
    return origin_of(kind) in (Union, types.UnionType)


def _type(annotation: ast.expr) -> Kind:
    """An annotation as pydantic shall read it from text. The code is that of an installed package, which training imports."""
    text = str(annotation.value) if isinstance(annotation, ast.Constant) else ast.unparse(annotation)
    try:
        kind = eval(text, {"__builtins__": {}}, _Names(_TYPES))
    except (AttributeError, TypeError):  # torch.dtype
        return Free
    members = get_args(kind) if is_union(kind) else (kind,)
    if Free in members:
        return Free
    # `IntervalStrategy | str` means one of the strategy's names: the config turns the text into the enum at once.
    has_names = any(origin_of(member) is Literal and isinstance(get_args(member)[0], str) for member in members)
    bare: dict[Kind, Kind] = {dict: dict[str, Free], list: list[Free]}
    members = tuple(bare.get(member, member) for member in members if not (has_names and member is str))
    last = (str, type(None))  # a bare word is text only when nothing else fits
    in_order = sorted(members, key=lambda member: last.index(member) if member in last else -1)
    return _ordered_union(in_order)


def _ordered_union(members: list[Kind]) -> Kind:
    union: Kind = Union[tuple(members)]  # noqa: UP007 - built at run time
    several = len([member for member in members if member is not type(None)]) > 1
    return Annotated[union, Field(union_mode="left_to_right")] if several and is_union(union) else union


def _limited(kind: Kind, limits: tuple[object, ...]) -> Kind:
    inner = get_args(kind)[0] if origin_of(kind) is Annotated else kind
    if is_union(inner):
        return _ordered_union([_limited(member, limits) for member in get_args(inner)])
    if origin_of(kind) is list:
        return list[_limited(get_args(kind)[0], limits)]  # type: ignore[misc]
    return Annotated[kind, *limits] if limits and kind in (Whole, TrlNumber) else kind
