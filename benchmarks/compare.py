"""Another way of training beside ours: how long ours trained, and the stages of each variant of the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import Any

from align_ko.errors import UserError
from align_ko.pipeline.plan import DISTILLED, INTERPOLATED
from align_ko.pipeline.stages import MANIFEST, Stage, node_at, resolve, seconds_in
from align_ko.recipe import AlignRecipe, CompareRecipe, DataRecipe, DpoRecipe, EvaluateRecipe, SftRecipe, load_recipe
from align_ko.records import read_jsonl, write_jsonl
from off_policy import off_policy_pairs, raw_conversations, sft_rows


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
        + sum(count_rows(_json(model / MANIFEST)["recipe"]["data"]["train_file"]) for model in distilled),
        sum(seconds_in(place) for place in spent),
    )


def steps_of(folder: Path) -> int:
    """Optimiser steps of a finished training, from its manifest and the rows it read (one process)."""
    manifest = _json(folder / MANIFEST)
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


def plan_variant(recipe: CompareRecipe, name: str, steps: tuple[int, int]) -> tuple[Stage, Stage]:
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
    first = Stage(
        f"{twins[0]}/sft", "run_sft", sft, sft_place / "sft.yaml", sft_place / "sft", (), recipe.sft.accelerate_config
    )
    launch = recipe.dpo.accelerate_config
    return first, Stage(f"{name}/dpo", "run_dpo", dpo, place / "dpo.yaml", place / "dpo", (first.folder,), launch)


def longer(steps: tuple[int, int], took: float, ours: float) -> tuple[int, int]:
    """Both stages' steps stretched so that they take as long as ours did; never fewer steps. Seconds in, steps out.

    Rounded up to a tenth of the steps: the other way gets the rest, and a second of noise does not ask for another run.
    """
    factor = max(1.0, ceil(round(10 * ours / took, 3)) / 10) if took else 1.0
    return round(steps[0] * factor), round(steps[1] * factor)


def evaluation(recipe: CompareRecipe, ours: Ours, variants: Mapping[str, tuple[Stage, Stage]]) -> Stage:
    """Ours and every variant, after SFT and after DPO, on the evaluation's prompts."""
    folder = Path(recipe.output_dir)
    resolved = resolve(EvaluateRecipe, recipe.evaluate.recipe, node_at(recipe, "evaluate", "set"))
    models, after = {"ours-sft": ours.start, "ours": ours.result}, [Path(ours.start), Path(ours.result)]
    for name, (sft, dpo) in variants.items():
        if str(sft.folder) not in models.values():
            models[f"{name}-sft"] = str(sft.folder)
        models[name] = str(dpo.folder)
        after += [sft.folder, dpo.folder]
    resolved = replace(resolved, models=models, output_dir=str(folder / "evaluation"))
    launch = recipe.evaluate.accelerate_config
    return Stage("evaluation", "evaluate", resolved, folder / "evaluate.yaml", folder / "evaluation", tuple(after), launch)
