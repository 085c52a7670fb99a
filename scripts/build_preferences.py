"""Preference pairs from a checkpoint's own answers: its faulty greedy answers against its best sampled ones.

    python scripts/build_preferences.py recipes/quickstart/preferences.yaml
    python scripts/build_preferences.py recipes/quickstart/preferences.yaml --max_prompts 100
    accelerate launch --num_processes 8 scripts/build_preferences.py recipes/solar/preferences.yaml

Interrupted and started again, with any number of processes, it goes on where it was (candidates*.jsonl in the output folder).
"""

from __future__ import annotations

import sys
from pathlib import Path

from align_ko.errors import NothingToDo, UserError, run_script
from align_ko.process import lock_folder, quiet_known_noise
from align_ko.recipe import PreferencesRecipe, check_inputs, load_recipe


def main() -> None:
    quiet_known_noise()
    recipe = load_recipe(PreferencesRecipe, sys.argv[1:], description=__doc__ or "")
    check_inputs(recipe)
    lock_folder(recipe.output_dir)

    from rich.console import Console

    from align_ko.curation.curate import evaluation_prompts
    from align_ko.generation.answerer import Answerer
    from align_ko.manifest import write_manifest
    from align_ko.models.source import model_source
    from align_ko.overlap import PromptIndex, overlaps
    from align_ko.preferences.build import build_pairs, given_pairs
    from align_ko.preferences.candidates import draw_candidates, read_tasks
    from align_ko.process import keep_freed_memory, launched_processes
    from align_ko.recipe import hash_inputs
    from align_ko.records import last_user_text
    from align_ko.report.pairs import show, write_report

    keep_freed_memory()
    processes, inputs = launched_processes(), hash_inputs(recipe)
    index = PromptIndex(prompt for path in recipe.evaluation_files for prompt in evaluation_prompts(path))
    all_tasks, skipped = read_tasks(recipe.prompts_file, recipe.skip_prompts_files)
    allowed = [task for task in all_tasks if not overlaps(last_user_text(task.prompt), index)]
    if processes.rank == 0:
        left_out = [f"{len(all_tasks) - len(allowed)} left out as too near to an evaluation prompt"]
        left_out += [f"{skipped} because they are in skip_prompts_files"] * bool(recipe.skip_prompts_files)
        print(f"{len(allowed)} prompts; {', '.join(left_out)}")
    turned = recipe.first_prompt % max(1, len(allowed))
    tasks = (allowed[turned:] + allowed[:turned])[: recipe.max_prompts or None]
    if not tasks:
        raise UserError("no prompt is left to draw answers for", file=recipe.prompts_file)

    extra = given_pairs(recipe.extra_pairs_files) if processes.rank == 0 else []
    source = model_source(recipe.model_name_or_path, trust_remote_code=recipe.trust_remote_code)
    answerer = Answerer(source, recipe.generation, recipe.endpoint, stop_loops=True)
    file, seed = Path(recipe.output_dir) / "candidates.jsonl", recipe.generation.seed
    candidates = draw_candidates(answerer.draw, answerer.keys, tasks, recipe.candidates, seed, file, processes)
    processes.leave()
    if processes.rank:
        return  # the first process makes the pairs of all
    folder = Path(recipe.output_dir)
    try:
        built = build_pairs(tasks, candidates, recipe.judges, recipe.pairing, folder, index, allowed, extra, source)
    except NothingToDo as reason:  # a result, not a failure: align.py ends its rounds here
        write_manifest(folder, recipe, inputs, stage="preferences", nothing_to_do=str(reason))
        raise
    write_report(folder, built.summary, [*built.train, *built.held_out], sys.argv[1])
    facts = {"summary": built.summary, "files": {"train.jsonl": "", "eval.jsonl": ""}}
    write_manifest(folder, recipe, inputs, stage="preferences", **facts)
    show(built.summary, built.train, Console())
    print(f"saved {folder}: {len(built.train)} training pairs, {len(built.held_out)} held out; to read: {folder}/report.html")


if __name__ == "__main__":
    run_script(main)
