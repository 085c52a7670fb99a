"""Judge checkpoints under default (greedy) decoding, and beside it under tuned sampling settings.

    python scripts/evaluate.py recipes/quickstart/evaluate.yaml
    python scripts/evaluate.py recipes/quickstart/evaluate.yaml --models '{mine: outputs/mine}'   # one model more

Writes responses.jsonl (every answer), scores.json and report.html, prints the table. Interrupted, it goes on
per model and setting.
"""

from __future__ import annotations

import sys

from align_ko.errors import refuse_several_processes, run_script
from align_ko.noise import quiet_known_noise
from align_ko.recipe import EvaluateRecipe
from align_ko.recipe_loading import check_inputs, load_recipe


def main() -> None:
    quiet_known_noise()
    recipe = load_recipe(EvaluateRecipe, sys.argv[1:], description=__doc__ or "")
    check_inputs(recipe)
    refuse_several_processes()

    from pathlib import Path

    from rich.console import Console

    from align_ko.evaluation.answers import Question, answer_all, load_questions
    from align_ko.evaluation.reference_loss import reference_nll
    from align_ko.evaluation.scores import score_rows, summarise
    from align_ko.generation.local import GREEDY
    from align_ko.manifest import write_manifest
    from align_ko.modeling import load_for_inference, weights_hash
    from align_ko.process_memory import keep_freed_memory, peak_memory_gib
    from align_ko.records import write_json, write_jsonl
    from align_ko.report.evaluation_html import write_html
    from align_ko.report.evaluation_table import show

    keep_freed_memory()
    folder = Path(recipe.output_dir)
    held_out = load_questions(recipe.prompts_file, recipe.max_prompts)
    probes = [
        Question([{"role": "user", "content": text}], f"probe-{n}", "probe", "", None) for n, text in enumerate(recipe.probes)
    ]
    sampled = held_out[:: max(1, len(held_out) // recipe.sampling_prompts)] if recipe.sampling_prompts else held_out
    rows, losses = [], {}
    for name, path in recipe.models.items():
        model, tokenizer = load_for_inference(path, recipe.generation.dtype, recipe.chat_template)
        checkpoint = weights_hash(path)
        for setting, decoding in {"greedy": GREEDY, **recipe.sampling}.items():
            questions = [*held_out, *probes] if setting == "greedy" else [*sampled, *probes]
            cache = folder / "answers" / f"{name}-{setting}.jsonl"
            rows += answer_all(model, tokenizer, questions, name, setting, decoding, recipe.generation, cache, checkpoint)
        losses[name] = reference_nll(model, tokenizer, held_out)
        del model

    scored = score_rows(rows)
    summary = summarise(scored, losses)
    write_jsonl(folder / "responses.jsonl", scored)
    write_json(folder / "scores.json", summary)
    write_html(folder / "report.html", scored, summary, dict(recipe.models))
    write_manifest(folder, recipe, [recipe.prompts_file], stage="evaluate", peak_memory_gib=peak_memory_gib())
    show(summary, Console())
    print(f"answers: {folder / 'responses.jsonl'}\nreport:  {(folder / 'report.html').resolve()}")


if __name__ == "__main__":
    run_script(main)
