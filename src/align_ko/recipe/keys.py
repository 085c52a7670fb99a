"""Which keys a recipe may hold: those of its dataclass and, under `training`, those of TRL's config."""

from __future__ import annotations

import ast
import dataclasses
import functools
import sys
import types
from collections.abc import Callable
from dataclasses import MISSING, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

from align_ko.errors import nearest
from align_ko.recipe.fields import DpoRecipe, SftRecipe
from align_ko.recipe.trl_fields import config_fields


@dataclass(frozen=True)
class TrlConfig:
    """Stands where a type would: a mapping whose keys are the fields of this TRL config."""

    name: str


TRAINING_CONFIGS: dict[Any, TrlConfig] = {SftRecipe: TrlConfig("SFTConfig"), DpoRecipe: TrlConfig("DPOConfig")}

RENAMED = {
    "warmup_ratio": "warmup_steps",
    "max_seq_length": "max_length",
    "max_prompt_length": "max_length",
    "evaluation_strategy": "eval_strategy",
    "group_by_length": "train_sampling_strategy",
    "per_gpu_train_batch_size": "per_device_train_batch_size",
    "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "no_cuda": "use_cpu",
    "num_epochs": "num_train_epochs",
    "epochs": "num_train_epochs",
    "lr": "learning_rate",
    "batch_size": "per_device_train_batch_size",
    "torch_dtype": "dtype",
}
"""Keys of older recipes, whose present name no comparison of spelling would find."""


@dataclass(frozen=True)
class Key:
    """One key of a mapping: its type, what makes its default (None: the recipe must give it) and its docstring."""

    type: Any
    default: Callable[[], Any] | None
    help: str = ""


@functools.cache
def keys_of(record: Any) -> dict[str, Key]:
    """The keys of a dataclass or of a TRL config, in order."""
    if isinstance(record, TrlConfig):
        fields = config_fields(record.name)
        return {name: Key(item.type, _always(item.default), item.help) for name, item in fields.items()}
    hints, notes = get_type_hints(record), _docstrings(record)
    keys = {}
    for item in dataclasses.fields(record):
        kind = TRAINING_CONFIGS[record] if item.name == "training" and record in TRAINING_CONFIGS else hints[item.name]
        default: Callable[[], Any] | None = None
        if item.default_factory is not MISSING:
            default = item.default_factory
        elif item.default is not MISSING:
            default = _always(item.default)
        keys[item.name] = Key(kind, default, notes.get(item.name, ""))
    return keys


def parts(kind: Any) -> tuple[Any, ...]:
    """The members of a union, or the type alone."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def record_of(kind: Any) -> Any | None:
    """The dataclass or TrlConfig in `kind` or in `kind | None`, if there is one."""
    for part in parts(kind):
        if isinstance(part, TrlConfig) or dataclasses.is_dataclass(part):
            return part
    return None


def dict_values(kind: Any) -> Any | None:
    """The type of the values where `kind` is a mapping with free keys, else None."""
    for part in parts(kind):
        if part is dict or get_origin(part) is dict:
            return (get_args(part) or (str, Any))[1]
    return None


def list_items(kind: Any) -> Any | None:
    """The type of the items where a list may stand, else None."""
    for part in parts(kind):
        if (get_origin(part) or part) in (list, tuple):
            return (get_args(part) or (Any,))[0]
    return None


@functools.cache
def dotted_names(record: Any) -> tuple[str, ...]:
    """Dotted names of all keys below `record` that no free mapping stands above."""
    names: list[str] = []
    for name, key in keys_of(record).items():
        names.append(name)
        if (below := record_of(key.type)) is not None:
            names.extend(f"{name}.{item}" for item in dotted_names(below))
    return tuple(names)


def suggest(name: str, record: Any, root: Any) -> tuple[str | None, str | None]:
    """(expected, nearest) for a key that `record` lacks: its new name, a near one, or where in `root` it belongs."""
    keys = keys_of(record)
    close = RENAMED[name] if RENAMED.get(name) in keys else nearest(name, keys)
    if close is None:
        wanted = (name, RENAMED.get(name))
        close = next((item for item in dotted_names(root) if item.rpartition(".")[2] in wanted), None)
    if close:
        return None, close
    return f"a field of {record.name}" if isinstance(record, TrlConfig) else "one of " + ", ".join(keys), None


def _always(value: Any) -> Callable[[], Any]:
    return lambda: value


def _docstrings(record: Any) -> dict[str, str]:
    """The strings written below the fields of a dataclass; inspect.getsource would tokenise the file for each class."""
    notes: dict[str, str] = {}
    body = _class_bodies(record.__module__).get(record.__name__, [])
    for field, note in pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and isinstance(note, ast.Expr):
            notes[field.target.id] = " ".join(str(getattr(note.value, "value", "")).split())
    return notes


@functools.cache
def _class_bodies(module: str) -> dict[str, list[ast.stmt]]:
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return {}
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return {item.name: item.body for item in tree.body if isinstance(item, ast.ClassDef)}
