"""Recipe file and command line → the recipe dataclass of a stage, or one UserError that says what is wrong and where.

run_sft.py RECIPE.yaml [--training.learning_rate 5e-5] [--model.lora-r 8]
"""

from __future__ import annotations

import os
import sys
from typing import TypeVar

from align_ko.errors import UserError
from align_ko.recipe.checks import check_values, place_of, recipe_error, remember_places
from align_ko.recipe.inputs import check_inputs
from align_ko.recipe.values import build
from align_ko.recipe.yaml_lines import read_recipe_file

__all__ = ["check_inputs", "load_recipe", "place_of", "recipe_error"]
Recipe = TypeVar("Recipe")


def load_recipe(recipe_class: type[Recipe], argv: list[str] | None = None, description: str = "") -> Recipe:
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
        from align_ko.recipe.flags import lay_over  # tyro is only needed with flags or --help

        tree = lay_over(tree, recipe_class, words[1:], program)
    recipe: Recipe = build(tree, recipe_class)
    remember_places(recipe, tree)
    check_values(recipe)
    return recipe
