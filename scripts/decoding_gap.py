"""The decoding gap: natural share of the best of a grid of sampling settings minus that of greedy, per model.

    python scripts/decoding_gap.py recipes/quickstart/evaluate.yaml
    python scripts/decoding_gap.py recipes/quickstart/evaluate.yaml --grid.prompts 30 --grid.models dpo

Reads an evaluate recipe (`grid`, not `sampling`) and writes OUTPUT_DIR/grid/{responses.jsonl,scores.json,gap.md,report.html}.
Interrupted and started again it goes on where it was; under `accelerate launch` the processes share the prompts.
"""

from __future__ import annotations

import sys
from pathlib import Path

from align_ko.errors import nearest, run_script
from align_ko.process import lock_folder, quiet_known_noise
from align_ko.recipe import EvaluateRecipe, check_inputs, load_recipe, recipe_error


def main() -> None:
    quiet_known_noise()
    recipe = load_recipe(EvaluateRecipe, sys.argv[1:], description=__doc__ or "")
    names = recipe.grid.models or tuple(recipe.models)
    for name in names:
        if name not in recipe.models:
            expected = "one of " + ", ".join(recipe.models)
            raise recipe_error(recipe, "grid.models", f"'{name}' is none of the models", expected, nearest(name, recipe.models))
    check_inputs(recipe)
    folder = Path(recipe.output_dir) / "grid"
    lock_folder(folder)

    from rich.console import Console
    from rich.markdown import Markdown

    from align_ko.evaluation.run import evaluate_grid
    from align_ko.manifest import write_manifest
    from align_ko.models.source import model_source
    from align_ko.process import keep_freed_memory, launched_processes
    from align_ko.recipe import hash_inputs
    from align_ko.report.gap import write_gap

    keep_freed_memory()
    inputs = hash_inputs(recipe)
    processes = launched_processes()
    evaluation = evaluate_grid(
        {name: model_source(recipe.models[name], trust_remote_code=recipe.trust_remote_code) for name in names},
        recipe.asked,
        folder,
        recipe.grid,
        max_prompts=recipe.max_prompts,
        chat_template=recipe.chat_template,
        generation=recipe.generation,
        processes=processes,
    )
    processes.leave()
    if evaluation is None:
        return  # the first process reports the answers of all

    table = write_gap(folder, evaluation.summary, recipe.grid)
    write_manifest(folder, recipe, inputs, stage="decoding_gap")
    Console().print(Markdown(table))
    print(f"saved {folder / 'gap.md'}, and a heat map: {(folder / 'report.html').resolve()}")


if __name__ == "__main__":
    run_script(main)
