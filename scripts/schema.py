"""The JSON schema of a recipe, for an editor that completes and checks YAML (yaml-language-server).

    align-ko schema sft > sft.schema.json

The first line `# yaml-language-server: $schema=sft.schema.json` of a recipe names it. `align-ko init` writes both.
"""

from __future__ import annotations

import json
from typing import Annotated

import tyro

from align_ko.errors import UserError, nearest, run_script


def main(recipe: Annotated[str, tyro.conf.Positional], /) -> None:
    """Print the JSON schema of a recipe.

    Args:
        recipe: data, sft, preferences, dpo, grpo, evaluate, export, align or merge.
    """
    from align_ko.recipe.schema import RECIPES, recipe_schema

    if recipe not in RECIPES:
        expected = f"one of {', '.join(RECIPES)}"
        raise UserError(f"there is no recipe '{recipe}'", expected=expected, nearest=nearest(recipe, RECIPES))
    print(json.dumps(recipe_schema(RECIPES[recipe]), ensure_ascii=False, indent=2))


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
