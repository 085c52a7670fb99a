"""What a run will cost, before it starts: parameters, memory per GPU, tokens, steps, operations, hours.

`make_plan` gives plain numbers (one dict, also what `--plan_json` writes); show.py prints them.
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, replace
from typing import Any

from align_ko.errors import UserError
from align_ko.planning import cost
from align_ko.planning.architecture import Parameters, count_parameters, load_config
from align_ko.planning.batches import WAYS, Batch, epoch_batches, real_share
from align_ko.planning.devices import GPUS, THIS, Gpu, find_gpu
from align_ko.planning.flags import PlanFlags
from align_ko.planning.memory_table import memory_table
from align_ko.planning.run_settings import RunSettings, run_settings
from align_ko.planning.tokens import Lengths, pair_lengths, sft_lengths
from align_ko.recipe import DpoRecipe, ModelArgs, SftRecipe


def make_plan(recipe: SftRecipe | DpoRecipe, flags: PlanFlags) -> dict[str, Any]:
    """The plan of a recipe. Reads the model's config, the tokenizer if it is at hand, and the data file if it is there."""
    if flags.gpu != THIS:
        find_gpu(flags.gpu)
    run = run_settings(recipe)
    model = run.model
    config = load_config(model.model_name_or_path, run.recipe_file, model.model_revision, model.trust_remote_code)
    parameters = count_parameters(config, run.model)
    notes = list(run.notes)
    tokenizer = _tokenizer_at_hand(run.model, recipe.data.chat_template)
    train = _lengths(run, recipe.data.train_file, tokenizer, notes)
    plan: dict[str, Any] = {
        "recipe": run.recipe_file,
        "stage": run.stage,
        "model": run.model.model_name_or_path,
        "method": _method_name(run),
        "parameters": {**asdict(parameters), "base": parameters.base, "trained_share": parameters.trained_share},
        "notes": notes,
    }
    plan["memory"] = memory_table(run, config, parameters, train, on_this_machine=flags.gpu == THIS)
    if train:
        held_out = _lengths(run, recipe.data.eval_file, tokenizer, []) if train.real_file else None
        plan["data"] = _data(recipe.data.train_file, train)
        plan.update(_work(run, config, parameters, train, held_out, flags, plan["memory"], notes))
        if recipe.gate.prompts and plan["evaluations"]:
            asked = f"the greedy gate's {recipe.gate.prompts} prompts {plan['evaluations'] + 1} times"
            notes.append(f"not in the hours: {asked}, at most {recipe.gate.max_seconds:g} s each")
    return plan


def _method_name(run: RunSettings) -> str:
    if not run.model.use_peft:
        return "full fine-tuning"
    kind = "DoRA" if run.model.use_dora else "rsLoRA" if run.model.use_rslora else "LoRA"
    return f"{kind} r {run.model.lora_r}" + (" on 4-bit weights" if run.model.load_in_4bit else "")


def _tokenizer_at_hand(model: ModelArgs, template: str) -> Any:
    """The tokenizer, if no download is needed for it (command.py keeps the hub out)."""
    from align_ko.models.load import load_tokenizer, training_source

    try:
        return load_tokenizer(training_source(model), template)
    except (OSError, ValueError, UserError):
        return None


def _lengths(run: RunSettings, file: str, tokenizer: Any, notes: list[str]) -> Lengths | None:
    if run.stage == "sft":
        found = sft_lengths(file, tokenizer, run.value("max_length"))
        if not found.real_file:
            notes.append(found.how)
        return found
    if not os.path.isfile(file):
        notes.append(f"{file} is not there: memory is planned for pairs of max_length, steps and hours are not")
        return None
    return pair_lengths(file, tokenizer, run.value("max_length"))


def _data(file: str, lengths: Lengths) -> dict[str, Any]:
    sizes = sorted(row.longest for row in lengths.rows)
    return {
        "file": file,
        "counted": lengths.how,
        "rows": len(lengths.rows),
        "too_long": lengths.too_long,
        "tokens": sum(row.real for row in lengths.rows),
        "trained_share": lengths.trained_share,
        "median": sizes[len(sizes) // 2] if sizes else 0,
        "p95": sizes[int(len(sizes) * 0.95)] if sizes else 0,
        "longest": sizes[-1] if sizes else 0,
    }


def _work(
    run: RunSettings, config: Any, parameters: Parameters, train: Lengths, held_out: Lengths | None, flags: PlanFlags,
    memory: list[dict[str, Any]], notes: list[str],
) -> dict[str, Any]:  # fmt: skip
    """Batches by way, steps, evaluations, operations, hours."""
    batch, parts = run.value("per_device_train_batch_size"), run.value("gradient_accumulation_steps")
    max_length = run.value("max_length") or max(row.longest for row in train.rows)
    multiple = run.pad_to_multiple_of
    by_way = {way: epoch_batches(train.rows, way, batch, batch * parts, max_length, multiple=multiple) for way in WAYS}
    if run.stage == "dpo":
        del by_way["packing"]
    epochs = float(run.value("num_train_epochs"))
    method = cost.Method(
        run.checkpointing,
        run.model.load_in_4bit,
        run.flash or run.way == "packing",
        run.reference_passes,
    )

    def of_way(way: str, batches: list[Batch]) -> tuple[int, cost.Work]:
        steps = math.ceil(math.ceil(len(batches) / parts) * epochs)
        wanted = run.value("max_steps")
        wanted = wanted if wanted and wanted > 0 else steps
        flash = replace(method, flash=method.flash or way == "packing")
        return wanted, cost.train_work(batches, config, parameters, flash).times(epochs * wanted / steps)

    ways = {way: of_way(way, batches) for way, batches in by_way.items()}
    steps, training = ways[run.way]
    evaluations = _evaluations(run, steps, epochs)
    evaluation, held_out_batches = cost.Work(0.0, 0), []
    if evaluations and held_out and held_out.rows:
        size = run.value("per_device_eval_batch_size")
        held_out_batches = epoch_batches(
            held_out.rows, "group_by_length" if run.way != "random" else "random", size, size, max_length, multiple=multiple
        )
        judged = replace(method, reference_passes=0) if run.distilled else method  # by the loss on the rows, without a teacher
        evaluation = cost.forward_work(held_out_batches, config, parameters, judged).times(evaluations)
    elif evaluations:
        notes.append("evaluations are not in the hours: no eval file to count")
    if run.stage == "dpo" and run.training.get("precompute_ref_log_probs"):
        training = training + cost.forward_work(by_way[run.way], config, parameters, method)
    result: dict[str, Any] = {
        "batching": [
            {"way": way, "real_share": real_share(batches), "micro_batches": len(batches), "steps": ways[way][0],
             "operations": ways[way][1].operations, "recipe": way == run.way}
            for way, batches in by_way.items()
        ],
        "steps": steps,
        "evaluations": evaluations,
        "operations": {"training": training.operations, "evaluation": evaluation.operations},
        "utilisation": flags.utilisation,
        "hours": [],
    }  # fmt: skip
    if flags.gpu == THIS:
        result["hours"].append(_measured(run, config, parameters, by_way[run.way], held_out_batches, steps, evaluations, parts))
        return result
    whole = {row["checkpointing"]: row["total_gib"] for row in memory if row["sharding"] == "one GPU"}
    for gpu in GPUS.values():

        def hours(work: cost.Work, gpu: Gpu = gpu) -> float:
            return cost.seconds_on(gpu, work, parameters, flags.utilisation, method.four_bit) / 3600

        result["hours"].append(
            {
                "gpu": gpu.name,
                "chosen": gpu is find_gpu(flags.gpu),
                "training": hours(training),
                "evaluation": hours(evaluation),
                "training_by_way": {way: hours(work) for way, (_, work) in ways.items()},
                "gib": gpu.gib,
                "fits": whole[method.checkpointing] <= gpu.gib,
                "source": gpu.source,
            }
        )
    if evaluation.operations > 0.25 * training.operations:
        share = evaluation.operations / (training.operations + evaluation.operations)
        notes.append(
            f"{evaluations} evaluations of {len(held_out.rows) if held_out else 0} rows are {share:.0%} of the work: "
            "a larger eval_steps or a smaller eval file makes the run shorter"
        )
    return result


def _evaluations(run: RunSettings, steps: int, epochs: float) -> int:
    strategy = str(run.value("eval_strategy"))
    if strategy == "steps":
        every = run.value("eval_steps") or run.value("logging_steps")
        return int(steps // (every if every >= 1 else max(1, math.ceil(every * steps))))
    return math.ceil(epochs) if strategy == "epoch" else 0


def _measured(
    run: RunSettings, config: Any, parameters: Parameters, batches: list[Batch], held_out: list[Batch], steps: int,
    evaluations: int, parts: int,
) -> dict[str, Any]:  # fmt: skip
    """Hours on this machine; DPO's reference passes as forwards beside each batch."""
    from align_ko.planning.measured import measure_pace

    training = {**run.training, "gradient_checkpointing": run.checkpointing}
    pace = measure_pace(config, run.model, batches, training, parameters.base)
    epoch = pace.seconds(batches) * (1 + pace.forward * run.reference_passes)
    seconds = epoch * steps * parts / len(batches)
    if run.training.get("precompute_ref_log_probs"):
        seconds += pace.seconds(batches) * pace.forward
    scored = pace.seconds(held_out) * pace.forward * (1 + run.reference_passes) * evaluations
    return {"gpu": THIS, "chosen": True, "training": seconds / 3600, "evaluation": scored / 3600, "pace": asdict(pace)}
