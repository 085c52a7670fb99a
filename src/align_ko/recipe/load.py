"""Recipe file and command line → the record of a stage, or one UserError that says what is wrong and where.

run_sft.py RECIPE.yaml [--training.learning_rate 5e-5] [--model.lora-r 8]
"""

from __future__ import annotations

import dataclasses
import os
import sys
from typing import Any, TypeVar

from pydantic import ValidationError

from align_ko.errors import UserError, nearest
from align_ko.recipe.keys import choices_of, describe, lay_over, print_help, range_words, record_of, suggest, type_at
from align_ko.recipe.record import LARGEST, Recipe
from align_ko.recipe.yaml_lines import Place, Steps, Tree, dotted, read_recipe_file, text_of

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
        named = [word for word in words[:1] if not word.startswith("-")]
        print_help(recipe_class, read_recipe_file(named[0]) if named else None, program, description)
        raise SystemExit(0)
    if not words or words[0].startswith("-"):
        raise UserError(
            "no recipe given" if not words else f"the recipe comes first, before {words[0]}",
            expected=f"'{program} RECIPE.yaml [--key value …]' ({program} --help lists the keys)",
        )
    tree = read_recipe_file(words[0])
    return recipe_of(lay_over(tree, recipe_class, words[1:]) if words[1:] else tree, recipe_class)


def recipe_from(recipe_class: type[R], **keys: Any) -> R:
    """A recipe from Python values, checked as a file is.

    >>> recipe_from(ExportRecipe, model_name_or_path="outputs/dpo", output_dir="outputs/export", dtype="bfloat16")
    """
    return recipe_of(Tree(text_of(keys), {}), recipe_class)


def recipe_of(tree: Tree, recipe_class: type[R]) -> R:
    """The recipe in `tree`, which it keeps for the places of later messages. UserError for the first mistake."""
    try:
        recipe = recipe_class(**tree.values)
    except ValidationError as error:
        raise _mistake(error, tree, recipe_class) from None
    _set_tree(recipe, tree)
    check_values(recipe)
    return recipe


def changed(recipe: R, **changes: Any) -> R:
    """A copy with other values, which still knows where the rest was written."""
    copy = dataclasses.replace(recipe, **changes)  # type: ignore[type-var]
    _set_tree(copy, recipe.tree)
    return copy


def _set_tree(recipe: Recipe, tree: Tree | None) -> None:
    object.__setattr__(recipe, "tree", tree)  # the record is frozen


def check_values(recipe: Recipe) -> None:
    """Raise a UserError for the first combination of values that cannot work."""
    for problem in recipe.problems():
        raise recipe_error(recipe, *problem)


def place_of(recipe: Recipe, key: str) -> Place:
    """File and line of a dotted key, or of the nearest mapping above it that was written."""
    return recipe.tree.place_of(key) if recipe.tree else Place()


def recipe_error(recipe: Recipe, key: str, problem: str, expected: str | None = None, close: str | None = None) -> UserError:
    """A UserError about the dotted `key` of a loaded recipe, with its file and line."""
    return place_of(recipe, key).error(key, problem, expected, close)


def _mistake(error: ValidationError, tree: Tree, recipe_class: type[Recipe]) -> UserError:
    """pydantic's gravest error in our words: an unknown key before a wrong value before a missing key."""
    worst = min(error.errors(include_url=False), key=lambda item: (item["type"] not in _UNKNOWN, item["type"] == "missing"))
    problem = worst["type"]
    steps = _written_steps(worst["loc"], tree)
    if problem == "missing":
        steps = (*steps, worst["loc"][-1])
    key, wanted = dotted(steps), type_at(recipe_class, steps)
    place = tree.place_of(key)
    if problem in _UNKNOWN:
        owner = record_of(type_at(recipe_class, steps[:-1]))
        return place.error(key, "unknown key", *suggest(str(steps[-1]), owner, recipe_class))
    if problem == "missing":
        return place.error(key, "this key is missing", describe(wanted))
    value = tree.get(steps)
    if isinstance(value, dict | list):
        return place.error(key, f"a {'list' if isinstance(value, list) else 'mapping'} does not fit", describe(wanted))
    if not value:
        return place.error(key, "there is no value", describe(wanted))
    written = value if len(value) <= 60 else f"{value[:40]}… ({len(value)} characters)"
    if problem in _OUT_OF_RANGE:
        expected = str(worst["ctx"]["error"]) if problem == "value_error" else range_words(wanted)
        if problem == "less_than_equal" and worst["ctx"]["le"] == LARGEST:
            expected = f"at most {LARGEST}"
        return place.error(key, f"{written} cannot work", expected or describe(wanted))
    return place.error(key, f"'{written}' does not fit", describe(wanted), nearest(value, choices_of(wanted)))


def _written_steps(location: Steps, tree: Tree) -> Steps:
    """The keys and numbers of pydantic's location, without the names of union members that it adds."""
    steps: Steps = ()
    for step in location:
        if tree.get((*steps, step), _UNKNOWN) is not _UNKNOWN:
            steps = (*steps, step)
    return steps
