"""The keys of a recipe: their types in words, each of them as a flag (`--model.lora_r 8`), and `--help`. The values of flags
stay text, so that a mistake reads the same as in the file."""

from __future__ import annotations

import ast
import dataclasses
import functools
import os
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from shutil import get_terminal_size
from typing import Annotated, Any, Literal, get_args

from annotated_types import Ge, Gt, Le, Lt

from align_ko.errors import UserError, nearest
from align_ko.recipe.fields import LARGEST
from align_ko.recipe.record import MISSING, Key, Kind, TrlConfig, config_fields, is_union, origin_of
from align_ko.recipe.yaml_lines import COMMAND_LINE, Place, Steps, Tree, parse_flag, text_of, word_or_null

RENAMED = {
    "warmup_ratio": "warmup_steps", "max_seq_length": "max_length", "max_prompt_length": "max_length",
    "evaluation_strategy": "eval_strategy", "group_by_length": "train_sampling_strategy", "no_cuda": "use_cpu",
    "per_gpu_train_batch_size": "per_device_train_batch_size", "per_gpu_eval_batch_size": "per_device_eval_batch_size",
    "num_epochs": "num_train_epochs", "epochs": "num_train_epochs", "lr": "learning_rate",
    "batch_size": "per_device_train_batch_size", "torch_dtype": "dtype",
}  # fmt: skip
"""Keys of older recipes, whose present name no comparison of spelling would find."""


@functools.cache
def keys_of(owner: Kind) -> dict[str, Key]:
    """The keys of a record or of a TRL config, in order."""
    if isinstance(owner, TrlConfig):
        return config_fields(owner.name)
    notes, keys = _docstrings(owner), {}
    for name, item in owner.__pydantic_fields__.items():
        kind = Annotated[item.annotation, *item.metadata] if item.metadata else item.annotation
        default = MISSING if item.is_required() else item.get_default(call_default_factory=True)
        keys[name] = Key(kind, default, notes.get(name, ""))
    return keys


def _docstrings(owner: Kind) -> dict[str, str]:
    """The strings below the fields of a class; pydantic 2.14's use_attribute_docstrings misses those of whole classes."""
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


# -------------------- types as data and in words


def parts(kind: Kind) -> tuple[Kind, ...]:
    """The members of a union, or the type alone; without what `Annotated` adds, but for a TRL config."""
    if origin_of(kind) is Annotated:
        inner, *notes = get_args(kind)
        config = next((note for note in notes if isinstance(note, TrlConfig)), None)
        return (config,) if config else parts(inner)
    if is_union(kind):
        return tuple(part for member in get_args(kind) for part in parts(member))
    return (kind,)


def record_of(kind: Kind) -> Kind | None:
    """The record or TRL config in `kind` or in `kind | None`, if there is one."""
    return next((part for part in parts(kind) if isinstance(part, TrlConfig) or dataclasses.is_dataclass(part)), None)


def dict_values(kind: Kind) -> Kind | None:
    """The type of the values where `kind` is a mapping with free keys, else None."""
    return next((get_args(part)[1] for part in parts(kind) if origin_of(part) is dict), None)


def list_items(kind: Kind) -> Kind | None:
    """The type of the items where a list is allowed, else None."""
    return next((get_args(part)[0] for part in parts(kind) if origin_of(part) in (list, tuple)), None)


def type_at(owner: Kind, steps: Steps) -> Kind:
    """The type of the value that `steps` lead to from a record; Any in a mapping with free content."""
    kind = owner
    for step in steps:
        if inside := record_of(kind):
            kind = key.type if (key := keys_of(inside).get(str(step))) else Any
        else:
            kind = (list_items(kind) if isinstance(step, int) else dict_values(kind)) or Any
    return kind


def choices_of(kind: Kind) -> list[str]:
    """The values of a Literal."""
    values = [value for part in parts(kind) if origin_of(part) is Literal for value in get_args(part)]
    return [str(value).lower() if isinstance(value, bool) else str(value) for value in values]


def describe(kind: Kind) -> str:
    """A type in words: "a whole number or null"."""
    return " or ".join(_describe_part(part) for part in parts(kind))


_WORDS = {
    str: "text", int: "a whole number", float: "a number", bool: "true or false", Any: "any value", type(None): "null",
}  # fmt: skip


def _describe_part(part: Kind) -> str:
    if choices := choices_of(part):
        return "one of " + ", ".join(choices)
    if item := list_items(part):
        return "a list" if parts(item) == (Any,) else f"a list ({describe(item)})"
    return _WORDS.get(part) or ("a mapping" if dict_values(part) else "a mapping of keys to values")


def range_words(kind: Kind) -> str:
    """The range of a type in words, empty where it has none: `Share` → "a share from 0 to 1"."""
    match limits_of(kind):
        case {"ge": 0, "le": 1}:
            return "a share from 0 to 1"
        case {"ge": 0, "lt": 1}:
            return "a share from 0 up to, but not including, 1"
        case {"gt": 0, "le": 1}:
            return "a share above 0, up to 1"
        case {"ge": low, "le": high}:
            return f"a whole number from {low} to {high}"
        case {"gt": low}:
            return f"a number above {low}"
        case {"ge": low}:
            return f"{low} or more"
    return ""


def limits_of(kind: Kind) -> dict[str, float]:
    """The innermost first; the bounds of 64 bits say nothing to a reader."""
    limits: dict[str, float] = {}
    if is_union(kind) or origin_of(kind) is Annotated:
        for item in get_args(kind):
            limits |= dataclasses.asdict(item) if isinstance(item, Gt | Ge | Lt | Le) else limits_of(item)
    return {name: limit for name, limit in limits.items() if abs(limit) != LARGEST}


@functools.cache
def dotted_names(owner: Kind) -> tuple[str, ...]:
    """Dotted names of all keys of `owner` outside mappings with free keys."""
    names: list[str] = []
    for name, key in keys_of(owner).items():
        below = record_of(key.type)
        names += [name, *(f"{name}.{item}" for item in (dotted_names(below) if below else ()))]
    return tuple(names)


def suggest(name: str, owner: Kind, root: Kind) -> tuple[str | None, str | None]:
    """(expected, nearest) for a key that `owner` lacks: its new name, a near one, or where in `root` it belongs."""
    keys, renamed = keys_of(owner), RENAMED.get(name)
    close = renamed if renamed in keys else nearest(name, keys)
    close = close or next((item for item in dotted_names(root) if item.rpartition(".")[2] in (name, renamed)), None)
    if close:
        return None, close
    return f"a field of {owner.name}" if isinstance(owner, TrlConfig) else "one of " + ", ".join(keys), None


# -------------------- flags


@dataclass(frozen=True)
class Flag:
    """One key as a flag: its path (not split at dots: a source's name may contain one), and the record that it belongs to."""

    path: tuple[str, ...]
    key: Key
    value: object
    """As written, or the default; MISSING where the recipe must give it."""
    owner: Kind

    @property
    def name(self) -> str:
        return ".".join(self.path)


def flags_of(owner: Kind, written: object, above: tuple[str, ...] = ()) -> Iterator[Flag]:
    """Every key of a recipe: those of its records, and those that `written` (or a default) has in mappings with free keys."""
    for name, key in keys_of(owner).items():
        default = MISSING if key.default is MISSING else text_of(key.default)
        value, path = (written.get(name, default) if isinstance(written, dict) else default), (*above, name)
        if below := record_of(key.type):
            yield from flags_of(below, value, path)
            continue
        yield Flag(path, key, value, owner)
        inner = dict_values(key.type)
        if inner is None or isinstance(owner, TrlConfig) or not isinstance(value, dict):
            continue
        for entry, child in value.items():
            if below := record_of(inner):
                yield from flags_of(below, child, (*path, entry))
            else:
                yield Flag((*path, entry), Key(inner, MISSING), child, None)


def lay_over(tree: Tree, recipe_class: Kind, words: list[str]) -> Tree:
    """The recipe `tree` with the flags in `words` laid over it; later flags win."""
    flags = {flag.name.replace("-", "_"): flag for flag in flags_of(recipe_class, tree.values)}
    for written, values in split_flags(words):
        flag = flags.get(written.replace("-", "_"))
        if flag is None:
            raise _unknown_flag(written, flags)
        top, *inner = flag.path
        key = keys_of(recipe_class)[top]
        if inner and top not in tree.values and dict_values(key.type):
            tree = Tree({top: text_of(key.default)}, {}).merged(tree)  # one entry of the default changes, the others stay
        tree = tree.merged(_value(flag, values).under(flag.path))
    return tree


def split_flags(words: Sequence[str]) -> Iterator[tuple[str, list[str]]]:
    """`--a 1 2 --b=3` → ("a", ["1", "2"]), ("b", ["3"])"""
    starts = [number for number, word in enumerate(words) if word.startswith("--")]
    if words and starts[:1] != [0]:
        raise UserError(f"'{words[0]}' belongs to no flag", file=COMMAND_LINE, expected="--key value")
    for start, end in pairwise([*starts, len(words)]):
        name, equals, value = words[start].removeprefix("--").partition("=")
        yield name, [*([value] if equals else []), *words[start + 1 : end]]


def part_flags(words: Sequence[str], is_mine: Callable[[str], bool]) -> tuple[dict[str, list[str]], list[str]]:
    """The flags whose names `is_mine` takes, with their words, and all other words: a script's own flags, and its recipe's."""
    first = next((place for place, word in enumerate(words) if word.startswith("--")), len(words))
    mine: dict[str, list[str]] = {}
    rest = list(words[:first])
    for name, values in split_flags(words[first:]):
        if is_mine(name):
            mine[name] = values
        else:
            rest += [f"--{name}", *values]
    return mine, rest


def _value(flag: Flag, words: list[str]) -> Tree:
    """The words after a flag as a value; a list is `a b c` or `[a, b, c]`, a mapping `{a: 1}`."""
    kind, here = flag.key.type, Place(COMMAND_LINE)
    is_list, takes_text = list_items(kind) is not None, str in parts(kind)
    opening = "[" * is_list + "{" * (dict_values(kind) is not None)
    if len(words) == 1 and words[0][:1] and words[0][0] in opening:
        return parse_flag(words[0], flag.name)
    values = [word_or_null(word) for word in words]
    if len(words) == 1 and (not is_list or values[0] is None or takes_text):
        return Tree(values[0], {(): here})
    if is_list and (words or not takes_text):
        return Tree(values, {(): here} | {(number,): here for number in range(len(values))})
    if not words and bool in parts(kind):
        return Tree(word_or_null("true"), {(): here})
    problem = f"takes one value, not {len(words)}" if words else "a value is missing"
    raise here.error(flag.name, problem, describe(kind))


def _unknown_flag(written: str, flags: dict[str, Flag]) -> UserError:
    name, here = written.replace("-", "_"), Place(COMMAND_LINE)
    if any(flag.startswith(f"{name}.") for flag in flags):
        return here.error(written, "this is a group of keys", f"one of them, '--{written}.KEY value'")
    last = name.rpartition(".")[2]
    elsewhere = [flag for flag in flags if flag.rpartition(".")[2] in (last, RENAMED.get(last))]
    close = nearest(name, elsewhere) or (elsewhere[0] if elsewhere else nearest(name, flags))
    expected = None if close else "a key of the recipe (--help lists them)"
    return here.error(written, "unknown flag", expected, f"--{close}" if close else None)


# -------------------- help

_COMMON = (
    "output_dir", "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "warmup_steps", "weight_decay", "max_length", "eval_steps", "save_steps",
    "save_total_limit", "beta", "loss_type", "loss_weights", "gradient_checkpointing", "bf16", "use_cpu", "report_to",
    "seed", "resume_from_checkpoint",
)  # fmt: skip
"""The training fields that --help explains; it only names the others."""


def print_help(recipe_class: Kind, tree: Tree | None, program: str, description: str) -> None:
    """Print every key with its docstring, range and value (of `tree`, else the default)."""
    lines = [f"usage: {program} RECIPE.yaml [--KEY VALUE …]", "", description.strip() or (recipe_class.__doc__ or "").strip()]
    width, group = min(get_terminal_size().columns, 120), None
    for flag in flags_of(recipe_class, tree.values if tree else None):
        if flag.path[:-1] != group:
            group = flag.path[:-1]
            lines += ["", f"{'.'.join(group) or 'recipe'}:"]
            if isinstance(flag.owner, TrlConfig):
                others = ", ".join(name for name in keys_of(flag.owner) if name not in _COMMON)
                note = f"Any field of TRL's {flag.owner.name} may stand here. The most used are below, the others are: {others}"
                lines += textwrap.wrap(note, width, initial_indent="  ", subsequent_indent="  ")
        if isinstance(flag.owner, TrlConfig) and flag.path[-1] not in _COMMON:
            continue
        metavar = _metavar(flag.key.type)
        limits = "" if metavar == "TEXT" else range_words(flag.key.type)
        value = "required" if flag.value is MISSING else f"default: {shown(flag.value)}"
        text = f"{flag.key.help} ({'; '.join(filter(None, (limits, value)))})".replace("%%", "%")
        lines.append(f"  --{flag.name} {metavar}")
        lines += textwrap.wrap(text.strip(), width, initial_indent=" " * 8, subsequent_indent=" " * 8)
    try:
        print("\n".join(lines))
        sys.stdout.flush()
    except BrokenPipeError:  # `--help | head` has read enough; Python would complain again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def shown(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {shown(item)}" for name, item in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(shown(item) for item in value) + "]"
    return "null" if value is None else str(value) or "''"


def _metavar(kind: Kind) -> str:
    words = describe(kind).removesuffix(" or null")
    short = {"text": "TEXT", "a whole number": "INT", "a number": "FLOAT", "true or false": "BOOL", "a mapping": "{…}"}
    if words.startswith("one of ") and len(words) < 60:
        return "{" + words.removeprefix("one of ").replace(", ", "|") + "}"
    return short.get(words, "LIST" if words.startswith("a list") else "VALUE")
