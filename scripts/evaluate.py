"""Judge checkpoints under default (greedy) decoding, and beside it under tuned sampling settings.

    python scripts/evaluate.py recipes/quickstart/evaluate.yaml
    python scripts/evaluate.py recipes/quickstart/evaluate.yaml --models '{mine: outputs/mine}'   # one model more
    accelerate launch --num_processes 8 scripts/evaluate.py recipes/solar/evaluate.yaml

Writes responses.jsonl (every answer), scores.json and report.html, prints the table. Interrupted and started again, with any
number of processes, it goes on where it was.
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

    from align_ko.evaluation.asking import ask_models
    from align_ko.evaluation.scores import score_rows, summarise
    from align_ko.generation.processes import launched_processes
    from align_ko.generation.requests import GREEDY
    from align_ko.manifest import write_manifest
    from align_ko.models.source import model_source
    from align_ko.process import keep_freed_memory, peak_memory_gib
    from align_ko.records import PromptRow, read_prompts, write_json, write_jsonl
    from align_ko.report.evaluation_html import write_html
    from align_ko.report.evaluation_table import show

    keep_freed_memory()
    folder = Path(recipe.output_dir)
    held_out = list(read_prompts(recipe.prompts_file, "prompts_file", recipe.max_prompts))
    probes = [
        PromptRow(f"probe-{n}", [{"role": "user", "content": text}], None, "probe") for n, text in enumerate(recipe.probes)
    ]
    sampled = held_out[:: max(1, len(held_out) // recipe.sampling_prompts)] if recipe.sampling_prompts else held_out
    asked = {"greedy": (GREEDY, [*held_out, *probes])}
    asked |= {setting: (decoding, [*sampled, *probes]) for setting, decoding in recipe.sampling.items()}
    models = {name: model_source(path, trust_remote_code=recipe.trust_remote_code) for name, path in recipe.models.items()}
    processes, place = launched_processes(), folder / "answers"
    rows, losses = ask_models(models, asked, held_out, recipe.generation, recipe.chat_template, place, processes)
    processes.leave()
    if processes.rank:
        return  # the first process judges the answers of all

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
