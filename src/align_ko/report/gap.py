"""The grid of a decoding gap: gap.md, and report.html with a heat map of every model."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from align_ko.evaluation.scores import GREEDY_SETTING, SPLITS, Gap, Result, Summary
from align_ko.recipe import GridArgs
from align_ko.records import atomic_writes
from align_ko.report.page import render
from align_ko.report.tables import MEASURES

FULL = 0.2  # from so much better or worse than greedy on a cell has its full colour


class Cell(NamedTuple):
    """One setting: its natural share, that minus greedy's, and the strength of its colour in percent."""

    result: Result
    lead: float
    strength: float


class HeatMap(NamedTuple):
    """One model. `rows`: (temperature, repetition penalty, a cell for each top_p)."""

    greedy: Result
    best: Result
    gap: Gap
    rows: list[tuple[float, float, list[Cell]]]


def write_gap(folder: Path, summary: Summary, grid: GridArgs) -> str:
    """Write gap.md and report.html, and return the table of gap.md."""
    table = grid_table(summary, grid)
    page = render("gap.html.jinja", grid=grid, maps=heat_maps(summary, grid), splits=SPLITS)
    with atomic_writes(folder / "gap.md", folder / "report.html") as (markdown, html):
        markdown.write(f"# Decoding gap\n\n{table}")
        html.write(page)
    return table


def grid_table(summary: Summary, grid: GridArgs) -> str:
    """Markdown: one table per model, a row per temperature and penalty, a column per top_p, share that is natural in form in %.

    The best cell is bold. Below: greedy, and the gap in points, plain and with the cell chosen on other prompts.
    """
    measures = {measure.key: measure for measure in MEASURES}
    return render("grid.md.jinja", grid=grid, maps=heat_maps(summary, grid), splits=SPLITS, measures=measures) + "\n"


def heat_maps(summary: Summary, grid: GridArgs) -> dict[str, HeatMap]:
    """Of every model with answers under greedy and sampling."""
    results = {(result["model"], result["setting"]): result for result in summary["results"]}
    maps = {}
    for model, gap in summary["decoding_gap"].items():
        greedy = results[model, GREEDY_SETTING]
        rows = [
            (t, r, list(_cells([results[model, f"t{t:g}-p{p:g}-r{r:g}"] for p in grid.top_p], greedy["natural"])))
            for t in grid.temperature
            for r in grid.repetition_penalty
        ]
        maps[model] = HeatMap(greedy, results[model, gap["setting"]], gap, rows)
    return maps


def _cells(results: Iterable[Result], greedy: float) -> Iterable[Cell]:
    for result in results:
        lead = result["natural"] - greedy
        yield Cell(result, lead, round(100 * min(abs(lead) / FULL, 1), 1))
