"""What the pairs look like, before anything is trained on them: report.md, report.json and a table in the terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from statistics import mean, median
from typing import Any

from rich.console import Console
from rich.table import Table

from align_ko.records import PreferencePair, atomic_write, write_json


def split(pairs: list[PreferencePair], eval_share: float) -> tuple[list[PreferencePair], list[PreferencePair]]:
    """Train and eval by the hash of the prompt, so that a prompt never stands on both sides; at least one pair in eval."""
    ordered = sorted(pairs, key=lambda pair: pair.id)
    held_out = max(1, round(len(ordered) * eval_share))
    return ordered[held_out:] or ordered, ordered[:held_out]


def write_report(folder: Path, pairs: list[PreferencePair], dropped: Counter[str], prompts: int) -> dict[str, Any]:
    """Write report.json and report.md; returns the numbers."""
    chosen = [len(pair.chosen[0]["content"]) for pair in pairs]
    rejected = [len(pair.rejected[0]["content"]) for pair in pairs]
    summary: dict[str, Any] = {
        "prompts": prompts,
        "pairs": len(pairs),
        "origin": dict(Counter(pair.origin for pair in pairs)),
        "chosen_by": dict(Counter(pair.chosen_by for pair in pairs)),
        "rejected_faults": dict(Counter(fault for pair in pairs for fault in pair.rejected_faults)),
        "rejected_unfinished": sum(not pair.rejected_finished for pair in pairs),
        "median_characters": {"chosen": median(chosen), "rejected": median(rejected)},
        "mean_length_gap": round(mean(c - r for c, r in zip(chosen, rejected, strict=True)), 1),
        "prompts_without_a_pair": dict(dropped),
    }
    write_json(folder / "report.json", summary)
    with atomic_write(folder / "report.md") as out:
        out.write(f"# Preference pairs\n\n{len(pairs)} pairs from {prompts} prompts.\n\n")
        for key, value in summary.items():
            out.write(f"- {key}: {value}\n")
        out.write("\n## Twenty pairs to read\n")
        for pair in pairs[:: max(1, len(pairs) // 20)][:20]:
            out.write(f"\n### {pair.prompt[-1]['content']}\n\n{pair.origin}; rejected for {pair.rejected_faults}\n")
            out.write(f"\n**chosen** ({pair.chosen_by}, {pair.chosen_score}): {pair.chosen[0]['content']}\n")
            out.write(f"\n**rejected** ({pair.rejected_by}, {pair.rejected_score}): {pair.rejected[0]['content']}\n")
    return summary


def print_report(summary: dict[str, Any], pairs: list[PreferencePair], console: Console | None = None) -> None:
    """The numbers as a table, and one pair to read."""
    table = Table(title=f"{summary['pairs']} pairs from {summary['prompts']} prompts", show_header=False)
    for key in ("origin", "chosen_by", "rejected_faults", "median_characters", "prompts_without_a_pair"):
        value = summary[key]
        table.add_row(key, ", ".join(f"{name} {count}" for name, count in value.items()))
    console = console or Console()
    console.print(table)
    pair = pairs[0]
    console.print(f"질문   {pair.prompt[-1]['content']}", markup=False)
    console.print(f"선택   {pair.chosen[0]['content']}", style="green", markup=False)
    console.print(f"거부   {pair.rejected[0]['content']}", style="red", markup=False)
