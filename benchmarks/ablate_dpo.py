"""DPO settings side by side: the same pairs and start, several seeds, judged by greedy answers to the same prompts.

    python benchmarks/ablate_dpo.py recipes/quickstart/ablation.yaml
    python benchmarks/ablate_dpo.py recipes/quickstart/ablation.yaml --seeds 42 --output_dir outputs/quickstart/ablation-one

Writes OUTPUT_DIR/ablation.md and ablation.json. Interrupted, it goes on with the first run that is not finished.
"""

from __future__ import annotations

import sys

from align_ko.errors import UserError, run_script
from align_ko.recipe import AblationRecipe, check_inputs, load_recipe


def main() -> None:
    recipe = load_recipe(AblationRecipe, sys.argv[1:], description=__doc__ or "")
    check_inputs(recipe)

    from pathlib import Path

    from ablation import (
        Runs,
        ablation_table,
        plan_run,
        plan_start,
        winner,
        write_chosen,
    )
    from align_ko.pipeline.acceptance import read_measures
    from align_ko.pipeline.plan import write_gate_prompts
    from align_ko.pipeline.stages import StageFailed, run_stage, seconds_in
    from align_ko.process import locked_folder
    from align_ko.records import atomic_write, write_json

    folder, scripts = Path(recipe.output_dir), Path(__file__).parents[1] / "scripts"
    # setting by setting: a run that was broken off has whole lines
    plans = {(name, seed): plan_run(recipe, name, seed) for name in recipe.settings for seed in recipe.seeds}
    runs: Runs = {name: {} for name in recipe.settings}
    minutes: dict[str, float] = {}
    failed: dict[str, str] = {}
    table = ""
    with locked_folder(folder):
        write_gate_prompts(recipe)
        write_chosen(recipe)
        for stage in plan_start(recipe):
            run_stage(stage, scripts)
        start = read_measures(folder / "start" / "gate" / "scores.json", "start")
        for (name, seed), (train, judged) in plans.items():
            try:
                run_stage(train, scripts)
                run_stage(judged, scripts)
            except StageFailed as error:  # one setting that cannot be trained says nothing of the others
                failed[f"{name}/seed-{seed}"] = str(error)
                continue
            runs[name][seed] = read_measures(judged.folder / "scores.json", f"{name}-seed-{seed}")
            minutes[name] = minutes.get(name, 0.0) + seconds_in(train.folder) / 60 / len(recipe.seeds)
            table = ablation_table(recipe, start, runs, minutes, failed)
            with atomic_write(folder / "ablation.md") as out:
                out.write(f"# Ablation\n\n{table}")
            facts = {"start": start, "runs": runs, "minutes": minutes, "failed": failed}
            write_json(folder / "ablation.json", {**facts, "winner": winner(runs, start, recipe.gate)})
    print(f"\n{table}")
    print(f"saved {folder / 'ablation.md'}")
    if failed:
        raise UserError(f"{len(failed)} of {len(plans)} runs failed: {', '.join(failed)}", file=folder / "ablation.md")


if __name__ == "__main__":
    run_script(main)
