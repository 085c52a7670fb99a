"""Curate raw Korean conversations into train.jsonl and eval.jsonl.

    python scripts/build_sft_data.py recipes/quickstart/data.yaml
    python scripts/build_sft_data.py recipes/quickstart/data.yaml --max_samples 500 --on_shortage shrink
    python scripts/build_sft_data.py recipes/quickstart/data.yaml --engine ray      # or datatrove: docs/engines.md

Reads the recipe's sources, drops faulty rows (each kept in rejected.jsonl with its reason), mixes the groups by weight,
splits off eval rows and writes a report beside them. Needs no GPU, and torch only for off_topic_model.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from align_ko.errors import run_script
from align_ko.manifest import what_is_whole
from align_ko.process import lock_folder
from align_ko.recipe import DataRecipe, check_inputs, load_recipe


def main() -> None:
    recipe = load_recipe(DataRecipe, sys.argv[1:], description=__doc__)
    check_inputs(recipe)
    lock_folder(recipe.output_dir)

    from rich.console import Console

    from align_ko.manifest import write_manifest
    from align_ko.recipe import hash_inputs
    from align_ko.report.curation import show, write_report

    console, folder = Console(), Path(recipe.output_dir)
    inputs, unrelated = hash_inputs(recipe), None
    if recipe.off_topic_model:
        from align_ko.generation.relevance import why_unrelated
        from align_ko.models.source import model_source

        unrelated = partial(why_unrelated, model=model_source(recipe.off_topic_model), file=folder / "relevance.jsonl")
    if recipe.engine == "local":
        from align_ko.curation.curate import curate

        facts = curate(recipe, console, unrelated)
    else:
        from align_ko.curation.engine import curate_on_engine

        facts = curate_on_engine(recipe, console)
    write_report(folder, facts)
    write_manifest(folder, recipe, inputs, stage="data", rows=facts["rows"])
    show(facts, console)
    for note in facts["notes"]:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    names = "train.jsonl, eval.jsonl, " + "preferences.jsonl, " * bool(facts["rows"]["preferences"])
    console.print(f"Written to {folder}/: {names}rejected.jsonl, report.html, report.json", soft_wrap=True)


if __name__ == "__main__":
    run_script(main, what_is_whole)
