"""Curate raw Korean conversations into train.jsonl and eval.jsonl.

    python scripts/build_sft_data.py recipes/quickstart/data.yaml
    python scripts/build_sft_data.py recipes/quickstart/data.yaml --max_samples 500 --on_shortage shrink

Reads the recipe's sources, drops faulty rows (each kept in rejected.jsonl with its reason), mixes the groups by weight,
splits off eval rows and writes a report beside them. Needs no GPU and no torch.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from align_ko.errors import run_script
from align_ko.process import lock_folder
from align_ko.recipe import DataRecipe, check_inputs, load_recipe

UNTOUCHED = "nothing was written, the files of an earlier run are as they were"


def main() -> None:
    recipe = load_recipe(DataRecipe, sys.argv[1:], description=__doc__)
    check_inputs(recipe)
    lock_folder(recipe.output_dir)
    run_script(partial(build, recipe), partial(state_of, Path(recipe.output_dir)))


def build(recipe: DataRecipe) -> None:
    from rich.console import Console

    from align_ko.curation.curate import curate
    from align_ko.manifest import write_manifest
    from align_ko.recipe import hash_inputs
    from align_ko.report.curation import show, write_report

    console, folder = Console(), Path(recipe.output_dir)
    inputs = hash_inputs(recipe)
    facts = curate(recipe, console)
    write_report(folder, facts)
    write_manifest(folder, recipe, inputs, stage="data", rows=facts["rows"])
    show(facts, console)
    for note in facts["notes"]:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    names = "train.jsonl, eval.jsonl, " + "preferences.jsonl, " * bool(facts["rows"]["preferences"])
    console.print(f"Written to {folder}/: {names}rejected.jsonl, report.html, report.json", soft_wrap=True)


def state_of(folder: Path) -> str:
    """What an interrupted run leaves."""
    if (folder / "manifest.json").is_file() or not (folder / "train.jsonl").is_file():
        return UNTOUCHED
    return "the files here are not all of one run, and later stages refuse them; the same command makes all of them again"


if __name__ == "__main__":
    run_script(main, UNTOUCHED)
