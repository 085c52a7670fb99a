"""Judge checkpoints under default (greedy) decoding, and beside it under tuned sampling settings.

    python scripts/evaluate.py recipes/quickstart/evaluate.yaml
    python scripts/evaluate.py recipes/quickstart/evaluate.yaml --models '{mine: outputs/mine}'   # one model more
    accelerate launch --num_processes 8 scripts/evaluate.py recipes/solar/evaluate.yaml

Writes responses.jsonl (every answer), scores.json, report.html and summary.md (for a pull request), prints the table.
Interrupted and started again, with any number of processes, it goes on where it was.
"""

from __future__ import annotations

import sys

from align_ko.errors import run_script
from align_ko.process import lock_folder, quiet_known_noise
from align_ko.recipe import EvaluateRecipe, check_inputs, load_recipe


def main() -> None:
    quiet_known_noise()
    recipe = load_recipe(EvaluateRecipe, sys.argv[1:], description=__doc__ or "")
    check_inputs(recipe)
    lock_folder(recipe.output_dir)

    from pathlib import Path

    from rich.console import Console

    from align_ko.evaluation.run import evaluate_recipe
    from align_ko.manifest import write_manifest
    from align_ko.process import keep_freed_memory, launched_processes
    from align_ko.recipe import hash_inputs
    from align_ko.records import write_text
    from align_ko.report.evaluation import markdown_summary, show, write_html

    keep_freed_memory()
    inputs, folder, processes = hash_inputs(recipe), Path(recipe.output_dir), launched_processes()
    evaluation = evaluate_recipe(recipe, processes)
    processes.leave()
    if evaluation is None:
        return  # the first process reports the answers of all

    write_html(folder / "report.html", evaluation.answers, evaluation.summary, dict(recipe.models))
    write_text(folder / "summary.md", markdown_summary(evaluation.summary))
    files = {"responses.jsonl": "", "scores.json": ""}
    write_manifest(folder, recipe, inputs, stage="evaluate", files=files)
    show(evaluation.summary, Console())
    print(f"answers: {folder / 'responses.jsonl'}\nreport:  {(folder / 'report.html').resolve()}")


if __name__ == "__main__":
    run_script(main)
