"""Recipe file and command line → the record of a stage, or one UserError that says what is wrong and where.

run_sft.py RECIPE.yaml [--training.learning_rate 5e-5] [--model.lora-r 8]
"""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from typing import Any, Literal, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from align_ko.errors import UserError, nearest
from align_ko.recipe.record import LARGEST, Recipe, describe, parts, range_words, record_of, suggest, type_at
from align_ko.recipe.training import RENAMED
from align_ko.recipe.trl_fields import origin_of
from align_ko.recipe.yaml_lines import (
    COMMAND_LINE,
    Items,
    Node,
    Place,
    Scalar,
    Table,
    node_at,
    node_of,
    read_recipe_file,
    values_of,
)

R = TypeVar("R", bound=Recipe)
_UNKNOWN = ("unexpected_keyword_argument", "extra_forbidden")
_OUT_OF_RANGE = ("greater_than", "greater_than_equal", "less_than", "less_than_equal", "string_too_short", "value_error")


def load_recipe(recipe_class: type[R], argv: list[str] | None = None, description: str = "") -> R:
    """Read the recipe named first in `argv` (default: the command line), lay the flags after it over it, check it all.

    `--help` prints every key and ends the program. Relative paths in a recipe stay relative to the current directory.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    program = os.path.basename(sys.argv[0]) or "script.py"
    if "-h" in words or "--help" in words:
        from align_ko.recipe.flags import print_help

        named = [word for word in words[:1] if not word.startswith("-")]
        print_help(recipe_class, read_recipe_file(named[0]) if named else None, program, description)
        raise SystemExit(0)
    if not words or words[0].startswith("-"):
        raise UserError(
            "no recipe given" if not words else f"the recipe comes first, before {words[0]}",
            expected=f"'{program} RECIPE.yaml [--key value …]' ({program} --help lists the keys)",
        )
    tree = read_recipe_file(words[0])
    if len(words) > 1:
        from align_ko.recipe.flags import lay_over

        tree = lay_over(tree, recipe_class, words[1:])
    return recipe_of(tree, recipe_class)


def recipe_from(recipe_class: type[R], **keys: Any) -> R:
    """A recipe from Python values, checked as a file is.

    >>> recipe_from(ExportRecipe, model_name_or_path="outputs/dpo", output_dir="outputs/export", dtype="bfloat16")
    """
    return recipe_of(node_of(keys), recipe_class)


def recipe_of(tree: Table, recipe_class: type[R]) -> R:
    """The recipe that `tree` holds, which it keeps for the places of later messages. UserError for the first mistake."""
    try:
        recipe = recipe_class(**values_of(tree))
    except ValidationError as error:
        raise _mistake(error, tree, recipe_class) from None
    _set_tree(recipe, tree)
    check_values(recipe)
    return recipe


def changed(recipe: R, **changes: Any) -> R:
    """A copy with other values, which still knows where the rest was written."""
    copy = dataclasses.replace(recipe, **changes)  # type: ignore[type-var]
    if recipe.tree is not None:
        _set_tree(copy, recipe.tree)
    return copy


def check_values(recipe: Recipe) -> None:
    """Raise a UserError for the first combination of values that cannot work."""
    for found in recipe.problems():
        raise recipe_error(recipe, *found)


def _set_tree(recipe: Recipe, tree: Table) -> None:
    object.__setattr__(recipe, "tree", tree)  # the record is frozen


# -------------------- mistakes that pydantic finds


def _mistake(error: ValidationError, tree: Table, recipe_class: type[Recipe]) -> UserError:
    """pydantic's gravest error in our words: an unknown key before a wrong value before a missing key."""
    found = min(error.errors(include_url=False), key=lambda item: (item["type"] not in _UNKNOWN, item["type"] == "missing"))
    steps, kind = _path(found, tree), found["type"]
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps).removeprefix(".")
    wanted, node = type_at(recipe_class, steps), node_at(tree, steps)
    if kind in _UNKNOWN:
        above = node_at(tree, steps[:-1])
        assert isinstance(above, Table)
        owner = record_of(type_at(recipe_class, steps[:-1]))
        return error_at(
            above.key_places[str(steps[-1])], path, "unknown key", *suggest(str(steps[-1]), owner, recipe_class, RENAMED)
        )
    if kind == "missing":
        place = above.place if (above := node_at(tree, steps[:-1])) else Place()
        return error_at(place, path, "this key is missing", describe(wanted))
    assert node is not None
    written = _written(node)
    if kind in _OUT_OF_RANGE and written:
        expected = str(found["ctx"]["error"]) if kind == "value_error" else range_words(wanted)
        if kind == "less_than_equal" and found["ctx"]["le"] == LARGEST:
            expected = f"at most {LARGEST}"
        return error_at(node.place, path, f"{written} cannot work", expected or describe(wanted))
    close = None
    if isinstance(node, Scalar):
        choices = [str(value) for part in parts(wanted) if origin_of(part) is Literal for value in get_args(part)]
        close, written = nearest(node.text, choices), f"'{written}'" if written else ""
    return error_at(node.place, path, f"{written} does not fit" if written else "there is no value", describe(wanted), close)


def _path(error: ErrorDetails, tree: Table) -> tuple[str | int, ...]:
    """Where pydantic's error is, without the names of union members that it adds."""
    node: Node | None = tree
    steps: list[str | int] = []
    for step in error["loc"]:
        below = node_at(node, (step,))
        if below is not None:
            node = below
            steps.append(step)
        elif error["type"] == "missing" and step == error["loc"][-1]:
            steps.append(step)
    return tuple(steps)


def _written(node: Node) -> str:
    if isinstance(node, Scalar):
        return node.text if len(node.text) <= 60 else f"{node.text[:40]}… ({len(node.text)} characters)"
    return "a list" if isinstance(node, Items) else "a mapping"


# -------------------- places


def error_at(place: Place, path: str, problem: str, expected: str | None = None, close: str | None = None) -> UserError:
    """A UserError about the key `path`, which on the command line is a flag."""
    key = f"--{path}" if place.file == COMMAND_LINE and path else path
    return UserError(problem, file=place.file, line=place.line, key=key, expected=expected, nearest=close)


def place_of(recipe: Recipe, path: str) -> Place:
    """File and line of a dotted key, or of the nearest mapping above it that was written."""
    node: Node | None = recipe.tree
    place, rest = node.place if node else Place(), path
    while rest and node is not None:
        step: Node | None = None
        if isinstance(node, Table):
            # The name of a source may contain a dot, so the longest key that fits is taken.
            names = [name for name in node.entries if rest == name or rest.startswith((f"{name}.", f"{name}["))]
            if names:
                name = max(names, key=len)
                step, rest = node.entries[name], rest[len(name) :].removeprefix(".")
        elif isinstance(node, Items) and (match := re.match(r"\[(\d+)\]\.?", rest)):
            step, rest = node.items[int(match[1])], rest[match.end() :]
        if step is None:
            break
        node, place = step, step.place
    return place


def recipe_error(recipe: Recipe, path: str, problem: str, expected: str | None = None, close: str | None = None) -> UserError:
    """A UserError about the dotted key `path` of a loaded recipe, with its file and line."""
    return error_at(place_of(recipe, path), path, problem, expected, close)
