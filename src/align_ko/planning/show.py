"""A plan as tables in the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from align_ko.planning.batches import WAYS
from align_ko.planning.devices import GPUS, THIS

_PARTS = {
    "weights": "weights",
    "adapter": "adapter",
    "gradients": "gradients",
    "optimizer": "optimiser",
    "activations": "activations",
    "head": "LM head, beyond these",
    "reference": "reference model",
    "communication": "gathering, buckets",
    "runtime": "runtime",
}


def show_plan(plan: dict[str, Any], console: Console | None = None) -> None:
    """Print what make_plan found."""
    console = console or Console(width=118)
    counts = plan["parameters"]
    console.print(f"[bold]plan of {plan['recipe']}[/bold]: {plan['model']}, {plan['method']}", highlight=False)
    console.print(
        f"parameters {counts['base']:,} ({counts['linear']:,} in the blocks' linear layers), trained {counts['trained']:,} "
        f"({counts['trained_share']:.2%} of all)",
        highlight=False,
    )
    if "data" in plan:
        _show_data(plan["data"], console)
        console.print(_batching(plan))
    for table in _memory(plan["memory"]):
        console.print(table)
    if "hours" in plan:
        _show_hours(plan, console)
    for note in plan["notes"]:
        console.print(f"note: {note}", highlight=False, markup=False)


def _show_data(data: dict[str, Any], console: Console) -> None:
    console.print(
        f"{data['rows']:,} rows, {data['tokens'] / 1e6:,.1f} M tokens ({data['counted']}); {data['trained_share']:.0%} of them "
        f"trained; median {data['median']}, 95 % below {data['p95']}, longest {data['longest']}; {data['too_long']:,} rows "
        "over max_length left out whole",
        highlight=False,
        markup=False,
    )


def _batching(plan: dict[str, Any]) -> Table:
    table = Table("batching", "real tokens", "padding", "steps", "operations", title_justify="left")
    for row in plan["batching"]:
        mark = " ← recipe" if row["recipe"] else ""
        table.add_row(
            WAYS[row["way"]] + mark, f"{row['real_share']:.1%}", f"{1 - row['real_share']:.1%}", f"{row['steps']:,}",
            f"{row['operations']:.2e}", style="bold" if row["recipe"] else "",
        )  # fmt: skip
    return table


def _memory(rows: list[dict[str, Any]]) -> list[Table]:
    one = [row for row in rows if row["sharding"] == "one GPU"]
    batch = f"{one[0]['rows']} sequences × {one[0]['tokens']} tokens, the longest batch"
    parts = Table(f"GiB on one device ({batch})", "checkpointing", "without")
    for key, label in _PARTS.items():
        values = [row["gib"][key] for row in one]
        if any(values):
            parts.add_row(label, *(f"{value:.2f}" for value in values))
    parts.add_row("together", *(f"{row['total_gib']:.1f}" for row in one), style="bold")
    if len(rows) == len(one):
        return [parts]
    spread = Table("GiB per GPU", "GPUs", "checkpointing", "without", "fits (with checkpointing)")
    for row in (row for row in rows if row["checkpointing"]):
        other = next(o for o in rows if not o["checkpointing"] and (o["sharding"], o["gpus"]) == (row["sharding"], row["gpus"]))
        fits = [gpu.name for gpu in GPUS.values() if row["total_gib"] <= gpu.gib]
        name = {"one GPU": "one GPU, or DDP (whole on each)"}.get(row["sharding"], row["sharding"])
        if row["sharding"] == "ZeRO-3" and one[0]["four_bit"]:
            name += ", bfloat16 weights"
        numbers = f"{row['total_gib']:.1f}", f"{other['total_gib']:.1f}"
        spread.add_row(name, str(row["gpus"]) if row["sharding"] != "one GPU" else "any", *numbers, " ".join(fits) or "none")
    return [parts, spread]


def _show_hours(plan: dict[str, Any], console: Console) -> None:
    done = plan["operations"]
    console.print(
        f"{plan['steps']:,} steps, {plan['evaluations']} evaluations; operations: training {done['training']:.2e}, evaluation "
        f"{done['evaluation']:.2e}",
        highlight=False,
    )
    if plan["hours"][0]["gpu"] == THIS:
        [row] = plan["hours"]
        whole, scored = row["training"] * 60, row["evaluation"] * 60
        console.print(f"this machine, measured: training {whole:.1f} minutes, evaluation {scored:.1f} minutes", highlight=False)
        return
    ways = [way for way in plan["hours"][0]["training_by_way"] if plan["stage"] == "sft" or way != "packing"]
    table = Table(f"hours at {plan['utilisation']:.0%} of peak", "fits", "training", "evaluation", "in all")
    for way in ways:
        table.add_column({"max_length": "if padded to max_length", "group_by_length": "if grouped"}.get(way, f"if {way}"))
    for row in plan["hours"]:
        hours = [
            row["training"],
            row["evaluation"],
            row["training"] + row["evaluation"],
            *(row["training_by_way"][w] for w in ways),
        ]
        fits = "yes" if row["fits"] else "no"
        table.add_row(row["gpu"], fits, *(f"{hour:.1f}" for hour in hours), style="bold" if row["chosen"] else "")
    console.print(table)
    console.print(
        "one GPU; several: divide by their number at best. The utilisation is assumed (--plan_utilisation), see docs/plan.md"
    )
