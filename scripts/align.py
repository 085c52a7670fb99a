"""Rounds of preference pairs, DPO and a gate, each from the round before, until a round brings too little or is refused.

    python scripts/align.py recipes/quickstart/align.yaml
    python scripts/align.py recipes/quickstart/align.yaml --rounds 2 --seeds 42 43 44

    python scripts/align.py recipes/quickstart/align.yaml --seeds 42 43 44 --gpus 0 1     (two seeds at once, one on each GPU)

Killed or interrupted, the same command continues: finished stages are skipped, candidates are kept prompt by prompt.
"""

from __future__ import annotations

import sys

from align_ko.errors import run_script
from align_ko.recipe import AlignRecipe, changed, check_inputs, load_recipe


def main() -> None:
    recipe = load_recipe(AlignRecipe, sys.argv[1:], description=__doc__ or "")
    check_inputs(recipe)

    from functools import partial
    from pathlib import Path

    from rich.console import Console

    from align_ko.pipeline.plan import plan_rounds
    from align_ko.pipeline.rounds import run_rounds
    from align_ko.pipeline.stages import run_at_once, run_stage
    from align_ko.process import locked_folder
    from align_ko.report.pipeline import write_report, write_seeds

    console, folder, evaluated = Console(), Path(recipe.output_dir), recipe.evaluate is not None
    runs = {recipe.seed: recipe}
    if recipe.seeds:
        runs = {seed: changed(recipe, seed=seed, output_dir=str(folder / f"seed-{seed}")) for seed in recipe.seeds}
    for run in runs.values():
        plan_rounds(run)  # mistakes in any round's recipe are reported before the first one starts
    if recipe.gpus and len(runs) > 1:
        run_at_once(runs, recipe.gpus, Path(__file__))
    results = {}
    for seed, run in runs.items():
        with locked_folder(run.output_dir):
            results[seed] = run_rounds(run, partial(run_stage, scripts=Path(__file__).parent))
            write_report(Path(run.output_dir), results[seed], recipe.gate.prompts_file, evaluated, console)
    if recipe.seeds:
        write_seeds(folder, results, evaluated, console)


if __name__ == "__main__":
    run_script(main)
