"""The fields of TRL's SFTConfig and DPOConfig, read from source without importing trl.

Importing trl takes about 15 seconds; reading four files of it and of transformers with `ast` takes a tenth of one. So a
misspelt training option is told at once, on any machine.
"""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Union

from align_ko.errors import UserError, missing_package

HOMES = {"SFTConfig": "trl.trainer.sft_config", "DPOConfig": "trl.trainer.dpo_config"}
NO_DEFAULT = object()
_PLAIN_TYPES: dict[str, Any] = {
    "str": str, "int": int, "float": float, "bool": bool, "None": None, "Any": Any,
    "dict": dict, "Dict": dict, "list": list, "List": list, "tuple": tuple, "Tuple": tuple,
}  # fmt: skip


@dataclass(frozen=True)
class ConfigField:
    """One option: its type as a typing object (an Enum as a Literal of its values) and its default, where readable."""

    name: str
    type: Any
    default: Any
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
    default: Any = NO_DEFAULT
    if "default" in keywords:
        default = _literal(keywords["default"])
    elif isinstance(factory := keywords.get("default_factory"), ast.Lambda):
        default = _literal(factory.body)
    elif isinstance(factory, ast.Name) and factory.id in ("list", "dict"):
        default = [] if factory.id == "list" else {}
    metadata = keywords.get("metadata")
    notes: dict[str, Any] = {}
    if isinstance(metadata, ast.Dict):
        pairs = zip(metadata.keys, metadata.values, strict=True)
        notes = {str(_literal(key)): _literal(item) for key, item in pairs if key}
    kind = _type(module, annotation)
    choices = notes.get("choices")
    if kind is str and isinstance(choices, list | tuple):
        kind = Literal[tuple(choices)]
    return ConfigField(name, kind, default, str(notes.get("help", "")))


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return NO_DEFAULT


def _type(module: str, node: ast.expr) -> Any:
    """An annotation as a typing object; a class that a YAML file cannot write becomes Any."""
    if isinstance(node, ast.Constant):
        return _type(module, ast.parse(node.value, mode="eval").body) if isinstance(node.value, str) else node.value
    if isinstance(node, ast.BinOp):
        return _union([_type(module, node.left), _type(module, node.right)])
    if isinstance(node, ast.Subscript):
        name = ast.unparse(node.value).removeprefix("typing.")
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if name == "Literal":
            return Literal[tuple(ast.literal_eval(item) for item in inner)]
        if name in ("Union", "Optional"):
            return _union([_type(module, item) for item in inner] + ([None] if name == "Optional" else []))
        if name in ("list", "List"):
            return list[_type(module, inner[0])]  # type: ignore[misc]
        if name in ("dict", "Dict"):
            return dict[str, _type(module, inner[1])]  # type: ignore[misc]
        return _PLAIN_TYPES.get(name, Any)
    if isinstance(node, ast.Name):
        if node.id in _PLAIN_TYPES:
            return _PLAIN_TYPES[node.id]
        return _enum_values(module, node.id)
    return Any


def _union(kinds: list[Any]) -> Any:
    """`IntervalStrategy | str` means one of the strategy's names: the config turns the text into the enum at once."""
    if str in kinds and any(getattr(kind, "__origin__", None) is Literal for kind in kinds):
        named = [kind for kind in kinds if getattr(kind, "__origin__", None) is Literal]
        if all(isinstance(value, str) for kind in named for value in kind.__args__):
            kinds = [kind for kind in kinds if kind is not str]
    return Any if Any in kinds else Union[tuple(kinds)]  # noqa: UP007 - built at run time


def _enum_values(module: str, name: str) -> Any:
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
