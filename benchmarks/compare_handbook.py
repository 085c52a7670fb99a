"""The alignment-handbook's way beside ours: the same model, the same steps or minutes, no curation, pairs by other writers.

    python benchmarks/compare_handbook.py recipes/quickstart/compare.yaml

Its SFT reads the raw rows as they are, its DPO pairs that do not come from the model; learning rates, beta and LoRA are the
published ones of zephyr-7b-beta (QLoRA). Masks, eos and chat template are ours for both, which favours it. Writes
OUTPUT_DIR/compare.md and compare.json. Interrupted, it goes on; our own run is made first where it is missing.
"""

from __future__ import annotations

import sys

from align_ko.errors import UserError, run_script
from align_ko.recipe import AlignRecipe, CompareRecipe, check_inputs, load_recipe


def main() -> None:
    recipe = load_recipe(CompareRecipe, sys.argv[1:], description=__doc__ or "")
    check_inputs(recipe)

    import subprocess
    from pathlib import Path

    from rich.console import Console

    from align_ko.pipeline.acceptance import read_measures
    from align_ko.pipeline.stages import Stage, run_stage, seconds_in
    from align_ko.process import locked_folder
    from align_ko.records import atomic_write, write_json
    from align_ko.report.round_tables import Line, markdown, show
    from compare import evaluation, longer, plan_variant, read_ours, write_data

    folder, scripts = Path(recipe.output_dir), Path(__file__).parents[1] / "scripts"
    if not (Path(load_recipe(AlignRecipe, [recipe.align]).output_dir) / "best.json").is_file():
        code = subprocess.run([sys.executable, str(scripts / "align.py"), recipe.align], check=False).returncode
        if code:
            raise KeyboardInterrupt if code == 130 else UserError("our own run ended badly; see above", file=recipe.align)
    ours = read_ours(recipe)
    steps = (ours.sft_steps, ours.dpo_steps)
    for name in recipe.variants:
        plan_variant(recipe, name, steps)  # mistakes are told before anything is trained
    variants: dict[str, tuple[Stage, Stage]] = {}
    seconds: dict[str, float] = {}
    words: dict[str, str] = {}
    with locked_folder(folder):
        counts = write_data(recipe, ours.pairs)
        sft_seconds = 60 * recipe.sft_minutes
        for name, variant in sorted(recipe.variants.items(), key=lambda item: item[1].minutes_of_ours):
            wanted = steps
            if variant.minutes_of_ours:
                if not seconds:
                    raise UserError("no variant of as many steps to take the time of", key=f"variants.{name}.minutes_of_ours")
                wanted = longer(steps, next(iter(seconds.values())), sft_seconds + ours.seconds)
            sft, dpo = variants[name] = plan_variant(recipe, name, wanted)
            run_stage(sft, scripts)
            run_stage(dpo, scripts)
            sft_seconds = sft_seconds or seconds_in(sft.folder)
            seconds[name] = seconds_in(sft.folder) + seconds_in(dpo.folder)
            words[name] = f"{wanted[0]} + {wanted[1]} steps, {seconds[name] / 60:.1f} min"
        judged = evaluation(recipe, ours, variants)
        run_stage(judged, scripts)

    words["ours"] = f"{steps[0]} + {steps[1]} steps, {(sft_seconds + ours.seconds) / 60:.1f} min with candidates and gates"
    scores = judged.folder / "scores.json"
    lines: list[Line] = [(name, read_measures(scores, name), words.get(name, "")) for name in judged.recipe.models]
    text = f"# Beside the alignment-handbook's way\n\nGreedy answers to the {lines[0][1]['n']} prompts of the evaluation.\n\n"
    text += markdown(lines, "model", "trained")
    text += (
        f"\nIts SFT read {counts['rows']} raw rows. Its {counts['pairs']} pairs: the written answer against a spoilt copy of "
        f"it ({counts['spoilt_copies']}) or against the answer to another question ({counts['other_answers']}); the handbook "
        "uses answers of other models (UltraFeedback), which cannot be had offline. Masks, eos and chat template are ours.\n"
    )
    text += "".join(f"- {name}: {variant.note}\n" for name, variant in recipe.variants.items() if variant.note)
    with atomic_write(folder / "compare.md") as out:
        out.write(text)
    write_json(folder / "compare.json", {"lines": lines, "data": counts, "seconds": seconds, "steps": steps})
    show(lines, "Ours and the alignment-handbook's way, greedy", Console(), last="trained")
    print(f"saved {folder / 'compare.md'}")


if __name__ == "__main__":
    run_script(main)
