"""A plan as tables in the terminal: `run_sft.py RECIPE --plan`, which starts nothing. Without torch at import time.

A training script begins here, with the recipe of a run or with a plan of it."""

from __future__ import annotations

import os
import sys
import time
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.table import Table

from align_ko.errors import is_first_process, visible
from align_ko.planning.settings import take_plan_flags
from align_ko.process import lock_folder, quiet_known_noise
from align_ko.recipe import DpoRecipe, GrpoRecipe, SftRecipe, check_inputs, load_recipe

if TYPE_CHECKING:
    from align_ko.planning.memory import Disk, MemoryRow
    from align_ko.planning.plan import Costs, Plan

T = TypeVar("T", SftRecipe, DpoRecipe, GrpoRecipe)
_PARTS = {
    "weights": "weights", "adapter": "adapter", "gradients": "gradients", "optimizer": "optimiser",
    "activations": "activations", "head": "LM head, beyond these", "reference": "reference model",
    "communication": "gathering, buckets", "runtime": "runtime",
}  # fmt: skip
_WAYS = {"max_length": "padded to max_length", "group_by_length": "grouped"}


def begin_training(recipe_class: type[T], description: str | None) -> T | None:
    """The recipe on a training script's command line, its inputs checked and its output folder locked; None after `--plan`.
    `description`: for `--help`."""
    quiet_known_noise()
    words = sys.argv[1:]
    if "--plan" in words:
        plan_command(recipe_class, words)
        return None
    recipe = load_recipe(recipe_class, words, description=description or "")
    check_inputs(recipe)
    lock_folder(recipe.training["output_dir"])  # before imports that take seconds: align.py looks for this lock
    return recipe


def plan_command(recipe_class: type[SftRecipe] | type[DpoRecipe] | type[GrpoRecipe], words: list[str]) -> None:
    """Plan the recipe named in `words` (the script's arguments). Of several launched processes the first one does it."""
    flags, rest = take_plan_flags(words)
    recipe = load_recipe(recipe_class, rest)
    if not is_first_process():
        return
    os.environ["HF_HUB_OFFLINE"] = "1"  # read when the hub's library is imported, so before anything else
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    begin = time.perf_counter()

    from align_ko.planning.plan import make_plan
    from align_ko.records import write_json

    plan = make_plan(recipe, flags)
    _show_plan(plan, Console(width=118, highlight=False))
    if flags.plan_json:
        write_json(flags.plan_json, plan.to_json())
        print(f"wrote {flags.plan_json}")
    print(f"planned in {time.perf_counter() - begin:.0f} s; nothing was downloaded or started")


def _show_plan(plan: Plan, console: Console) -> None:
    counts = plan.parameters
    console.print(
        f"plan of {visible(plan.recipe or 'recipe')}: {visible(plan.model)}, {plan.method}", style="bold", markup=False
    )
    console.print(
        f"parameters {counts['base']:,} ({counts['linear']:,} in the blocks' linear layers), trained {counts['trained']:,} "
        f"({counts['trained_share']:.2%} of all)"
    )
    if data := plan.data:
        console.print(
            f"{data.rows:,} rows, {data.tokens / 1e6:,.1f} M tokens ({data.counted}); {data.trained_share:.0%} of "
            f"them trained; median {data.median}, 95 % below {data.p95}, longest {data.longest}; "
            f"{data.too_long:,} rows over max_length left out whole",
            markup=False,
        )
    if plan.costs:
        from align_ko.planning.lengths import BATCHINGS

        table = Table("batching", "real tokens", "padding", "steps", "operations", title_justify="left")
        for row in plan.costs.batching:
            label, style = (f"{BATCHINGS[row.way]} ← recipe", "bold") if row.recipe else (BATCHINGS[row.way], "")
            shares = f"{row.real_share:.1%}", f"{1 - row.real_share:.1%}"
            table.add_row(label, *shares, f"{row.steps:,}", f"{row.operations:.2e}", style=style)
        console.print(table)
    _show_memory(plan.memory, console)
    _show_disk(plan.disk, console)
    if plan.costs:
        _show_hours(plan.costs, console)
    for note in plan.notes:
        console.print(f"note: {note}", markup=False)


def _show_memory(rows: list[MemoryRow], console: Console) -> None:
    """By part on one device; then for every way to spread the model over GPUs."""
    from align_ko.planning.devices import GPUS

    ways = {(row.sharding, row.gpus): [each for each in rows if (each.sharding, each.gpus) == (row.sharding, row.gpus)]
            for row in rows}  # with checkpointing, without  # fmt: skip
    pair, batch = ways["one GPU", 1], f"{rows[0].rows} sequences × {rows[0].tokens} tokens, the longest batch"
    table = Table(f"GiB on one device ({batch})", "checkpointing", "without")
    for key, label in _PARTS.items():
        if any(row.gib[key] for row in pair):
            table.add_row(label, *(f"{row.gib[key]:.2f}" for row in pair))
    table.add_row("together", *(f"{row.total_gib:.1f}" for row in pair), style="bold")
    console.print(table)
    if len(ways) == 1:
        return
    table = Table("GiB per GPU", "GPUs", "checkpointing", "without", "fits (with checkpointing)")
    for (name, gpus), pair in ways.items():
        label = "one GPU, or DDP (whole on each)" if name == "one GPU" else name
        label += ", bfloat16 weights" if name == "ZeRO-3" and rows[0].four_bit else ""
        fits = " ".join(gpu.name for gpu in GPUS.values() if pair[0].total_gib <= gpu.gib) or "none"
        table.add_row(label, "any" if name == "one GPU" else str(gpus), *(f"{row.total_gib:.1f}" for row in pair), fits)
    console.print(table)


def _show_disk(disk: Disk, console: Console) -> None:
    checkpoint, result, merged, total, free = (
        f"{size / 2**30:.2f} GiB" for size in (disk.checkpoint, disk.result, disk.merged, disk.total, disk.free)
    )
    checkpoints, most = f"{disk.count} checkpoints of {checkpoint}", f"at most {total} at once"
    if disk.count is None:
        checkpoints, most = f"{checkpoint} a checkpoint, and none is removed", f"{total} beside them"
    merged = f"; merged weights {merged}" if disk.merged else ""
    console.print(f"disk: {checkpoints}; result {result}{merged}; {most}", markup=False)
    console.print(f"      {visible(disk.folder)}: {free} free", markup=False)
    if disk.total > disk.free:
        console.print("warning: the run does not fit on that disk", style="bold")


def _show_hours(costs: Costs, console: Console) -> None:
    from align_ko.planning.devices import THIS

    done, hours = costs.operations, costs.hours
    console.print(
        f"{costs.steps:,} steps, {costs.evaluations} evaluations; operations: training {done['training']:.2e}, evaluation "
        f"{done['evaluation']:.2e}"
    )
    if hours[0].gpu == THIS:
        whole, scored = hours[0].training * 60, hours[0].evaluation * 60
        drawn = f", generation {60 * hours[0].generation:.1f} minutes" if hours[0].generation else ""
        console.print(f"this machine, measured: training {whole:.1f} minutes, evaluation {scored:.1f} minutes{drawn}")
        return
    drawn_too = ["generation"] if hours[0].generation else []
    columns = (f"if {_WAYS.get(way, way)}" for way in hours[0].training_by_way)
    table = Table("hours, computed", "of peak", "fits", "training", *drawn_too, "evaluation", "in all", *columns)
    for row in hours:
        parts = row.training, *(row.generation for _ in drawn_too), row.evaluation
        numbers = *parts, sum(parts), *row.training_by_way.values()
        fits = "yes" if row.fits else "no"
        table.add_row(
            row.gpu, f"{row.of_peak:.0%}", fits, *(f"{hour:.1f}" for hour in numbers), style="bold" if row.chosen else ""
        )
    console.print(table)
    console.print(
        "one GPU; several: divide by their number at best. GPU hours are computed, not measured: the share of the peak rate is "
        "other people's (--plan_utilisation; docs/plan.md)"
    )
