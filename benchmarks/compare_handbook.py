"""The alignment-handbook's way beside ours: the same model, the same steps or minutes, no curation, pairs by other writers.

    python benchmarks/compare_handbook.py recipes/quickstart/compare.yaml

Its SFT reads the raw rows as they are, its DPO pairs that do not come from the model; learning rates, beta and LoRA are the
published ones of zephyr-7b-beta (QLoRA). Masks, eos and chat template are ours for both, which favours it. Writes
OUTPUT_DIR/compare.md and compare.json. Interrupted, it goes on; our own run is made first where it is missing.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from typing import Any

from rich.console import Console

from align_ko.errors import UserError, run_script
from align_ko.manifest import MANIFEST_FILE
from align_ko.pipeline.plan import DISTILLED, INTERPOLATED
from align_ko.pipeline.rounds import read_measures
from align_ko.pipeline.stages import Stage, node_at, resolve, run_stage, seconds_in
from align_ko.process import locked_folder
from align_ko.recipe import (
    AlignRecipe,
    DataRecipe,
    DpoRecipe,
    EvaluateRecipe,
    Recipe,
    SftRecipe,
    StageArgs,
    check_inputs,
    load_recipe,
)
from align_ko.recipe.fields import Free, Seed, Text, YesNo
from align_ko.recipe.record import InputPath, record
from align_ko.records import atomic_write, read_jsonl, write_json, write_jsonl
from align_ko.report.pipeline import Line, markdown, show
from off_policy import off_policy_pairs, raw_conversations, sft_rows


@record
class VariantArgs:
    """One way to train in a comparison: keys laid over its SFT and DPO recipes."""

    sft: dict[str, Free] = field(default_factory=dict)
    dpo: dict[str, Free] = field(default_factory=dict)
    minutes_of_ours: YesNo = False
    """Train as many minutes as ours took in all, its candidates and gates included, not as many steps."""
    note: str = ""
    """A line below the table."""


@record
class CompareRecipe(Recipe):
    """Another way of training the same model on the same raw rows, beside ours."""

    align: Text
    """Our align recipe; it is run where its result is missing."""
    data: Text
    """The data recipe whose sources are read, without its filters."""
    sft: StageArgs
    dpo: StageArgs
    evaluate: StageArgs
    output_dir: Text
    variants: dict[str, VariantArgs]
    spoilt_key: str = ""
    """Which row of which spoilt file is a worse copy of which clean one (recipes/quickstart/data/spoil.py writes it)."""
    seed: Seed = 42

    def inputs(self) -> Iterator[InputPath]:
        if self.spoilt_key:
            yield InputPath("spoilt_key", self.spoilt_key, "file")


@dataclass(frozen=True)
class Ours:
    """Our finished run: what it started from, its result, its optimiser steps, pairs and seconds."""

    start: str
    result: str
    sft_steps: int
    dpo_steps: int
    pairs: int  # and the answers of its own that its passes of distillation trained on
    seconds: float  # of its rounds: candidates, DPO and gates


def read_ours(recipe: CompareRecipe) -> Ours:
    """From the folders of the align run up to its best round. UserError where they are not there."""
    align = load_recipe(AlignRecipe, [recipe.align])
    folder = Path(align.output_dir)
    if not (folder / "best.json").is_file():
        raise UserError(
            "our own run is not there", file=folder / "best.json", expected=f"python scripts/align.py {recipe.align}"
        )
    start = str(folder / "sft") if align.sft else align.start
    found = _json(folder / "rounds.json")
    names = [outcome["name"] for outcome in found["outcomes"]]
    best = _json(folder / "best.json")["round"]
    taken = [folder / name for name in names[1 : names.index(best) + 1]]
    passes = found.get(DISTILLED) or []
    distilled = [folder / one["name"] / "model" for one in passes if one["verdict"]["accepted"]]
    spent = [
        folder / "start" / "gate",
        *(folder / INTERPOLATED / part for part in ("model", "gate") if found.get(INTERPOLATED)),
        *(folder / one["name"] / part for one in passes for part in ("answers", "model", "gate")),
        *(folder / name / part for name in names[1:] for part in ("preferences", "dpo", "gate")),
    ]
    return Ours(
        start,
        str(folder / "best"),
        steps_of(Path(start)),
        sum(steps_of(trained) for trained in [*(round_ / "dpo" for round_ in taken), *distilled]),
        sum(count_rows(round_ / "preferences" / "train.jsonl") for round_ in taken)
        + sum(count_rows(_json(model / MANIFEST_FILE)["recipe"]["data"]["train_file"]) for model in distilled),
        sum(seconds_in(place) for place in spent),
    )


def steps_of(folder: Path) -> int:
    """Optimiser steps of a finished training, from its manifest and the rows it read (one process)."""
    manifest = _json(folder / MANIFEST_FILE)
    training, rows = manifest["recipe"]["training"], count_rows(manifest["recipe"]["data"]["train_file"])
    if training.get("max_steps", -1) > 0:
        return int(training["max_steps"])
    batch = training.get("per_device_train_batch_size", 8) * training.get("gradient_accumulation_steps", 1)
    return ceil(ceil((rows - len(manifest.get("too_long", []))) / batch) * training.get("num_train_epochs", 3))


def count_rows(file: str | Path) -> int:
    return sum(1 for _ in read_jsonl(file))


def _json(file: Path) -> dict[str, Any]:
    if not file.is_file():
        raise UserError("file not found", file=file, expected="a finished run")
    found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return found


def write_data(recipe: CompareRecipe, pairs: int) -> dict[str, int]:
    """rows/{train,eval}.jsonl and pairs/{train,eval}.jsonl; returns how many of what."""
    folder = Path(recipe.output_dir)
    rows = raw_conversations(load_recipe(DataRecipe, [recipe.data]))
    train, held_out = sft_rows(rows, recipe.seed)
    made = off_policy_pairs(rows, recipe.spoilt_key, pairs + max(4, pairs // 20), recipe.seed)
    kept = made[: max(1, min(pairs, len(made) - 1))]
    for name, content in {
        "rows/train": train,
        "rows/eval": held_out,
        "pairs/train": kept,
        "pairs/eval": made[len(kept) :],
    }.items():
        write_jsonl(folder / f"{name}.jsonl", content)
    spoilt = sum(pair["origin"] == "spoilt_copy" for pair in kept)
    return {"rows": len(train), "pairs": len(kept), "spoilt_copies": spoilt, "other_answers": len(kept) - spoilt}


def plan_variant(recipe: CompareRecipe, name: str, steps: tuple[int, int]) -> tuple[Stage[SftRecipe], Stage[DpoRecipe]]:
    """SFT on the raw rows, DPO on the off-policy pairs, with `steps` of each. Variants with the same SFT share its folder."""
    folder, variant = Path(recipe.output_dir), recipe.variants[name]
    twins = [
        other
        for other, args in recipe.variants.items()
        if (args.sft, args.minutes_of_ours) == (variant.sft, variant.minutes_of_ours)
    ]
    sft_place, place = folder / twins[0], folder / name
    sft = resolve(
        SftRecipe, recipe.sft.recipe, node_at(recipe, "sft", "set"), node_at(recipe, "variants", twins[0], "sft"),
        {
            "data": {"train_file": str(folder / "rows/train.jsonl"), "eval_file": str(folder / "rows/eval.jsonl")},
            "training": {"output_dir": str(sft_place / "sft"), "max_steps": steps[0], "seed": recipe.seed},
        },
    )  # fmt: skip
    dpo = resolve(
        DpoRecipe, recipe.dpo.recipe, node_at(recipe, "dpo", "set"), node_at(recipe, "variants", name, "dpo"),
        {
            "model_name_or_path": str(sft_place / "sft"),
            "data": {"train_file": str(folder / "pairs/train.jsonl"), "eval_file": str(folder / "pairs/eval.jsonl")},
            "training": {"output_dir": str(place / "dpo"), "max_steps": steps[1], "seed": recipe.seed},
        },
    )  # fmt: skip
    first = Stage(f"{twins[0]}/sft", "run_sft", sft, sft_place / "sft.yaml", sft_place / "sft", recipe.sft.accelerate_config)
    launch = recipe.dpo.accelerate_config
    return first, Stage(f"{name}/dpo", "run_dpo", dpo, place / "dpo.yaml", place / "dpo", launch)


def longer(steps: tuple[int, int], took: float, ours: float) -> tuple[int, int]:
    """Both stages' steps stretched so that they take as long as ours did; never fewer steps. Seconds in, steps out.

    Rounded up to a tenth of the steps: the other way gets the rest, and a second of noise does not ask for another run.
    """
    factor = max(1.0, ceil(round(10 * ours / took, 3)) / 10) if took else 1.0
    return round(steps[0] * factor), round(steps[1] * factor)


def evaluation(
    recipe: CompareRecipe, ours: Ours, variants: Mapping[str, tuple[Stage[SftRecipe], Stage[DpoRecipe]]]
) -> Stage[EvaluateRecipe]:
    """Ours and every variant, after SFT and after DPO, on the evaluation's prompts."""
    folder = Path(recipe.output_dir)
    resolved = resolve(EvaluateRecipe, recipe.evaluate.recipe, node_at(recipe, "evaluate", "set"))
    models = {"ours-sft": ours.start, "ours": ours.result}
    for name, (sft, dpo) in variants.items():
        if str(sft.folder) not in models.values():
            models[f"{name}-sft"] = str(sft.folder)
        models[name] = str(dpo.folder)
    resolved = replace(resolved, models=models, output_dir=str(folder / "evaluation"))
    launch = recipe.evaluate.accelerate_config
    return Stage("evaluation", "evaluate", resolved, folder / "evaluate.yaml", folder / "evaluation", launch)


def main() -> None:
    recipe = load_recipe(CompareRecipe, sys.argv[1:], description=__doc__ or "")
    check_inputs(recipe)
    folder, scripts = Path(recipe.output_dir), Path(__file__).parents[1] / "scripts"
    if not (Path(load_recipe(AlignRecipe, [recipe.align]).output_dir) / "best.json").is_file():
        code = subprocess.run([sys.executable, str(scripts / "align.py"), recipe.align], check=False).returncode
        if code:
            raise KeyboardInterrupt if code == 130 else UserError("our own run ended badly; see above", file=recipe.align)
    ours = read_ours(recipe)
    steps = (ours.sft_steps, ours.dpo_steps)
    for name in recipe.variants:
        plan_variant(recipe, name, steps)  # mistakes are reported before anything is trained
    variants: dict[str, tuple[Stage[SftRecipe], Stage[DpoRecipe]]] = {}
    seconds: dict[str, float] = {}
    words: dict[str, str] = {}
    with locked_folder(folder):
        counts = write_data(recipe, ours.pairs)
        sft_seconds = 0.0  # of ours: as long as the other way's SFT of as many steps
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
    show(lines, "Ours and the alignment-handbook's way, greedy", Console())
    print(f"saved {folder / 'compare.md'}")


if __name__ == "__main__":
    run_script(main)
