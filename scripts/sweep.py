"""Values of a training recipe's keys, tried one after another; the greedy gate's natural share is the objective and prunes.

    python scripts/sweep.py recipes/quickstart/dpo.yaml --search training.learning_rate=5e-5..3e-4 training.beta=1,5 \
        --trials 12 --gate.prompts 24 --training.eval_strategy steps --training.eval_steps 8

Every other flag belongs to the recipe. Trials are training runs in OUTPUT_DIR-sweep/trial-N, with sweep.md and sweep.png beside
them; killed, the same command goes on. `--gpus 0 1` runs two trials at once, one on each. Needs the extra `sweep` (Optuna).
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from align_ko.cli import plan_script
from align_ko.errors import UserError, run_script
from align_ko.recipe import DpoRecipe, GrpoRecipe, SftRecipe, check_inputs, load_recipe, recipe_error
from align_ko.recipe.keys import part_flags

CLASSES: dict[str, type[SftRecipe] | type[DpoRecipe] | type[GrpoRecipe]] = {
    "run_sft": SftRecipe, "run_dpo": DpoRecipe, "run_grpo": GrpoRecipe,
}  # fmt: skip


def main() -> None:
    words = sys.argv[1:]
    if not words or "--help" in words:
        print(__doc__)
        return
    mine: dict[str, list[str]] = {"search": [], "trials": ["12"], "gpus": []}
    given, rest = part_flags(words, mine.__contains__)
    mine |= given
    script = plan_script(rest)

    def load(values: Mapping[str, object]) -> SftRecipe | DpoRecipe | GrpoRecipe:
        return load_recipe(CLASSES[script], [*rest, *(f"--{key}={value}" for key, value in values.items())])

    recipe = load({})
    if not mine["search"]:
        raise UserError("there is nothing to search", key="--search", expected="training.learning_rate=1e-5..1e-4 for instance")
    if not all(value.isdigit() and int(value) for value in mine["trials"]):
        raise UserError(f"'{' '.join(mine['trials'])}' is no number of trials", key="--trials", expected="a number above 0")
    if not recipe.gate.prompts:
        problem = "a sweep's objective is the greedy gate, and this recipe has none"
        raise recipe_error(recipe, "gate.prompts", problem, "32, with training.eval_strategy: steps")
    check_inputs(recipe)

    from rich.console import Console

    from align_ko.pipeline.sweep import ended, read_space, sweep
    from align_ko.process import locked_folder
    from align_ko.report.pipeline import write_sweep

    spaces = [read_space(word) for word in mine["search"]]
    for space in spaces:
        load({space.key: space.example})  # a misspelt key is told before the first trial
    folder = Path(f"{recipe.training['output_dir']}-sweep")
    with locked_folder(folder):
        study = sweep(load, spaces, folder, int(mine["trials"][0]), Path(__file__).parent / f"{script}.py", mine["gpus"])
        write_sweep(folder, ended(study), Console())


if __name__ == "__main__":
    run_script(main)
