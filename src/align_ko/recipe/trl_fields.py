"""The fields of TRL's SFTConfig and DPOConfig, read from source without importing trl.

Importing trl takes about 15 seconds; reading four files of it and of transformers with `ast` takes a tenth of one. So a
misspelt training option is told at once, on any machine.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Optional, Union, get_args, get_origin

from align_ko.errors import UserError, missing_package

HOMES = {"SFTConfig": "trl.trainer.sft_config", "DPOConfig": "trl.trainer.dpo_config"}
Kind = Any  # a type, or what typing builds of types: mypy has no word for it yet (PEP 747)
NO_DEFAULT = object()
_PLAIN_TYPES: dict[str, Kind] = {
    "str": str, "int": int, "float": float, "bool": bool, "Any": Any, "dict": dict, "Dict": dict, "list": list,
    "List": list, "Optional": Optional, "Union": Union, "Literal": Literal,
}  # fmt: skip


def origin_of(kind: Kind) -> Kind:
    """`list[int]` → list, `int` → None."""
    return get_origin(kind)


@dataclass(frozen=True)
class ConfigField:
    """One option: its type as a typing object (an Enum as a Literal of its values) and its default, where readable."""

    name: str
    type: Kind
    default: object
    help: str


@functools.cache
def config_fields(class_name: str) -> dict[str, ConfigField]:
    """Every field that the installed SFTConfig or DPOConfig accepts, in its order, inherited ones first.

    >>> config_fields("SFTConfig")["learning_rate"].type
    <class 'float'>
    """
    try:
        return _fields(HOMES[class_name], class_name)
    except LookupError as error:
        versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("trl", "transformers"))
        raise UserError(f"cannot read the fields of {class_name} in {versions}: {error}") from None


def _fields(module: str, class_name: str) -> dict[str, ConfigField]:
    module, definition = _find_class(module, class_name)
    fields: dict[str, ConfigField] = {}
    for base in reversed(definition.bases):
        if isinstance(base, ast.Name) and base.id != "object":
            fields |= _fields(module, base.id)
    for statement in definition.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            if ast.unparse(statement.annotation).startswith(("ClassVar", "typing.ClassVar", "InitVar")):
                continue
            field = _field(module, statement.target.id, statement.annotation, statement.value)
            fields[field.name] = field
    return fields


def _field(module: str, name: str, annotation: ast.expr, value: ast.expr | None) -> ConfigField:
    """`x: int = 3`, `x: int = field(default=3, metadata={"help": …, "choices": […]})`, `default_factory=lambda: …`."""
    keywords: dict[str, ast.expr] = {}
    if isinstance(value, ast.Call):
        keywords = {keyword.arg: keyword.value for keyword in value.keywords if keyword.arg}
    elif value is not None:
        keywords = {"default": value}
    default: object = NO_DEFAULT
    if "default" in keywords:
        default = _literal(keywords["default"])
    elif isinstance(factory := keywords.get("default_factory"), ast.Lambda):
        default = _literal(factory.body)
    elif isinstance(factory, ast.Name) and factory.id in ("list", "dict"):
        default = [] if factory.id == "list" else {}
    metadata = keywords.get("metadata")
    notes: dict[str, object] = {}
    if isinstance(metadata, ast.Dict):
        pairs = zip(metadata.keys, metadata.values, strict=True)
        notes = {str(_literal(key)): _literal(item) for key, item in pairs if key}
    kind = _type(module, annotation)
    choices = notes.get("choices")
    if kind is str and isinstance(choices, list | tuple):
        kind = Literal[tuple(choices)]
    return ConfigField(name, kind, default, str(notes.get("help", "")))


def _literal(node: ast.expr) -> object:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return NO_DEFAULT


class _Names(dict[str, Kind]):
    """What an annotation may name; a class that a YAML file cannot write is Any."""

    def __init__(self, module: str) -> None:
        super().__init__(_PLAIN_TYPES)
        self.module = module

    def __missing__(self, name: str) -> Kind:
        return _enum_values(self.module, name)


def _type(module: str, annotation: ast.expr) -> Kind:
    """An annotation as a typing object. The text is that of an installed package, which training imports anyway."""
    text = str(annotation.value) if isinstance(annotation, ast.Constant) else ast.unparse(annotation)
    try:
        kind = eval(text, {"__builtins__": {}}, _Names(module))
    except (AttributeError, TypeError):  # torch.dtype
        return Any
    members = get_args(kind) if origin_of(kind) in (Union, types.UnionType) else (kind,)
    if Any in members:
        return Any
    # `IntervalStrategy | str` means one of the strategy's names: the config turns the text into the enum at once.
    if any(origin_of(member) is Literal and isinstance(get_args(member)[0], str) for member in members):
        members = tuple(member for member in members if member is not str)
    return Union[members]  # noqa: UP007 - built at run time


def _enum_values(module: str, name: str) -> Kind:
    try:
        _, definition = _find_class(module, name)
    except LookupError:
        return Any
    if not any("Enum" in ast.unparse(base) for base in definition.bases):
        return Any
    values = [_literal(item.value) for item in definition.body if isinstance(item, ast.Assign)]
    return Literal[tuple(value for value in values if isinstance(value, str))]


def _find_class(module: str, name: str) -> tuple[str, ast.ClassDef]:
    """The class `name` as seen from `module`, through `from … import`; also in TYPE_CHECKING blocks (lazy packages)."""
    seen: set[str] = set()
    while module not in seen:
        seen.add(module)
        classes, imports, is_package = _module(module)
        if name in classes:
            return module, classes[name]
        if name not in imports:
            break
        level, origin, name = imports[name]
        if level:
            parts = module.split(".")
            kept = parts[: len(parts) - level + is_package]
            module = ".".join([*kept, origin] if origin else kept)
        else:
            module = origin
    raise LookupError(f"no class {name} in {module}")


@functools.cache
def _module(name: str) -> tuple[dict[str, ast.ClassDef], dict[str, tuple[int, str, str]], bool]:
    """Classes of a module, what it imports from where, and whether it is a package."""
    package, _, rest = name.partition(".")
    spec = importlib.util.find_spec(package)  # a dotted name would import the package
    if spec is None or not spec.submodule_search_locations:
        raise missing_package(package)
    path = Path(spec.submodule_search_locations[0], *rest.split("."))
    is_package = path.is_dir()
    file = path / "__init__.py" if is_package else path.with_suffix(".py")
    if not file.is_file():
        raise LookupError(f"no file {file}")
    tree = ast.parse(file.read_text(encoding="utf-8"))
    classes = {item.name: item for item in tree.body if isinstance(item, ast.ClassDef)}
    imports: dict[str, tuple[int, str, str]] = {}
    blocks: list[ast.stmt] = list(tree.body)
    for item in blocks:
        if isinstance(item, ast.If):
            blocks.extend([*item.body, *item.orelse])
        elif isinstance(item, ast.ImportFrom):
            for alias in item.names:
                imports[alias.asname or alias.name] = (item.level, item.module or "", alias.name)
    return classes, imports, is_package
