"""The command line over a recipe: every key is a flag (`--model.lora_r 8`), and `--help` shows them all.

Values stay text, so that a mistake reads the same as in the file.
"""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from shutil import get_terminal_size
from typing import cast

from align_ko.errors import UserError, nearest
from align_ko.recipe.load import error_at
from align_ko.recipe.record import MISSING, TrlConfig, describe, dict_values, keys_of, list_items, parts, range_words, record_of
from align_ko.recipe.training import RENAMED
from align_ko.recipe.trl_fields import Kind
from align_ko.recipe.yaml_lines import COMMAND_LINE, Items, Node, Place, Scalar, Table, merge, node_at, node_of, parse_text

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
    """One key as a flag: its path (not split at dots: a source's name may contain one), and the record that it belongs to."""

    keys: tuple[str, ...]
    type: Kind
    help: str
    node: Node | None
    owner: Kind

    @property
    def name(self) -> str:
        return ".".join(self.keys)


def flags_of(owner: Kind, node: Node | None, above: tuple[str, ...] = ()) -> Iterator[Flag]:
    """Every key of a recipe: those of its records, and those that `node` (or a default) has in mappings with free keys."""
    for name, key in keys_of(owner).items():
        item = node_at(node, (name,))
        if item is None and key.default is not MISSING:
            item = node_of(key.default)
        path = (*above, name)
        if (below := record_of(key.type)) is not None:
            yield from flags_of(below, item, path)
            continue
        yield Flag(path, key.type, key.help, item, owner)
        values = dict_values(key.type)
        if values is None or isinstance(owner, TrlConfig) or not isinstance(item, Table):
            continue
        for entry, child in item.entries.items():
            if (below := record_of(values)) is not None:
                yield from flags_of(below, child, (*path, entry))
            else:
                yield Flag((*path, entry), values, "", child, None)


def lay_over(tree: Table, recipe_class: Kind, words: list[str]) -> Table:
    """The recipe `tree` with the flags in `words` laid over it; later flags win."""
    flags = {flag.name.replace("-", "_"): flag for flag in flags_of(recipe_class, tree)}
    for written, values in _split(words):
        flag = flags.get(written.replace("-", "_"))
        if flag is None:
            raise _unknown_flag(written, flags, recipe_class)
        top = flag.keys[0]
        if top not in tree.entries and dict_values((key := keys_of(recipe_class)[top]).type) is not None and flag.keys[1:]:
            tree = merge(node_of({top: key.default}), tree)  # a flag changes one entry of the default and keeps the others
        over = _value(flag, values)
        for name in reversed(flag.keys):
            over = Table({name: over}, _HERE, {name: _HERE})
        tree = cast(Table, merge(tree, over))
    return tree


def _split(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """`--a 1 2 --b=3` → ("a", ["1", "2"]), ("b", ["3"])"""
    starts = [number for number, word in enumerate(words) if word.startswith("--")]
    if starts[:1] != [0]:
        raise UserError(f"'{words[0]}' belongs to no flag", file=COMMAND_LINE, expected="--key value")
    for start, end in zip(starts, [*starts[1:], len(words)], strict=True):
        name, equals, value = words[start].removeprefix("--").partition("=")
        yield name, [*([value] if equals else []), *words[start + 1 : end]]


def _value(flag: Flag, words: list[str]) -> Node:
    """The words after a flag as a value; a list is `a b c` or `[a, b, c]`, a mapping `{a: 1}`."""
    is_list, is_dict = list_items(flag.type) is not None, dict_values(flag.type) is not None
    if len(words) == 1 and ((is_list and words[0].startswith("[")) or (is_dict and words[0].startswith("{"))):
        return parse_text(words[0], _HERE, f"--{flag.name}")
    scalars = tuple(Scalar(word, _HERE) for word in words)
    if len(words) == 1 and (not is_list or scalars[0].is_null or str in parts(flag.type)):
        return scalars[0]
    if is_list and (words or str not in parts(flag.type)):
        return Items(scalars, _HERE)
    if not words and bool in parts(flag.type):
        return Scalar("true", _HERE)
    problem = f"takes one value, not {len(words)}" if words else "a value is missing"
    raise error_at(_HERE, flag.name, problem, describe(flag.type))


def _unknown_flag(written: str, flags: dict[str, Flag], recipe_class: Kind) -> UserError:
    name = written.replace("-", "_")
    if any(flag.startswith(f"{name}.") for flag in flags):
        return error_at(_HERE, written, "this is a group of keys", f"one of them, '--{written}.KEY value'")
    last = name.rpartition(".")[2]
    elsewhere = [flag for flag in flags if flag.rpartition(".")[2] in (last, RENAMED.get(last))]
    close = nearest(name, elsewhere) or (elsewhere[0] if elsewhere else nearest(name, flags))
    expected = None if close else "a key of the recipe (--help lists them)"
    return error_at(_HERE, written, "unknown flag", expected, f"--{close}" if close else None)


# -------------------- help


def print_help(recipe_class: Kind, tree: Table | None, program: str, description: str) -> None:
    """Print every key with its docstring, range and value (of `tree`, else the default)."""
    lines = [f"usage: {program} RECIPE.yaml [--KEY VALUE …]", "", description.strip() or (recipe_class.__doc__ or "").strip()]
    width, group = min(get_terminal_size().columns, 120), None
    for flag in flags_of(recipe_class, tree):
        if flag.keys[:-1] != group:
            group = flag.keys[:-1]
            lines += ["", f"{'.'.join(group) or 'recipe'}:"]
            if isinstance(flag.owner, TrlConfig):
                others = ", ".join(name for name in keys_of(flag.owner) if name not in _COMMON)
                note = f"Any field of TRL's {flag.owner.name} may stand here. The most used are below, the others are: {others}"
                lines += textwrap.wrap(note, width, initial_indent="  ", subsequent_indent="  ")
        if isinstance(flag.owner, TrlConfig) and flag.keys[-1] not in _COMMON:
            continue
        limits = "" if _metavar(flag.type) == "TEXT" else range_words(flag.type)
        value = f"default: {_shown(flag.node)}" if flag.node else "required"
        text = f"{flag.help} ({'; '.join(filter(None, (limits, value)))})".replace("%%", "%")
        lines.append(f"  --{flag.name} {_metavar(flag.type)}")
        lines += textwrap.wrap(text.strip(), width, initial_indent=" " * 8, subsequent_indent=" " * 8)
    try:
        print("\n".join(lines))
        sys.stdout.flush()
    except BrokenPipeError:  # `--help | head` has read enough; Python would complain again when it flushes at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _shown(node: Node) -> str:
    if isinstance(node, Scalar):
        return node.text or "''"
    if isinstance(node, Items):
        return "[" + ", ".join(_shown(item) for item in node.items) + "]"
    return "{" + ", ".join(f"{name}: {_shown(item)}" for name, item in node.entries.items()) + "}"


def _metavar(kind: Kind) -> str:
    words = describe(kind).removesuffix(" or null")
    short = {"text": "TEXT", "a whole number": "INT", "a number": "FLOAT", "true or false": "BOOL", "a mapping": "{…}"}
    if words.startswith("one of ") and len(words) < 60:
        return "{" + words.removeprefix("one of ").replace(", ", "|") + "}"
    return short.get(words, "LIST" if words.startswith("a list") else "VALUE")
