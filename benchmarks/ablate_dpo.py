"""DPO settings side by side: the same pairs and start, several seeds, judged by greedy answers to the same prompts.

    python benchmarks/ablate_dpo.py recipes/quickstart/ablation.yaml
    python benchmarks/ablate_dpo.py recipes/quickstart/ablation.yaml --seeds 42 --output_dir outputs/quickstart/ablation-one

Writes OUTPUT_DIR/ablation.md and ablation.json. Interrupted, it goes on with the first run that is not finished.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import field
from pathlib import Path
from statistics import mean
from typing import Any, Literal

from align_ko.errors import UserError, run_script
from align_ko.evaluation.scores import Result
from align_ko.pipeline.plan import gate_file, gate_stage, write_gate_prompts
from align_ko.pipeline.rounds import broken_limits, read_measures
from align_ko.pipeline.stages import Stage, StageFailed, node_at, resolve, run_stage, seconds_in
from align_ko.process import locked_folder
from align_ko.recipe import AcceptanceArgs, DpoRecipe, ExportRecipe, Recipe, SftRecipe, StageArgs, check_inputs, load_recipe
from align_ko.recipe.fields import Free, Seed, Text
from align_ko.recipe.record import InputPath, Problem, record
from align_ko.records import atomic_write, read_jsonl, write_json, write_jsonl
from align_ko.report.tables import MEASURE_LABELS, TABLE_MEASURES, escape_bars, markdown_table, measure_cells


@record
class SettingArgs:
    """One row of an ablation: keys laid over the base recipe of its stage."""

    set: dict[str, Free] = field(default_factory=dict)
    stage: Literal["dpo", "sft"] = "dpo"
    """`sft`: fine-tuning on the chosen side alone (best-of-n), of the start with a new adapter."""
    note: str = ""
    """A line below the table."""


@record
class AblationRecipe(Recipe):
    """DPO settings × seeds on the same pairs, from the same checkpoint, judged on the same prompts under greedy decoding."""

    start: Text
    output_dir: Text
    train_file: Text
    """Preference pairs."""
    eval_file: Text
    dpo: StageArgs
    gate: AcceptanceArgs
    """The prompts that settings are judged on, and the limits that a winner holds in every seed."""
    settings: dict[str, SettingArgs]
    sft: StageArgs | None = None
    """The base recipe for settings of stage `sft`."""
    seeds: tuple[Seed, ...] = (42, 43)

    def problems(self) -> Iterator[Problem]:
        for name, setting in self.settings.items():
            if not re.fullmatch(r"[\w.-]+", name) or name in ("start", "start-merged", "chosen"):
                yield Problem(f"settings.{name}", "cannot be a folder's name here", "another name")
            if setting.stage == "sft" and self.sft is None:
                yield Problem(f"settings.{name}.stage", "there is no SFT recipe to start from", "'sft: {recipe: …}'")
        if not self.settings or not self.seeds:
            yield Problem("settings", "nothing to compare", "at least one setting and one seed")

    def inputs(self) -> Iterator[InputPath]:
        yield InputPath("start", self.start, "model", "run_sft.py sft")
        yield InputPath("gate.prompts_file", self.gate.prompts_file, "file", "build_sft_data.py data")
        for key in ("train_file", "eval_file"):
            yield InputPath(key, getattr(self, key), "file", "build_preferences.py preferences")


Runs = dict[str, dict[int, Result]]  # setting → seed → measures


def chosen_rows(pairs: str) -> list[dict[str, Any]]:
    """Preference pairs as SFT rows: the prompt and its chosen answer."""
    rows = [(pair["id"], [*pair["prompt"], *pair["chosen"]]) for pair in read_jsonl(pairs)]
    return [{"id": key, "messages": messages, "source": "best-of-n"} for key, messages in rows]


def write_chosen(recipe: AblationRecipe) -> None:
    """train.jsonl and eval.jsonl for settings of stage `sft`, in chosen/."""
    folder = Path(recipe.output_dir) / "chosen"
    for name, pairs in (("train", recipe.train_file), ("eval", recipe.eval_file)):
        write_jsonl(folder / f"{name}.jsonl", chosen_rows(pairs))


def plan_start(recipe: AblationRecipe) -> list[Stage[Recipe]]:
    """The start judged, and merged where something is fine-tuned on it (an adapter cannot be trained on an adapter)."""
    folder = Path(recipe.output_dir)
    judged = gate_stage(folder / "start", "start", recipe.start, recipe.gate, _prompts(recipe), recipe.start)
    if not any(setting.stage == "sft" for setting in recipe.settings.values()):
        return [judged]
    merged = folder / "start-merged"
    export = ExportRecipe(recipe.start, str(merged), "float32")  # rounded once, after training
    return [judged, Stage("start-merged", "export", export, folder / "start-merged.yaml", merged)]


def plan_run(recipe: AblationRecipe, name: str, seed: int) -> list[Stage[Recipe]]:
    """Training and judging of one setting with one seed. UserError with the line of a key that cannot work."""
    setting, place = recipe.settings[name], Path(recipe.output_dir) / name / f"seed-{seed}"
    own = node_at(recipe, "settings", name, "set")
    training = {"training": {"output_dir": str(place / "model"), "seed": seed}}
    title = f"{name}/seed-{seed}"
    if setting.stage == "sft":
        assert recipe.sft  # AblationRecipe.problems
        base, args = Path(recipe.output_dir) / "start-merged", recipe.sft
        rows = Path(recipe.output_dir) / "chosen"
        data = {"data": {"train_file": str(rows / "train.jsonl"), "eval_file": str(rows / "eval.jsonl")}}
        hard = {"model": {"model_name_or_path": str(base)}, "merge_adapter": False, **data, **training}
        resolved: Any = resolve(SftRecipe, args.recipe, node_at(recipe, "sft", "set"), own, hard)
        script = "run_sft"
    else:
        args = recipe.dpo
        data = {"data": {"train_file": recipe.train_file, "eval_file": recipe.eval_file}}
        hard = {"model_name_or_path": recipe.start, "merge_adapter": False, **data, **training}
        resolved = resolve(DpoRecipe, args.recipe, node_at(recipe, "dpo", "set"), own, hard)
        script = "run_dpo"
    model = place / "model"
    train = Stage(f"{title}/train", script, resolved, place / "train.yaml", model, args.accelerate_config)
    judged = gate_stage(place, title.replace("/", "-"), str(model), recipe.gate, _prompts(recipe), recipe.start)
    return [train, judged]


def _prompts(recipe: AblationRecipe) -> Path:
    return gate_file(recipe.gate, Path(recipe.output_dir))


def mean_measures(runs: Mapping[int, Result]) -> dict[str, float | None]:
    """Every measure of the table averaged over the seeds; None where some seed has none."""
    averaged: dict[str, float | None] = {}
    for measure in TABLE_MEASURES:
        values: list[Any] = [dict(measures).get(measure.key) for measures in runs.values()]
        averaged[measure.key] = None if None in values or measure.kind == "verdicts" else mean(values)
    return averaged


def winner(runs: Runs, start: Result, gate: AcceptanceArgs) -> str | None:
    """The setting with the highest mean natural share among those that hold every limit in every seed."""
    held = {
        name: mean(measures["natural"] for measures in seeds.values())
        for name, seeds in runs.items()
        if seeds and not any(broken_limits(measures, start["reference_nll"], gate) for measures in seeds.values())
    }
    return max(held, key=lambda name: held[name]) if held else None


def spread(values: list[float]) -> str:
    """`84.0 (82.4 to 86.3)`, or one number for one value."""
    average = mean(values)
    return f"{average:.1f}" if len(values) == 1 else f"{average:.1f} ({min(values):.1f} to {max(values):.1f})"


def ablation_table(
    recipe: AblationRecipe, start: Result, runs: Runs, minutes: Mapping[str, float], failed: Mapping[str, str]
) -> str:
    """Markdown: the start, then settings by mean natural share; after each its broken limits, and what the winner is."""
    heads = ["setting", *MEASURE_LABELS, "min", "limits broken"]
    lines = [
        ["start", *measure_cells(start, 1), "-", ", ".join(broken_limits(start, start["reference_nll"], recipe.gate)) or "none"]
    ]
    ordered = sorted((name for name in runs if runs[name]), key=lambda name: -mean(m["natural"] for m in runs[name].values()))
    for name in ordered:
        averaged = mean_measures(runs[name])
        natural = spread([100 * measures["natural"] for measures in runs[name].values()])
        all_broken = [key for m in runs[name].values() for key in broken_limits(m, start["reference_nll"], recipe.gate)]
        counts = Counter(all_broken)
        limits = ", ".join(f"{key} ({count} of {len(runs[name])})" for key, count in counts.items()) or "none"
        lines.append([name, natural, *measure_cells(averaged, 1)[1:], f"{minutes.get(name, 0.0):.1f}", limits])
    text = markdown_table(heads, lines, escape_bars)
    best = winner(runs, start, recipe.gate)
    text += f"\nSeeds {', '.join(map(str, recipe.seeds))}: mean, for natural in form also lowest and highest; "
    text += "greedy answers to the same prompts; minutes of training a seed. "
    text += (
        f"Best share natural in form with every limit held in every seed: **{best}**.\n"
        if best
        else "No setting holds every limit.\n"
    )
    text += "".join(f"- {name}: {setting.note}\n" for name, setting in recipe.settings.items() if setting.note)
    return text + "".join(f"- {title} failed: {why}\n" for title, why in failed.items())


def main() -> None:
    recipe = load_recipe(AblationRecipe, sys.argv[1:], description=__doc__ or "")
    check_inputs(recipe)
    folder, scripts = Path(recipe.output_dir), Path(__file__).parents[1] / "scripts"
    # setting by setting: a run that was broken off has whole lines
    plans = {(name, seed): plan_run(recipe, name, seed) for name in recipe.settings for seed in recipe.seeds}
    runs: Runs = {name: {} for name in recipe.settings}
    minutes: dict[str, float] = {}
    failed: dict[str, str] = {}
    table = ""
    with locked_folder(folder):
        write_gate_prompts(recipe.gate, Path(recipe.output_dir))
        write_chosen(recipe)
        for stage in plan_start(recipe):
            run_stage(stage, scripts)
        start = read_measures(folder / "start" / "gate" / "scores.json", "start")
        for (name, seed), (train, judged) in plans.items():
            try:
                run_stage(train, scripts)
                run_stage(judged, scripts)
            except StageFailed as error:  # a setting that cannot be trained does not stop the others
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
