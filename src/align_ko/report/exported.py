"""What the check of an export found, as a table and as faults."""

from __future__ import annotations

from typing import TYPE_CHECKING

from align_ko.errors import visible
from align_ko.report.tables import terminal_table

if TYPE_CHECKING:
    from rich.table import Table

    from align_ko.evaluation.exported import ExportCheck


def table_of(check: ExportCheck) -> Table:
    """Engine by engine: equal answers, natural share, NLL of the references, how near to a tie the first differences are."""
    count = check.engines[0].result["n"]
    columns = ("engine", "equal %", "natural %", "drop", "NLL", "differ at (nats, median)")
    table = terminal_table(f"{count} prompts, greedy; equal: same text, same end", columns, (0, 1, 0, 1))
    for engine in check.engines:
        nll, margin = engine.result["reference_nll"], engine.margin
        table.add_row(
            visible(engine.name),
            f"{100 * engine.equal:.1f}",
            f"{100 * engine.result['natural']:.1f}",
            f"{engine.drop:.1f}",
            "-" if nll is None else f"{nll:.3f}",
            "-" if margin is None else f"{margin:.3f}",
        )
    return table


def faults_of(check: ExportCheck, max_drop: float) -> list[str]:
    """Why this export should not leave the house; empty where nothing was found."""
    faults = list(check.template_faults)
    for engine in check.engines:
        if engine.name == "export" and engine.equal < 1:
            faults.append(f"export: {100 * (1 - engine.equal):.1f} % of its answers are not the checkpoint's")
        if engine.drop > max_drop:
            share = f"{100 * engine.result['natural']:.1f} % natural"
            faults.append(f"{engine.name}: {share}, {engine.drop:.1f} points below the checkpoint, {max_drop:g} allowed")
    return faults
