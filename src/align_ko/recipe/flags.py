"""The command line over a recipe: every key is a flag (`--model.lora_r 8`), parsed by tyro.

tyro gets one generated dataclass with a leaf for every key of this recipe. Values stay text: what they mean is decided
in recipe/values.py by the same rules as in the file, so that a mistake reads the same in both.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import tyro
from tyro.conf import arg
from tyro.constructors import PrimitiveConstructorSpec

from align_ko.errors import UserError, nearest
from align_ko.recipe.keys import RENAMED, TrlConfig, dict_values, keys_of, list_items, parts, record_of
from align_ko.recipe.trl_fields import NO_DEFAULT
from align_ko.recipe.values import describe, error_at
from align_ko.recipe.yaml_lines import COMMAND_LINE, Items, Node, Place, Scalar, Table, merge, node_of, parse_text

_HERE = Place(COMMAND_LINE)
_COMMON = (
    "output_dir", "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size",
    "gradient_accumulation_steps", "warmup_steps", "weight_decay", "max_length", "eval_steps", "save_steps",
    "save_total_limit", "beta", "loss_type", "loss_weights", "gradient_checkpointing", "bf16", "use_cpu", "report_to",
    "seed", "resume_from_checkpoint",
)  # fmt: skip
"""The training fields that --help explains; it only names the others."""


@dataclass(frozen=True)
class Flag:
    """One key as a flag: its path (not split at dots: a source's name may hold one), type, help and present value."""

    keys: tuple[str, ...]
    type: Any
    help: str
    shown: str

    @property
    def name(self) -> str:
        return ".".join(self.keys)


@dataclass(frozen=True)
class Given:
    """What tyro returns for a flag that stands on the command line."""

    flag: Flag
    words: tuple[str, ...]


def lay_over(tree: Table, recipe_class: Any, words: list[str], program: str) -> Table:
    """The recipe `tree` with the flags in `words` laid over it; later flags win."""
    groups = _Groups(recipe_class, tree, for_help=False)
    parsed, unknown = tyro.cli(groups.type, args=words, prog=program, return_unknown_args=True, use_underscores=True)
    if unknown:
        raise _unknown_flag(unknown, groups.flags, recipe_class)
    for given in _given(parsed):
        over: Node = _node(given)
        seeds: list[tuple[str, ...]] = [given.flag.keys[:i] for i in range(1, len(given.flag.keys))]
        for name in reversed(given.flag.keys):
            over = Table({name: over}, _HERE, {name: _HERE})
        for keys in seeds:
            tree = _with_default(tree, recipe_class, keys)
        merged = merge(tree, over)
        assert isinstance(merged, Table)
        # Merging gives each mapping the place of the flag; a missing key is the file's fault, not the flag's.
        tree = _places_kept(merged, tree)
    return tree


def print_help(recipe_class: Any, tree: Table | None, program: str, description: str) -> None:
    """Print every key with its docstring and its value (of `tree`, else the default)."""
    groups = _Groups(recipe_class, tree or Table({}, Place(), {}), for_help=True)
    text = description or (recipe_class.__doc__ or "").strip()
    prog = f"{program} RECIPE.yaml"
    try:
        tyro.cli(groups.type, args=["--help"], prog=prog, description=text, use_underscores=True)
    except BrokenPipeError:  # `--help | head` has read enough; Python would complain again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class _Groups:
    """The generated dataclass for tyro, nested as the recipe is."""

    def __init__(self, recipe_class: Any, tree: Table, for_help: bool) -> None:
        self.flags: dict[str, Flag] = {}
        self._for_help = for_help
        self.type = self._record(recipe_class, tree, ())

    def _record(self, record: Any, node: Node | None, above: tuple[str, ...]) -> Any:
        fields: list[Any] = []
        entries = node.entries if isinstance(node, Table) else {}
        for name, key in keys_of(record).items():
            if isinstance(record, TrlConfig) and self._for_help and name not in _COMMON:
                continue
            item = entries.get(name)
            if item is None and key.default is not None and key.default() is not NO_DEFAULT:
                item = node_of(key.default(), Place())
            fields.extend(self._key(key.type, item, (*above, name), key.help, in_trl=isinstance(record, TrlConfig)))
        note = ""
        if isinstance(record, TrlConfig):
            others = [name for name in keys_of(record) if name not in _COMMON]
            note = f"Any field of TRL's {record.name} may stand here. The most used are below, the others are: " + ", ".join(
                others
            )
        return _struct(fields, note)

    def _key(self, kind: Any, item: Node | None, keys: tuple[str, ...], note: str, in_trl: bool = False) -> Iterator[Any]:
        record, values = record_of(kind), dict_values(kind)
        if record is not None:
            yield _nested(keys[-1], self._record(record, item, keys))
            return
        yield self._leaf(Flag(keys, kind, note, _shown(item)))
        if values is not None and not in_trl and isinstance(item, Table) and item.entries:
            fields = [field for name, child in item.entries.items() for field in self._key(values, child, (*keys, name), "")]
            yield _nested(keys[-1], _struct(fields, ""))

    def _leaf(self, flag: Flag) -> Any:
        self.flags[flag.name] = flag
        spec: PrimitiveConstructorSpec[Any] = PrimitiveConstructorSpec(
            nargs="*",  # counted in _node, for a message of our own
            metavar=_metavar(flag.type),
            instance_from_str=lambda words: Given(flag, tuple(words)),
            is_instance=lambda value: True,
            str_from_instance=lambda value: [flag.shown],
        )
        hint = f"(default: {flag.shown})" if flag.shown else "(required)"
        note = arg(name=flag.keys[-1], help=flag.help.replace("%%", "%"), help_behavior_hint=hint)
        return Annotated[object, spec, note], dataclasses.field(default=None)


def _struct(fields: list[Any], note: str) -> Any:
    named = [(f"field_{number}", kind, default) for number, (kind, default) in enumerate(fields)]
    struct = dataclasses.make_dataclass("Keys", named)
    struct.__doc__ = note
    return struct


def _nested(name: str, struct: Any) -> Any:
    return Annotated[struct, arg(name=name)], dataclasses.field(default_factory=struct)


def _given(parsed: Any) -> Iterator[Given]:
    for item in dataclasses.fields(parsed):
        value = getattr(parsed, item.name)
        if isinstance(value, Given):
            yield value
        elif dataclasses.is_dataclass(value):
            yield from _given(value)


def _node(given: Given) -> Node:
    """The words after a flag as a value; a list is `a b c` or `[a, b, c]`, a mapping `{a: 1}`."""
    flag, words = given.flag, given.words
    is_list, is_dict = list_items(flag.type) is not None, dict_values(flag.type) is not None
    if len(words) == 1 and ((is_list and words[0].startswith("[")) or (is_dict and words[0].startswith("{"))):
        return parse_text(words[0], _HERE, f"--{flag.name}")
    scalars = tuple(Scalar(word, _HERE) for word in words)
    if len(words) == 1 and (not is_list or scalars[0].is_null or str in parts(flag.type)):
        return scalars[0]
    if is_list:
        return Items(scalars, _HERE)
    if not words and bool in parts(flag.type):
        return Scalar("true", _HERE)
    problem = f"takes one value, not {len(words)}" if words else "a value is missing"
    raise error_at(_HERE, flag.name, problem, describe(flag.type))


def _unknown_flag(unknown: list[str], flags: dict[str, Flag], recipe_class: Any) -> UserError:
    word = next((word for word in unknown if word.startswith("--")), unknown[0])
    if not word.startswith("--"):
        return UserError(f"'{word}' belongs to no flag", file=COMMAND_LINE, expected="--key value")
    written = word.split("=")[0].removeprefix("--")
    name = written.replace("-", "_")
    if any(flag.startswith(f"{name}.") for flag in flags):
        return error_at(_HERE, written, "this is a group of keys", f"one of them, '--{written}.KEY value'")
    last = name.rpartition(".")[2]
    elsewhere = [flag for flag in flags if flag.rpartition(".")[2] in (last, RENAMED.get(last))]
    close = nearest(name, elsewhere) or (elsewhere[0] if elsewhere else nearest(name, flags))
    expected = None if close else "a key of the recipe (--help lists them)"
    return error_at(_HERE, written, "unknown flag", expected, f"--{close}" if close else None)


def _with_default(tree: Table, record: Any, keys: tuple[str, ...]) -> Table:
    """`tree` with the default written out under `keys`, so that a flag changes one part of it and keeps the rest."""
    key = keys_of(record).get(keys[0]) if not isinstance(record, TrlConfig) else None
    if key is None or key.default is None or keys[0] in tree.entries or not (default := key.default()):
        return tree
    merged = merge(Table({keys[0]: node_of(default, Place())}, tree.place, {keys[0]: Place()}), tree)
    assert isinstance(merged, Table)
    return merged


def _places_kept(tree: Table, before: Table) -> Table:
    entries = dict(tree.entries)
    for name, old in before.entries.items():
        new = entries[name]
        if isinstance(old, Table) and isinstance(new, Table):
            entries[name] = _places_kept(new, old)
    return Table(entries, before.place, tree.key_places | before.key_places)


def _shown(node: Node | None) -> str:
    if node is None:
        return ""
    if isinstance(node, Scalar):
        return node.text or "''"
    if isinstance(node, Items):
        return "[" + ", ".join(_shown(item) for item in node.items) + "]"
    return "{" + ", ".join(f"{name}: {_shown(item)}" for name, item in node.entries.items()) + "}"


def _metavar(kind: Any) -> str:
    words = describe(kind).removesuffix(" or null")
    short = {"text": "TEXT", "a whole number": "INT", "a number": "FLOAT", "true or false": "BOOL", "a mapping": "{…}"}
    if words.startswith("one of ") and len(words) < 60:
        return "{" + words.removeprefix("one of ").replace(", ", "|") + "}"
    return short.get(words, "LIST" if words.startswith("a list") else "VALUE")
