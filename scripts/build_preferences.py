"""Preference pairs from a checkpoint's own answers: its faulty greedy answers against its best sampled ones.

    python scripts/build_preferences.py recipes/quickstart/preferences.yaml
    python scripts/build_preferences.py recipes/quickstart/preferences.yaml --max_prompts 100
    accelerate launch --num_processes 8 scripts/build_preferences.py recipes/solar/preferences.yaml

Interrupted and started again, with any number of processes, it goes on where it was (candidates*.jsonl in the output folder).
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from align_ko.errors import UserError, run_script
from align_ko.noise import quiet_known_noise
from align_ko.recipe import PreferencesRecipe
from align_ko.recipe_loading import check_inputs, load_recipe

if TYPE_CHECKING:
    from align_ko.generation.requests import OnAnswer, Request
    from align_ko.preferences.candidates import Candidate, Task


def main() -> None:
    quiet_known_noise()
    recipe = load_recipe(PreferencesRecipe, sys.argv[1:], description=__doc__ or "")
    check_inputs(recipe)
    tasks, candidates, first = candidates_of(recipe)
    if not first:
        return  # the first process makes the pairs of all

    from align_ko.manifest import write_manifest
    from align_ko.preferences.pairing import make_pairs
    from align_ko.preferences.report import print_report, split, write_report
    from align_ko.process_memory import peak_memory_gib
    from align_ko.records import write_jsonl

    folder = Path(recipe.output_dir)
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


def candidates_of(recipe: PreferencesRecipe) -> tuple[list[Task], dict[str, list[Candidate]], bool]:
    """The prompts, their candidates, and whether this process is the one that goes on with them."""
    from align_ko.curation.curate import evaluation_prompts
    from align_ko.curation.duplicates import PromptIndex, overlaps
    from align_ko.generation.processes import launched_processes
    from align_ko.modeling import weights_hash
    from align_ko.preferences.candidates import draw_candidates, read_tasks
    from align_ko.records import last_user_text

    processes = launched_processes()
    index = PromptIndex(prompt for path in recipe.evaluation_files for prompt in evaluation_prompts(path))
    tasks, skipped = read_tasks(recipe.prompts_file, recipe.skip_prompts_files)
    allowed = [task for task in tasks if not overlaps(last_user_text(task.prompt), index)]
    if processes.rank == 0:
        left_out = [f"{len(tasks) - len(allowed)} left out as too near to an evaluation prompt"]
        left_out += [f"{skipped} because they stand in skip_prompts_files"] * bool(recipe.skip_prompts_files)
        print(f"{len(allowed)} prompts; {', '.join(left_out)}")
    tasks = allowed[: recipe.max_prompts] if recipe.max_prompts else allowed
    if not tasks:
        raise UserError("no prompt is left to draw answers for", file=recipe.prompts_file)
    made_with = {
        "checkpoint": weights_hash(recipe.model_name_or_path),
        "backend": f"{recipe.endpoint.server} {recipe.endpoint.model}" if recipe.endpoint else "transformers",
        "max_new_tokens": recipe.generation.max_new_tokens,
    }

    def draw(requests: list[Request], on_answer: OnAnswer) -> None:
        """The model or the client is loaded only when something is left to draw."""
        limit = recipe.generation.max_new_tokens
        if recipe.endpoint:
            from align_ko.generation.endpoint import draw_from_endpoint
            from align_ko.modeling import load_checkpoint_tokenizer

            tokenizer = load_checkpoint_tokenizer(recipe.model_name_or_path)
            return draw_from_endpoint(requests, on_answer, tokenizer, recipe.endpoint, limit)
        from align_ko.generation.local import draw_local
        from align_ko.modeling import load_for_inference
        from align_ko.process_memory import keep_freed_memory

        keep_freed_memory()
        model, tokenizer = load_for_inference(recipe.model_name_or_path, recipe.generation.dtype)
        draw_local(requests, on_answer, model, tokenizer, limit, recipe.generation.batch_size, stop_loops=True)

    file = Path(recipe.output_dir) / "candidates.jsonl"
    candidates = draw_candidates(draw, tasks, recipe.candidates, recipe.generation.seed, file, made_with, processes)
    processes.leave()
    return tasks, candidates, processes.rank == 0


if __name__ == "__main__":
    run_script(main)
