"""Preference pairs from a checkpoint's own answers: its faulty greedy answers against its best sampled ones.

    python scripts/build_preferences.py recipes/quickstart/preferences.yaml
    python scripts/build_preferences.py recipes/quickstart/preferences.yaml --max_prompts 100

Interrupted and started again, it goes on where it was (candidates.jsonl in the output folder).
"""

from __future__ import annotations

import sys

from align_ko.errors import UserError, refuse_several_processes, run_script
from align_ko.noise import quiet_known_noise
from align_ko.recipe import PreferencesRecipe
from align_ko.recipe_loading import check_inputs, load_recipe


def main() -> None:
    quiet_known_noise()
    recipe = load_recipe(PreferencesRecipe, sys.argv[1:], description=__doc__ or "")
    check_inputs(recipe)
    refuse_several_processes()

    from pathlib import Path

    from align_ko.curation.curate import evaluation_prompts
    from align_ko.curation.duplicates import PromptIndex, overlaps
    from align_ko.generation.local import describe
    from align_ko.manifest import write_manifest
    from align_ko.modeling import load_for_inference, weights_hash
    from align_ko.preferences.candidates import draw_candidates, tasks_from_rows
    from align_ko.preferences.pairing import make_pairs
    from align_ko.preferences.report import print_report, split, write_report
    from align_ko.process_memory import keep_freed_memory, peak_memory_gib
    from align_ko.records import last_user_text, read_jsonl, write_jsonl

    keep_freed_memory()
    folder = Path(recipe.output_dir)
    index = PromptIndex(prompt for path in recipe.evaluation_files for prompt in evaluation_prompts(path))
    tasks = tasks_from_rows(list(read_jsonl(recipe.prompts_file)))
    allowed = [task for task in tasks if not overlaps(last_user_text(task.prompt), index)]
    print(f"{len(allowed)} prompts; {len(tasks) - len(allowed)} left out as too near to an evaluation prompt")
    turned = recipe.first_prompt % max(1, len(allowed))
    tasks = (allowed[turned:] + allowed[:turned])[: recipe.max_prompts or None]

    model, tokenizer = load_for_inference(recipe.model_name_or_path, recipe.generation.dtype)
    made_with = {
        "checkpoint": weights_hash(recipe.model_name_or_path),
        "settings": {name: describe(decoding) for name, decoding in recipe.candidates.items()},
    }
    candidates = draw_candidates(
        model, tokenizer, tasks, recipe.candidates, recipe.generation, folder / "candidates.jsonl", made_with
    )
    pairs, dropped, judged = make_pairs(tasks, candidates, recipe.pairing)
    if not pairs:
        raise UserError(f"no pair could be made of {len(tasks)} prompts: {dict(dropped)}", file=folder)
    train, held_out = split(pairs, recipe.pairing.eval_share)
    write_jsonl(folder / "train.jsonl", [pair.to_row() for pair in train])
    write_jsonl(folder / "eval.jsonl", [pair.to_row() for pair in held_out])
    write_jsonl(folder / "judgements.jsonl", judged)
    summary = write_report(folder, pairs, dropped, len(tasks))
    facts = {"summary": summary, "peak_memory_gib": peak_memory_gib()}
    write_manifest(folder, recipe, [recipe.prompts_file], stage="preferences", **facts)
    print_report(summary, pairs)
    print(f"saved {folder}: {len(train)} training pairs, {len(held_out)} held out")


if __name__ == "__main__":
    run_script(main)
